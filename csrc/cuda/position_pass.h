// What the kernels of docs/positions.md are told, and how their threads are laid over a map.
//
// A *pass* reads up to three maps, N×C coefficients and rows (values per position), writes a map or none, and adds up
// sums over positions (of every plane) or over channels (at every position). What is made of a step's values is the
// kernel's own (position_affine.cuh); who takes which step, and how sums come together, is in position_walk.cuh.
#pragma once

#include "../common/position_arguments.h"
#include "plan.h"

namespace fusednorm {

struct PositionPass {
  Shape shape;
  Act act;
  Restrict restrict;
  Kind kind;
  Operand maps[3];            // the first is always there
  Operand out;                // null: nothing is written
  PerPlane coefficients[14];  // in the kernel's order; null: zeros
  const void* rows[8];        // dense (N, S), likewise
};

// The order of the affine family's coefficients and rows. Of its maps: forward x, residual; backward dy, x, residual.
enum : int { kCenter, kScale, kShift, kOuter, kGain, kBias, kGateWeight, kGateBias, kForwardCoefficients };
enum : int { kPool = kForwardCoefficients, kSpreadCoefficients };
enum : int { kA = kForwardCoefficients, kB, kWeight, kOuters, kGradCoefficients = kOuters + kMaxOuters };
enum : int { kT, kU, kForwardRows, kOffset = kForwardRows, kSlope, kBackwardRows };
enum : int { kH = kBackwardRows, kMoreRows, kGradRows = kMoreRows + kMaxOuters };

PositionPass reduce_pass(const PositionReduceArgs& k);    // coefficients: center, weight
PositionPass pool_pass(const PlanePoolArgs& k);           // center; row q
PositionPass moments_pass(const PositionMomentsArgs& k);  // center, scale, shift, outer; row t
PositionPass forward_pass(const PositionAffineArgs& k);
PositionPass backward_pass(const PositionAffineArgs& k);
PositionPass spread_pass(const PositionAffineArgs& k);
PositionPass grad_pass(const PositionAffineArgs& k);

constexpr int kMostSums = 7;

// Where sums go: `out`, dense, or, of a part, [part][sum][entry]. An entry is a plane, or a position of a sample; parts
// are segments of planes, or runs of channels.
struct Parts {
  int64_t parts = 1, entries = 0;
  int sums = 0;
  double* data = nullptr;
  void* out[kMostSums] = {};
  int64_t width = 0, channels = 0;  // over channels: those of a part (the last may have fewer), and all

  FUSEDNORM_BOTH double& at(int64_t part, int sum, int64_t entry) const {
    return data[(part * sums + sum) * entries + entry];
  }
};

// Over positions: walk.cuh's walk. Double takes single values: it is for gradcheck, and costs less to compile.
Plan plan_over_positions(const PositionPass& k, Pass pass);

// Over channels. channels_last: walk.cuh's walk, a part is a stripe; what the threads of a row found of a position is
// added by shuffles. Planar: a group of threads takes a *tile*, `columns` vectors of positions, through the channels of
// a segment, `lanes` channels at a time; a part is a segment.
//
//   thread = (group*lanes + lane)*columns + column;   item = block*groups + group;   tile = item/segments
//
// There `stripes` are the tiles of a sample, `lines` all tiles, `length` the channels of a segment.
Plan plan_over_channels(const PositionPass& k);

}  // namespace fusednorm
