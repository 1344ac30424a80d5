// What plane_moments does with an item, for the streaming and the resident kernels.
//   m = 1/S sum_s x,  v = 1/S sum_s (x - m)²                                                         docs/engine.md
// Every thread keeps V means and centred sums of squares (M2); several steps at a time are loaded together, take their own
// mean and M2 in registers, and are merged as (count, mean, M2); so are, in double, threads, warps and segments. A thread's
// means are kept less the line's first value (the pivot), or each would be rounded to its own last place: at 1e4 that costs
// a deviation of 1 three digits. Only the plane's mean is in full, in double.
#pragma once

#include "lanes.cuh"
#include "partials.cuh"
#include "walk.cuh"

namespace fusednorm {

// (count, mean, M2) of M sets of `count` values each.
template <class A, int M>
struct Moments {
  A count;
  double mean[M], m2[M];

  __device__ __forceinline__ void merge(const Moments& other) {
    const A total = count + other.count;
    if (total == A(0)) return;
    const A share = other.count / total;
#pragma unroll
    for (int j = 0; j < M; ++j) {
      const double delta = other.mean[j] - mean[j];
      mean[j] += delta * double(share);
      m2[j] += other.m2[j] + delta * delta * double(count * share);
    }
    count = total;
  }

  __device__ __forceinline__ Moments shuffled(int offset) const {
    Moments other;
    other.count = __shfl_xor_sync(0xffffffffu, count, offset);
#pragma unroll
    for (int j = 0; j < M; ++j) {
      other.mean[j] = __shfl_xor_sync(0xffffffffu, mean[j], offset);
      other.m2[j] = __shfl_xor_sync(0xffffffffu, m2[j], offset);
    }
    return other;
  }
};

constexpr int kMomentsLoads =
    4;  // steps in flight in a thread: 64 bytes; 1024 threads of an SM then have 64 KiB in flight

// Where a plane's moments go: `mean` (double) and `var`, or, of a segment, the partials.
struct MomentsOut {
  PerPlane mean, var;
  Partials partials;
};

// kept: where to leave what was read for a second pass (shared memory, this thread's own places, blockDim.x apart), or
// null. `ragged_slot`: the place for the ragged ends.
template <bool keep, class T, bool channels_last, bool vectorized>
__device__ __forceinline__ void moments_item(const Walk& w, const Shape& shape, const Operand& x,
                                             const Item<T, channels_last, vectorized>& item, const MomentsOut& out,
                                             unsigned char* shared, uint4* kept, int ragged_slot) {
  using A = Compute<T>;
  constexpr int V = Item<T, channels_last, vectorized>::V, M = channels_last ? V : 1, U = kMomentsLoads;
  const Track<T> track = item.track(x);
  auto take = [](const T* from) { return keep ? load_written<T, V>(from) : load<T, V>(from); };  // kept: y may follow
  Coefficient<A, V, channels_last> pivot;
  A mean[V], m2[V], seen = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) mean[j] = m2[j] = 0;
#pragma unroll
  for (int j = 0; j < M; ++j) pivot.value[j] = 0;
  A ends_count = 0, ends_mean = 0, ends_m2 = 0;
  if (item.real) {
    const T* first = static_cast<const T*>(x.data) + item.n * x.n + item.c * x.c + offset_of(x, shape, item.begin);
#pragma unroll
    for (int j = 0; j < M; ++j) pivot.value[j] = detail::to_compute(first[j * x.c]);
    int place = 0;
    for (int i = item.lane; i < item.steps; i += item.lanes * U, place += U) {
      Raw<T, V> raw[U];
#pragma unroll
      for (int u = 0; u < U; ++u)
        if (i + u * item.lanes < item.steps) raw[u] = take(item.at(track, x, shape, i + u * item.lanes));
      if constexpr (keep) {
#pragma unroll
        for (int u = 0; u < U; ++u)
          if (i + u * item.lanes < item.steps) kept[(place + u) * blockDim.x] = raw[u].bits;
      }
      if (i + (U - 1) * item.lanes < item.steps) {
        const A total = seen + A(U), share = A(U) / total, cross = seen * share;
#pragma unroll
        for (int j = 0; j < V; ++j) {
          A value[U], sum = 0, squares = 0;
#pragma unroll
          for (int u = 0; u < U; ++u) sum += value[u] = value_of<T, V>(raw[u], j) - pivot[j];
          const A middle = sum * (A(1) / A(U));
#pragma unroll
          for (int u = 0; u < U; ++u) squares += (value[u] - middle) * (value[u] - middle);
          const A delta = middle - mean[j];
          mean[j] += delta * share;
          m2[j] += squares + delta * delta * cross;
        }
        seen = total;
      } else {
#pragma unroll
        for (int u = 0; u < U; ++u)
          if (i + u * item.lanes < item.steps) {
            seen += A(1);
            const A share = A(1) / seen;
#pragma unroll
            for (int j = 0; j < V; ++j) {
              const A value = value_of<T, V>(raw[u], j) - pivot[j], delta = value - mean[j];
              mean[j] += delta * share;
              m2[j] += delta * (value - mean[j]);
            }
          }
      }
    }
    if constexpr (!channels_last && V > 1) {
      T* slot = keep ? reinterpret_cast<T*>(kept + ragged_slot * blockDim.x) : nullptr;
      for (int e = item.lane; e < item.ragged(); e += item.lanes) {
        const T raw = track.first[item.ragged_position(e)];
        if constexpr (keep) *slot++ = raw;
        const A value = detail::to_compute(raw) - pivot[0], delta = value - ends_mean;
        ends_count += A(1);
        ends_mean += delta / ends_count;
        ends_m2 += delta * (value - ends_mean);
      }
    }
  }

  Moments<A, M> mine;
  if constexpr (channels_last) {
    mine.count = seen;
#pragma unroll
    for (int j = 0; j < V; ++j) mine.mean[j] = mean[j], mine.m2[j] = m2[j];
  } else {
    mine = {ends_count, {ends_mean}, {ends_m2}};
#pragma unroll
    for (int j = 0; j < V; ++j) mine.merge({seen, {mean[j]}, {m2[j]}});
  }
  merge_lanes(mine, w, shared);
  if (item.lane != 0 || !item.real) return;
#pragma unroll
  for (int j = 0; j < M; ++j) {
    const double full = double(pivot[j]) + mine.mean[j];
    const int64_t c = item.c + j;
    if (out.partials.segments > 1) {
      keep_segment(out.partials, item.segment, item.n, c, full, mine.m2[j]);
    } else {
      static_cast<double*>(out.mean.data)[item.n * out.mean.n + c * out.mean.c] = full;
      static_cast<A*>(out.var.data)[item.n * out.var.n + c * out.var.c] = A(mine.m2[j] / double(mine.count));
    }
  }
}

}  // namespace fusednorm
