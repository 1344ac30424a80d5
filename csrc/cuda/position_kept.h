// Kernels of docs/positions.md that are two of the streaming ones in one reading, of samples kept on the chip (sample.h):
// what a position's channels add up to is known before the sample is gone.
#pragma once

#include "position_pass.h"
#include "sample.h"

namespace fusednorm {

struct PositionKept {
  Kept kept;
  // Row kU is not null where there is a gate, though what it points at is not read where the kernel finds u out; rows
  // kOffset and kSlope are du_offset and du_slope.
  PositionPass pass;
  Statistic statistic;  // of the moments over channels
  bool dy_dense;        // samples without gaps, in x's order, as all others are
  float *mean, *var;    // N×S, moments over channels
  float* cov;           // N×C
  float *du, *sums;     // N×S; (7, N, C)
  double* exchange;     // what blocks tell each other: [sample][block][2][position]; of du [sample][block][position]
};

// fusednorm/engine/joint.py reckons with the same numbers.
FUSEDNORM_BOTH constexpr Room position_room(int maps) { return {maps, kBackwardRows, kForwardCoefficients}; }

void position_moments_pool(const PositionKept& k, const Stream& s);
void position_moments_affine(const PositionKept& k, const Stream& s);
void position_affine_spread_reduce(const PositionKept& k, const Stream& s);

}  // namespace fusednorm
