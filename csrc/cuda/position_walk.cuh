// How a pass (position_pass.h) goes over a map. `P` is the kernel's part of it:
//   T, channels_last, vectorized, kWrites; kMaps, kCoefficients, kRows, kSums, kSteps (that a thread has in flight)
//   static void step<count>(const PositionPass&, coefficients, rows, const Raw<T, count>* maps, Raw<T, count>& out,
//                           A (&found)[kSums][count])      what a step's values give: the map's and the sums' terms
//   static void prepare(coefficients)      over positions: what is to be made of them beforehand, if anything
#pragma once

#include "lanes.cuh"
#include "position_pass.h"
#include "walk.cuh"

namespace fusednorm {

// Values per position of a step: one for each value where planar, one for all where channels_last.
template <class A, int V, bool channels_last>
struct Row {
  A value[channels_last ? 1 : V];
  __device__ __forceinline__ A operator[](int j) const { return value[channels_last ? 0 : j]; }
};

// Rows from a thread's first position on. Planar: 16 bytes at a time where all begin at such a boundary.
template <class A, int V, bool channels_last, int R>
struct RowTracks {
  const PositionPass& k;
  const int64_t begin;
  bool aligned = false;

  __device__ __forceinline__ RowTracks(const PositionPass& pass, int64_t position, int to_step)
      : k(pass), begin(position) {
    if constexpr (!channels_last && V > 1) {
      uintptr_t off = uintptr_t(begin + to_step) * sizeof(A);
#pragma unroll
      for (int i = 0; i < R; ++i) off |= reinterpret_cast<uintptr_t>(k.rows[i]);
      aligned = off % 16 == 0;
    }
  }

  template <int count>
  __device__ __forceinline__ void read(int64_t position, Row<A, count, channels_last> (&rows)[R]) const {
    constexpr int N = channels_last ? 1 : count;
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const A* from = static_cast<const A*>(k.rows[i]) + begin + position;
      if (k.rows[i] == nullptr) {
#pragma unroll
        for (int j = 0; j < N; ++j) rows[i].value[j] = A(0);
      } else if (N * sizeof(A) % 16 == 0 && aligned) {
        constexpr int each = 16 / sizeof(A);
#pragma unroll
        for (int j = 0; j < N; j += each) {
          const Raw<A, each> raw = load<A, each>(from + j);
#pragma unroll
          for (int l = 0; l < each && j + l < N; ++l) rows[i].value[j + l] = value_of<A, each>(raw, l);
        }
      } else {
#pragma unroll
        for (int j = 0; j < N; ++j) rows[i].value[j] = from[j];
      }
    }
  }
};

template <class A, int M>
struct SumSet {
  A value[M];

  __device__ __forceinline__ void merge(const SumSet& other) {
#pragma unroll
    for (int j = 0; j < M; ++j) value[j] += other.value[j];
  }
  __device__ __forceinline__ SumSet shuffled(int offset) const {
    SumSet other;
#pragma unroll
    for (int j = 0; j < M; ++j) other.value[j] = __shfl_xor_sync(0xffffffffu, value[j], offset);
    return other;
  }
};

template <class A>
__device__ __forceinline__ void keep(const Parts& p, int64_t part, int sum, int64_t entry, double value) {
  if (p.parts > 1)
    p.at(part, sum, entry) = value;
  else if (p.out[sum])
    static_cast<A*>(p.out[sum])[entry] = A(value);
}

// f(d) and f'(d) of position_reduce, plane_pool and position_affine_grad.
template <class A>
__device__ __forceinline__ A kind_value(Kind kind, A d) {
  return kind == Kind::sum ? d : kind == Kind::square ? d * d : d < A(0) ? -d : d;
}
template <class A>
__device__ __forceinline__ A kind_slope(Kind kind, A d) {
  return kind == Kind::sum ? A(1) : kind == Kind::square ? A(2) * d : d > A(0) ? A(1) : d < A(0) ? A(-1) : A(0);
}

// A plane's sums come together as one set; those of V channels one after the other, or they would take all registers.
template <class P>
constexpr int kSumsTogether = P::channels_last ? kValues<typename P::T, P::vectorized> : P::kSums;

// Bytes of shared memory for what warps exchange.
template <class P>
size_t shared_over_positions(const Walk& w) {
  return P::kSums ? reduction_entries(w) * sizeof(SumSet<double, kSumsTogether<P>>) : 0;
}
template <class P>
size_t shared_over_channels(const Walk& w) {
  using T = typename P::T;
  return P::channels_last ? 0 : reduction_entries(w) * sizeof(SumSet<Compute<T>, P::kSums * kValues<T, P::vectorized>>);
}

