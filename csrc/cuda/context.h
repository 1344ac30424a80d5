// The Normalization-Attention module (fusednorm/engine/context.py) kept on the chip: one launch that reads x (backward:
// dy and x) once, and writes the result from shared memory: 2 units of traffic forward, 3 backward.
//
// Each block of a sample has some of its channels (sample.h). It is for maps whose standardization, if there is one, is
// known beforehand, z = scale*(x - mu) + shift for each channel.
#pragma once

#include <cstdint>

#include "../common/context_arguments.h"
#include "../common/position_arguments.h"
#include "sample.h"

namespace fusednorm {

struct ContextArgs : Kept {
  Act act;
  Similarity similarity;
  Kind kind;  // f of the position sums
  bool unbiased;
  float eps;
  Operand x, residual, dy, y, g;                    // y: y or dx; g: dresidual, null where not asked for
  bool dy_dense;                                    // samples without gaps, in x's order, as all others are
  const float *mu, *scale, *shift, *gain, *offset;  // C, the first three null together: z = x;  1
  // Forward's results, which backward reads: dense N×C and, null where there is no similarity, N×S (and N×C).
  // pooled = sum_s p (x - center), center = float(mean); y = act(outer_scale*(x - center) + outer_shift + residual)
  double* mean;
  float *var, *outer_scale, *outer_shift;
  float *t, *p, *pooled;
  uint8_t* mask;
  // Backward's: N×C, null where mu is; 2×N, dgain and doffset of each sample
  float *dscale, *dshift;
  double* dgate;
  // What blocks tell each other: [sample][block][position]; backward [sample][block][2] too
  double* exchange;
  double* gate_exchange;
};

// fusednorm/engine/whole_context.py reckons with the same numbers: x, or x and g, and as many rows.
FUSEDNORM_BOTH constexpr Room context_room(int maps) { return {maps, maps, 10}; }

void context_forward(const ContextArgs& k, const Stream& s);
void context_backward(const ContextArgs& k, const Stream& s);

}  // namespace fusednorm
