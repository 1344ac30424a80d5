// Large planes are split into segments, one group of threads each; what those found is merged here, always in the
// segments' order, by whoever needs the whole (the head; a kernel of its own where there is none).
#pragma once

#include "plan.h"

namespace fusednorm {

// What a segment's group found of a plane.
__device__ __forceinline__ void keep_segment(const Partials& p, int64_t segment, int64_t n, int64_t c, double first,
                                             double second) {
  const int64_t place = (segment * p.N + n) * p.C + c;
  p.first[place] = first;
  p.second[place] = second;
}

// (count, mean, M2) of segments -> mean and biased variance, dense N×C.
template <class A, class Team>
__device__ void merge_moments(const Partials& p, double* mean, A* var, const Unit& unit, const Team& team) {
  const int64_t channels = unit.c1 - unit.c0, planes = (unit.n1 - unit.n0) * channels, all = p.N * p.C;
  for (int64_t i = int64_t(team.rank) * blockDim.x + threadIdx.x; i < planes; i += int64_t(team.size) * blockDim.x) {
    const int64_t plane = (unit.n0 + i / channels) * p.C + unit.c0 + i % channels;
    double count = 0, middle = 0, m2 = 0;
#pragma unroll 1
    for (int64_t s = 0; s < p.segments; ++s) {
      const double more = double(min(p.length, p.S - s * p.length)), total = count + more;
      const double delta = p.first[s * all + plane] - middle;
      middle += delta * (more / total);
      m2 += p.second[s * all + plane] + delta * delta * (count * more / total);
      count = total;
    }
    mean[plane] = middle;
    var[plane] = A(m2 / count);
  }
}

// Sums of segments -> dshift and dscale, dense N×C.
template <class A, class Team>
__device__ void merge_sums(const Partials& p, A* dshift, A* dscale, const Unit& unit, const Team& team) {
  const int64_t channels = unit.c1 - unit.c0, planes = (unit.n1 - unit.n0) * channels, all = p.N * p.C;
  for (int64_t i = int64_t(team.rank) * blockDim.x + threadIdx.x; i < planes; i += int64_t(team.size) * blockDim.x) {
    const int64_t plane = (unit.n0 + i / channels) * p.C + unit.c0 + i % channels;
    double g = 0, gx = 0;
#pragma unroll 4
    for (int64_t s = 0; s < p.segments; ++s) {
      g += p.first[s * all + plane];
      gx += p.second[s * all + plane];
    }
    dshift[plane] = A(g);
    dscale[plane] = A(gx);
  }
}

}  // namespace fusednorm
