// How the head's kernels divide their work among blocks.
#pragma once

#include <algorithm>

#include "any_head.h"
#include "head_work.cuh"

namespace fusednorm {

constexpr int kBlock = 512;  // threads at most: up to 128 registers, for the loads under way
constexpr int kCluster = 8;  // the largest that every sm_90 and sm_100 device can have

inline int64_t tiles(const HeadArgs& k) { return (k.C + 31) / 32; }

// What the parameters' gradients divide their work into.
inline int64_t sums(const HeadArgs& k) { return tiles(k) * std::max<int64_t>(any_pair(k) ? 5 : 1, (k.K + 3) / 4); }

// Threads for a band of 32 channels: a warp for four samples, the loads that it has under way at a time.
inline int band_threads(const HeadArgs& k) {
  int threads = 64;
  while (threads < kBlock && threads / 32 * 8 <= k.N) threads *= 2;
  return threads;
}

inline Work work_of(const char* name, const HeadArgs& k, Units units, const Stream& s) {
  Work work{units, Scope::block, {name, 1, kBlock}};
  Launch& l = work.launch;
  if (units == Units::tiles) {
    l.grid = tiles(k);
    l.block = band_threads(k);
  } else if (units == Units::samples) {
    l.grid = k.N;
    if (k.K == 0) l.block = k.C <= 64 ? 64 : k.C <= 128 ? 128 : 256;
  } else {
    // Between two syncs a thread waits for L2 three times, some 2000 cycles, for each of its planes; 32 components take
    // as long. A grid's sync takes as long too, a cluster's a tenth. So: four planes a thread, then more blocks.
    // Estimates.
    const int64_t values = k.N * k.C * (32 + k.K) / 32;
    if (values > 4 * kBlock) {
      if (s.cluster >= kCluster && values <= 4 * kBlock * kCluster) {
        work.scope = Scope::cluster;
        l.grid = l.cluster = kCluster;
      } else {
        work.scope = Scope::grid;
        l.grid = std::min<int64_t>(s.sms, std::max({k.N, k.N * k.C / kBlock, sums(k)}));
        l.cooperative = true;
      }
    }
  }
  l.shared = size_t(head_shared_bytes(l.block));
  return work;
}

__device__ inline Unit unit_of(const HeadArgs& k, Units units) {
  const int64_t u = blockIdx.x;
  if (units == Units::tiles) return {0, k.N, u * 32, min(u * 32 + 32, k.C)};
  if (units == Units::samples) return {u, u + 1, 0, k.C};
  return {0, k.N, 0, k.C};
}

// The blocks of a grid that never sync.
__device__ inline Team loose_team() { return {Scope::grid, int(blockIdx.x), int(gridDim.x)}; }

// f(A{}) with the compute type.
template <class F>
inline void with_compute_type(bool f64, F f) {
  f64 ? f(double{}) : f(float{});
}

}  // namespace fusednorm
