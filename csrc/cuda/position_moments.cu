// position_moments: mean and biased variance over channels, at every position, of
//   e = scale*(x - center) + shift + outer*t                                                        docs/positions.md
// channels_last: the threads of a row have a position's channels at hand, and sweep over them twice, by shuffles.
// Planar: every thread keeps (count, mean, M2) of its channels, several at a time, less the segment's first value, as
// plane_moments does; threads are merged so, as are stripes and segments (position_merge.cu).
// Traffic: reads x once: 1 unit. Launch: blocks of 256 threads, laid over a map as position_pass.h says.
#include "position_walk.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

namespace {

constexpr int kLoads = tuning::kPositionLoads, kE = kOuter + 1;  // coefficients of e

template <class A, int V>
struct ChannelMoments {
  A count, mean[V], m2[V];

  __device__ __forceinline__ void merge(const ChannelMoments& other) {
    const A total = count + other.count;
    if (total == A(0)) return;
    const A share = other.count / total, cross = count * share;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const A delta = other.mean[j] - mean[j];
      mean[j] += delta * share;
      m2[j] += other.m2[j] + delta * delta * cross;
    }
    count = total;
  }
  __device__ __forceinline__ ChannelMoments shuffled(int offset) const {
    ChannelMoments other;
    other.count = __shfl_xor_sync(0xffffffffu, count, offset);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      other.mean[j] = __shfl_xor_sync(0xffffffffu, mean[j], offset);
      other.m2[j] = __shfl_xor_sync(0xffffffffu, m2[j], offset);
    }
    return other;
  }
};

// The mean of a part in double: the merge takes differences of them.
template <class A>
__device__ __forceinline__ void keep_moments(const Parts& p, int64_t part, int64_t entry, double mean, A m2) {
  if (p.parts > 1) {
    p.at(part, 0, entry) = mean;
    p.at(part, 1, entry) = m2;
  } else {
    static_cast<A*>(p.out[0])[entry] = A(mean);
    static_cast<A*>(p.out[1])[entry] = m2 / A(p.channels);
  }
}

template <class T, int V, class Coefficients, class Rows>
__device__ __forceinline__ Compute<T> e_of(const Coefficients& c, const Rows& t, const Raw<T, V>& x, int j) {
  return c[kScale][j] * (value_of<T, V>(x, j) - c[kCenter][j]) + c[kShift][j] + c[kOuter][j] * t[0][j];
}

template <class T, bool vectorized>
__device__ __forceinline__ void rows_item(const Walk& w, const PositionPass& k, const Parts& parts) {
  using A = Compute<T>;
  constexpr int V = kValues<T, vectorized>, U = kLoads;
  const Shape& shape = k.shape;
  const auto number = number_of(w);
  const Item<T, true, vectorized> item(w, shape, everything(shape), k.maps[0], number.item, number.exists);
  const Track<T> x = item.track(k.maps[0]);
  Coefficient<A, V, true> coefficients[kE];
#pragma unroll
  for (int i = 0; i < kE; ++i) coefficients[i] = coefficient<A, V, true>(k.coefficients[i], item.n, item.c, item.real);
  const int64_t row = item.n * shape.positions() + item.begin, stripe = item.c / parts.width;
  const A count = A(min(parts.width, parts.channels - stripe * parts.width)), share = A(1) / count;
  const RowTracks<A, V, true, 1> tracks(k, row, 0);
  for (int i = item.lane; i < item.steps; i += item.lanes * U) {
    Raw<T, V> raw[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (item.real && i + u * item.lanes < item.steps)
        raw[u] = load<T, V>(item.at(x, k.maps[0], shape, i + u * item.lanes));
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int step = i + u * item.lanes;
      if (step >= item.steps) break;
      A e[V], sum = 0, drift = 0, squares = 0;  // drift: what the mean lost in rounding
      if (item.real) {
        Row<A, V, true> t[1];
        tracks.template read<V>(step, t);
#pragma unroll
        for (int j = 0; j < V; ++j) sum += e[j] = e_of<T, V>(coefficients, t, raw[u], j);
      }
      const A mean = add_columns(w, sum) * share;
      if (item.real) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          drift += e[j] - mean;
          squares += (e[j] - mean) * (e[j] - mean);
        }
      }
      drift = add_columns(w, drift);
      // drift/count to the last bit: where channels are alike all of this is exact, and their variance 0.
      const A part = drift * share, left = fma(fma(-count, part, drift), share, part);
      squares = fma(-drift, left, add_columns(w, squares));
      squares = squares < A(0) ? A(0) : squares;
      if (item.real && int(threadIdx.x) % w.columns == 0)
        keep_moments(parts, stripe, row + step, double(mean) + double(left), squares);
    }
  }
}