// Maps, and sums over positions.
template <class P>
__device__ __forceinline__ void over_positions(const Walk& w, const PositionPass& k, const Parts& parts,
                                               unsigned char* shared) {
  using T = typename P::T;
  using A = Compute<T>;
  constexpr bool channels_last = P::channels_last;
  constexpr int V = kValues<T, P::vectorized>, U = P::kSteps, K = P::kSums, M = channels_last ? V : 1;
  const Shape& shape = k.shape;
  const auto number = number_of(w);
  Item<T, channels_last, P::vectorized> item(w, shape, everything(shape), k.maps[0], number.item, number.exists);
  A sums[K + 1][M];
#pragma unroll
  for (int s = 0; s < K; ++s)
#pragma unroll
    for (int j = 0; j < M; ++j) sums[s][j] = 0;

  if (item.real) {
    Track<T> in[3], out = item.track(k.out);
#pragma unroll
    for (int m = 0; m < P::kMaps; ++m) in[m] = item.track(k.maps[m]);
    item.align(in[0], in[1], in[2], out);
    Coefficient<A, V, channels_last> coefficients[P::kCoefficients];
#pragma unroll
    for (int i = 0; i < P::kCoefficients; ++i)
      coefficients[i] = coefficient<A, V, channels_last>(k.coefficients[i], item.n, item.c, true);
    if constexpr (requires { P::prepare(coefficients); }) P::prepare(coefficients);
    const RowTracks<A, V, channels_last, P::kRows> tracks(k, item.n * shape.positions() + item.begin, item.head);
    for (int i = item.lane; i < item.steps; i += item.lanes * U) {
      Raw<T, V> raw[U][3];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
#pragma unroll
        for (int m = 0; m < P::kMaps; ++m) {
          if (step >= item.steps || !in[m].first) continue;
          const T* from = item.at(in[m], k.maps[m], shape, step);
          raw[u][m] = P::kWrites ? load_written<T, V>(from) : load<T, V>(from);
        }
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
        if (step >= item.steps) break;
        Row<A, V, channels_last> rows[P::kRows];
        tracks.template read<V>(channels_last ? step : item.head + step * V, rows);
        A found[K + 1][V];
        Raw<T, V> result;
        P::template step<V>(k, coefficients, rows, raw[u], result, found);
        if (P::kWrites && out.first) store<T, V>(item.at(out, k.out, shape, step), result, shape.stream);
#pragma unroll
        for (int s = 0; s < K; ++s)
#pragma unroll
          for (int j = 0; j < V; ++j) sums[s][channels_last ? j : 0] += found[s][j];
      }
    }
    if constexpr (!channels_last && V > 1) {
#pragma unroll 1
      for (int end = item.lane; end < item.ragged(); end += item.lanes) {
        const int position = item.ragged_position(end);
        Raw<T, 1> raw[3], result;
#pragma unroll
        for (int m = 0; m < P::kMaps; ++m)
          if (in[m].first) raw[m] = {in[m].first[position]};
        Row<A, 1, channels_last> rows[P::kRows];
        tracks.template read<1>(position, rows);
        A found[K + 1][1];
        P::template step<1>(k, coefficients, rows, raw, result, found);
        if (P::kWrites && out.first) out.first[position] = result.bits;
#pragma unroll
        for (int s = 0; s < K; ++s) sums[s][0] += found[s][0];
      }
    }
  }

  if constexpr (K > 0) {
    constexpr int together = kSumsTogether<P>;
#pragma unroll
    for (int begin = 0; begin < K * M; begin += together) {
      SumSet<double, together> mine;
#pragma unroll
      for (int j = 0; j < together; ++j) mine.value[j] = sums[(begin + j) / M][(begin + j) % M];
      merge_lanes(mine, w, shared);
      if (item.lane == 0 && item.real) {
#pragma unroll
        for (int j = 0; j < together; ++j)
          keep<A>(parts, item.segment, (begin + j) / M, item.n * shape.C + item.c + (begin + j) % M, mine.value[j]);
      }
    }
  }
}

// Planar, over channels: V positions of a tile, and the channels that a thread takes there.
template <class T, bool vectorized>
struct Tile {
  static constexpr int V = kValues<T, vectorized>;
  int64_t n, position;
  int64_t begin, end, segment;  // channels
  int lane, lanes;
  bool real;

  __device__ __forceinline__ Tile(const Walk& w, const Shape& s)
      : lane(int(threadIdx.x) / w.columns % w.lanes), lanes(w.lanes) {
    const auto number = number_of(w);
    const int64_t tile = number.item / w.segments;
    segment = number.item - tile * w.segments;
    begin = segment * w.length;
    end = begin + w.length < s.C ? begin + w.length : s.C;
    n = tile / w.stripes;
    position = ((tile - n * w.stripes) * w.columns + int(threadIdx.x) % w.columns) * V;
    real = number.exists && position < s.positions();
  }

  // Of channel 0.
  __device__ __forceinline__ T* first(const Operand& t, const Shape& s) const {
    return t.data && real ? static_cast<T*>(t.data) + n * t.n + offset_of(t, s, position) : nullptr;
  }
};

// channels_last: the sum of what the threads of a row found, in all of them. They come here together.
template <class A>
__device__ __forceinline__ A add_columns(const Walk& w, A value) {
  const unsigned row =
      w.columns == 32 ? 0xffffffffu : ((1u << w.columns) - 1) << (int(threadIdx.x) % 32 & ~(w.columns - 1));
  for (int offset = 1; offset < w.columns; offset *= 2) value += __shfl_xor_sync(row, value, offset);
  return value;
}

