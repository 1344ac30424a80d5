// The Normalization-Attention module (fusednorm/engine/context.py) kept on the chip: one launch that reads x (backward:
// dy and x) once, and writes the result from shared memory: 2 units of traffic forward, 3 backward.
//
// A cluster of up to 8 blocks keeps a sample, each block some of its channels; what is summed over all channels goes
// through L2, in the blocks' order. It is for maps whose standardization, if there is one, is known beforehand,
// z = scale*(x - mu) + shift for each channel; which samples fit is fusednorm/engine/whole_context.py's to say.
#pragma once

#include <cstdint>

#include "../common/context_arguments.h"
#include "../common/position_arguments.h"
#include "launch.h"

namespace fusednorm {

struct ContextArgs {
  Shape shape;
  Act act;
  Similarity similarity;
  bool unbiased;
  float eps;
  int blocks;                                       // that keep a sample
  int channels;                                     // of a block; the last may have fewer
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
  float* exchange;
  double* gate_exchange;
};

// fusednorm/engine/whole_context.py reckons with the same numbers.
constexpr int kContextArrays = 10;  // values that a block has of each channel
constexpr int kContextRoom = 9216;  // bytes to add things up in
constexpr int kContextSector = 32;  // bytes: a block has whole ones of a channels_last row, and of its mask's bytes

constexpr int64_t whole_pieces(int64_t n, int64_t piece) { return (n + piece - 1) / piece * piece; }

inline int64_t context_channels(int64_t C, int64_t value_bytes, int64_t blocks) {
  return blocks == 1 ? C : whole_pieces((C + blocks - 1) / blocks, kContextSector / value_bytes);
}

// Shared memory of a block: `maps` of its values, x or x and g, as many rows of values per position, and the rest.
inline int64_t context_bytes(int64_t channels, int64_t S, int64_t value_bytes, int maps) {
  return maps * (whole_pieces(channels * S * value_bytes, 16) + 4 * whole_pieces(S, 4)) +
         4 * kContextArrays * whole_pieces(channels, 4) + kContextRoom;
}

// Backward eight values at a time, with as many coefficients each, take more registers than 512 threads have.
constexpr int context_threads(int maps, int64_t value_bytes) { return maps == 2 && value_bytes == 2 ? 256 : 512; }

Launch context_launch(const char* name, const ContextArgs& k, int maps);
void context_forward(const ContextArgs& k, const Stream& s);
void context_backward(const ContextArgs& k, const Stream& s);

}  // namespace fusednorm