template <class T, bool vectorized>
__device__ __forceinline__ void tile_item(const Walk& w, const PositionPass& k, const Parts& parts,
                                          unsigned char* shared) {
  using A = Compute<T>;
  constexpr int V = kValues<T, vectorized>, U = kLoads;
  const Shape& shape = k.shape;
  const Tile<T, vectorized> tile(w, shape);
  const int64_t row = tile.n * shape.positions() + tile.position;
  ChannelMoments<A, V> mine;
  A pivot[V];
  mine.count = 0;
#pragma unroll
  for (int j = 0; j < V; ++j) mine.mean[j] = mine.m2[j] = pivot[j] = 0;
  if (tile.real) {
    const T* x = tile.first(k.maps[0], shape);
    const int64_t to_next = k.maps[0].c;
    Row<A, V, false> t[1];
    RowTracks<A, V, false, 1>(k, row, 0).template read<V>(0, t);
    auto take = [&](int64_t channel, bool there, Raw<T, V>& raw, Coefficient<A, V, false>(&c)[kE]) {
      if (there) raw = load<T, V>(x + channel * to_next);
#pragma unroll
      for (int i = 0; i < kE; ++i) c[i] = coefficient<A, V, false>(k.coefficients[i], tile.n, channel, there);
    };
    {
      Raw<T, V> raw;
      Coefficient<A, V, false> c[kE];
      take(tile.begin, true, raw, c);
#pragma unroll
      for (int j = 0; j < V; ++j) pivot[j] = e_of<T, V>(c, t, raw, j);
    }
    for (int64_t c = tile.begin + tile.lane; c < tile.end; c += tile.lanes * U) {
      Raw<T, V> raw[U];
      Coefficient<A, V, false> coefficients[U][kE];
#pragma unroll
      for (int u = 0; u < U; ++u) take(c + u * tile.lanes, c + u * tile.lanes < tile.end, raw[u], coefficients[u]);
      if (c + (U - 1) * tile.lanes < tile.end) {
        const A total = mine.count + A(U), share = A(U) / total, cross = mine.count * share;
#pragma unroll
        for (int j = 0; j < V; ++j) {
          A value[U], sum = 0, squares = 0;
#pragma unroll
          for (int u = 0; u < U; ++u) sum += value[u] = e_of<T, V>(coefficients[u], t, raw[u], j) - pivot[j];
          const A middle = sum * (A(1) / A(U));
#pragma unroll
          for (int u = 0; u < U; ++u) squares += (value[u] - middle) * (value[u] - middle);
          const A delta = middle - mine.mean[j];
          mine.mean[j] += delta * share;
          mine.m2[j] += squares + delta * delta * cross;
        }
        mine.count = total;
      } else {
#pragma unroll
        for (int u = 0; u < U; ++u)
          if (c + u * tile.lanes < tile.end) {
            mine.count += A(1);
            const A share = A(1) / mine.count;
#pragma unroll
            for (int j = 0; j < V; ++j) {
              const A value = e_of<T, V>(coefficients[u], t, raw[u], j) - pivot[j], delta = value - mine.mean[j];
              mine.mean[j] += delta * share;
              mine.m2[j] += delta * (value - mine.mean[j]);
            }
          }
      }
    }
  }
  merge_lanes(mine, w, shared);
  if (tile.lane != 0 || !tile.real) return;
#pragma unroll
  for (int j = 0; j < V; ++j)
    keep_moments(parts, tile.segment, row + j, double(pivot[j]) + double(mine.mean[j]), mine.m2[j]);
}

}  // namespace

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionMomentsBlocks.of(sizeof(T)))
    position_moments_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w,
                            const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  if constexpr (channels_last)
    rows_item<T, vectorized>(w, k, parts);
  else
    tile_item<T, vectorized>(w, k, parts, shared_bytes);
}

void position_moments(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    using T = decltype(type);
    const size_t shared =
        channels_last ? 0 : reduction_entries(plan.walk) * sizeof(ChannelMoments<Compute<T>, kValues<T, vectorized>>);
    launch({"position_moments", plan.walk.blocks(), plan.walk.threads(), shared}, s,
           position_moments_kernel<T, channels_last, vectorized>, k, plan.walk, parts);
  });
}

}  // namespace fusednorm