// A map, and sums over channels.
template <class P>
__device__ __forceinline__ void over_channels(const Walk& w, const PositionPass& k, const Parts& parts,
                                              unsigned char* shared) {
  using T = typename P::T;
  using A = Compute<T>;
  constexpr int V = kValues<T, P::vectorized>, U = P::kSteps, K = P::kSums;
  const Shape& shape = k.shape;
  if constexpr (P::channels_last) {
    const auto number = number_of(w);
    const Item<T, true, P::vectorized> item(w, shape, everything(shape), k.maps[0], number.item, number.exists);
    Track<T> in[3], out = item.track(k.out);
#pragma unroll
    for (int m = 0; m < P::kMaps; ++m) in[m] = item.track(k.maps[m]);
    Coefficient<A, V, true> coefficients[P::kCoefficients];
#pragma unroll
    for (int i = 0; i < P::kCoefficients; ++i)
      coefficients[i] = coefficient<A, V, true>(k.coefficients[i], item.n, item.c, item.real);
    const int64_t row = item.n * shape.positions() + item.begin;
    const int64_t stripe = item.real ? item.c / (int64_t(w.columns) * V) : 0;
    const RowTracks<A, V, true, P::kRows> tracks(k, row, 0);
    for (int i = item.lane; i < item.steps; i += item.lanes * U) {
      Raw<T, V> raw[U][3];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
#pragma unroll
        for (int m = 0; m < P::kMaps; ++m)
          if (step < item.steps && in[m].first) raw[u][m] = load<T, V>(item.at(in[m], k.maps[m], shape, step));
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
        if (step >= item.steps) break;
        A sums[K];
#pragma unroll
        for (int s = 0; s < K; ++s) sums[s] = 0;
        if (item.real) {
          Row<A, V, true> rows[P::kRows];
          tracks.template read<V>(step, rows);
          A found[K + 1][V];
          Raw<T, V> result;
          P::template step<V>(k, coefficients, rows, raw[u], result, found);
          if (P::kWrites && out.first) store<T, V>(item.at(out, k.out, shape, step), result, shape.stream);
#pragma unroll
          for (int s = 0; s < K; ++s)
#pragma unroll
            for (int j = 0; j < V; ++j) sums[s] += found[s][j];
        }
#pragma unroll
        for (int s = 0; s < K; ++s) {
          const A sum = add_columns(w, sums[s]);
          if (item.real && int(threadIdx.x) % w.columns == 0) keep<A>(parts, stripe, s, row + step, sum);
        }
      }
    }
  } else {
    const Tile<T, P::vectorized> tile(w, shape);
    SumSet<A, K * V> mine;
#pragma unroll
    for (int j = 0; j < K * V; ++j) mine.value[j] = 0;
    const int64_t row = tile.n * shape.positions() + tile.position;
    if (tile.real) {
      T *in[3], *out = tile.first(k.out, shape);
#pragma unroll
      for (int m = 0; m < P::kMaps; ++m) in[m] = tile.first(k.maps[m], shape);
      Row<A, V, false> rows[P::kRows];
      RowTracks<A, V, false, P::kRows>(k, row, 0).template read<V>(0, rows);
      for (int64_t c = tile.begin + tile.lane; c < tile.end; c += tile.lanes * U) {
        Raw<T, V> raw[U][3];
        Coefficient<A, V, false> coefficients[U][P::kCoefficients];
#pragma unroll
        for (int u = 0; u < U; ++u) {
          const int64_t channel = c + u * tile.lanes;
#pragma unroll
          for (int m = 0; m < P::kMaps; ++m)
            if (channel < tile.end && in[m]) raw[u][m] = load<T, V>(in[m] + channel * k.maps[m].c);
#pragma unroll
          for (int i = 0; i < P::kCoefficients; ++i)
            coefficients[u][i] = coefficient<A, V, false>(k.coefficients[i], tile.n, channel, channel < tile.end);
        }
#pragma unroll
        for (int u = 0; u < U; ++u) {
          const int64_t channel = c + u * tile.lanes;
          if (channel >= tile.end) break;
          A found[K + 1][V];
          Raw<T, V> result;
          P::template step<V>(k, coefficients[u], rows, raw[u], result, found);
          if (P::kWrites && out) store<T, V>(out + channel * k.out.c, result, shape.stream);
#pragma unroll
          for (int s = 0; s < K; ++s)
#pragma unroll
            for (int j = 0; j < V; ++j) mine.value[s * V + j] += found[s][j];
        }
      }
    }
    merge_lanes(mine, w, shared);
    if (tile.lane != 0 || !tile.real) return;
#pragma unroll
    for (int j = 0; j < K * V; ++j) keep<A>(parts, tile.segment, j / V, row + j % V, mine.value[j]);
  }
}

}  // namespace fusednorm
