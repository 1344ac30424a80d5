// From a map's shape to the threads laid over it (walk.cuh).
#pragma once

#include <cstddef>
#include <initializer_list>

#include "../common/arguments.h"

namespace fusednorm {

struct Walk {
  int columns, lanes, groups;  // of threads
  int step;                    // positions that a thread takes at a time: planar V, channels_last 1
  int64_t stripes;             // of columns, in a row: channels_last; planar 1
  int64_t lines;               // N*C, or N*stripes
  int64_t segments;            // of a line
  int64_t length;              // positions of a segment, where there are several a multiple of 8; below 2^30
  bool backwards = false;      // the last item first: it is what the pass before left in L2

  int64_t blocks() const { return (lines * segments + groups - 1) / groups; }
  FUSEDNORM_BOTH int threads() const { return columns * lanes * groups; }
};

// Who works together on one calculation: team.cuh.
enum class Scope : int { block, cluster, grid };

// Planes that belong together: channels [c0, c1) of samples [n0, n1).
struct Unit {
  int64_t n0, n1, c0, c1;
};

FUSEDNORM_BOTH inline Unit everything(const Shape& s) { return {0, s.N, 0, s.C}; }

// A block's reduction leaves an entry in shared memory for each column of each warp.
FUSEDNORM_BOTH inline size_t reduction_entries(const Walk& w) {
  return size_t(w.threads() + 31) / 32 * size_t(w.columns);
}

struct Plan {
  Walk walk;
  bool vectorized;  // runs of values are contiguous in every operand, so that a step is 16 bytes
};

// Of every segment of every plane, [segment][plane]: mean and M2, or the two sums. No segments: nothing to merge.
struct Partials {
  int64_t segments = 0, length = 0;  // positions of a segment; the last may have fewer
  int64_t N = 0, C = 0, S = 0;
  double *first = nullptr, *second = nullptr;  // mean and M2, or sum of g and of g*(x - center)
};

enum class Pass { reducing, writing };

// A block's threads over a unit, all of them on one line at a time.
Walk walk_of(const Shape& shape, const Unit& unit, int threads, bool vectorized);

// The fewest lanes that reading in whole lines of memory allows, fewer lanes and more groups, and segments.
int least_lanes(const Walk& w, const Shape& shape);
void set_lanes(Walk& w, int lanes);
void split(Walk& w, const Shape& shape, Pass pass, int64_t segments);

// Whether 16 bytes of every operand that is there can be read or written at a time.
bool all_in_vectors(const Shape& shape, std::initializer_list<const Operand*> operands);

// The streaming kernels.
Plan streaming(const Shape& s, Pass pass, bool vectorized);
Plan plan_moments(const MomentsArgs& k);
Plan plan_affine(const AffineArgs& k);  // plane_affine
Plan plan_reduce(const AffineArgs& k);
Plan plan_grad(const AffineArgs& k);

// The activations that a kernel's instantiation knows. ReLU-like: identity, relu, relu6, leaky_relu, a few selects; smooth: silu,
// hardswish, gelu.
enum class Acts : int { relu_like, smooth, all };

inline Acts acts_with(Act act) {
  return act == Act::silu || act == Act::hardswish || act == Act::gelu ? Acts::smooth : Acts::relu_like;
}

int64_t element_bytes(Type type);

}  // namespace fusednorm
