// A block's channels of a sample, in shared memory as a matrix without gaps: planar a row is a channel, channels_last a
// row is a position. What a kernel does with them is a function of channel c, position s and `count` values side by
// side in a row, 16 bytes where rows are whole steps, else one; sums go along rows or across them. All threads of a
// block come to each function here.
#pragma once

#include <type_traits>

#include "position_walk.cuh"
#include "sample.h"

namespace fusednorm {

template <int n>
using Count = std::integral_constant<int, n>;

// A matrix in shared or global memory; null: absent.
template <class T>
struct Matrix {
  T* data;
  int stride;  // from row to row
  bool shared;
  bool steps;  // rows begin at 16-byte boundaries

  template <int count>
  __device__ __forceinline__ Raw<T, count> read(int row, int column) const {
    const T* at = data + row * stride + column;
    if (!shared) return load_written<T, count>(at);
    if constexpr (count == 1)
      return {*at};
    else
      return {*reinterpret_cast<const uint4*>(at)};
  }

  template <int count>
  __device__ __forceinline__ void write(int row, int column, const Raw<T, count>& raw, bool stream) const {
    T* at = data + row * stride + column;
    if (!shared) return store<T, count>(at, raw, stream);
    if constexpr (count == 1)
      *at = raw.bits;
    else
      *reinterpret_cast<uint4*>(at) = raw.bits;
  }

  // Of global memory, wherever its rows begin.
  template <int count>
  __device__ __forceinline__ Raw<T, count> read_anywhere(int row, int column) const {
    if constexpr (count > 1) {
      if (!steps) {
        detail::Words<T> words;
#pragma unroll
        for (int j = 0; j < count; ++j) words.each[j] = detail::to_bits<T>(data[row * stride + column + j]);
        return {words.all};
      }
    }
    return read<count>(row, column);
  }
  template <int count>
  __device__ __forceinline__ void write_anywhere(int row, int column, const Raw<T, count>& raw, bool stream) const {
    if constexpr (count > 1) {
      if (!steps) {
        detail::Words<T> words;
        words.all = raw.bits;
#pragma unroll
        for (int j = 0; j < count; ++j) data[row * stride + column + j] = detail::from_bits<T>(words.each[j]);
        return;
      }
    }
    write<count>(row, column, raw, stream);
  }
};

template <class Type, bool channels_last>
struct Sample {
  using T = Type;
  static constexpr int V = kValues<T, true>;

  int64_t n;
  int first, channels, positions;  // channels [first, first + channels)
  int rows, columns;
  bool whole;   // rows are whole steps
  bool stream;  // results are not for the caches
  T *x, *g;     // shared; g is the second map
  float* by_position;
  float* by_channel;
  int position_stride, channel_stride;
  unsigned char* room;

  __device__ __forceinline__ Sample(const Kept& k, int64_t sample, int rank, const Room& r)
      : n(sample),
        first(rank * k.channels),
        channels(min(k.channels, int(k.shape.C) - first)),
        positions(int(k.shape.positions())),
        rows(channels_last ? positions : channels),
        columns(channels_last ? channels : positions),
        whole(columns % V == 0),
        stream(k.shape.stream),
        position_stride(up(positions, 4)),
        channel_stride(up(k.channels, 4)) {
    const int map_bytes = up(k.channels * positions * int(sizeof(T)), 16);
    x = reinterpret_cast<T*>(shared_bytes);
    g = reinterpret_cast<T*>(shared_bytes + map_bytes);
    by_position = reinterpret_cast<float*>(shared_bytes + r.maps * map_bytes);
    by_channel = by_position + r.rows * position_stride;
    room = reinterpret_cast<unsigned char*>(by_channel + r.arrays * channel_stride);
  }

  static __device__ __forceinline__ int up(int n, int to) { return (n + to - 1) / to * to; }

  // A value of each position, and of each channel here.
  __device__ __forceinline__ float* row(int i) const { return by_position + i * position_stride; }
  __device__ __forceinline__ float* values(int i) const { return by_channel + i * channel_stride; }

  __device__ __forceinline__ Matrix<T> kept(T* map) const { return {map, columns, true, whole}; }

  __device__ __forceinline__ Matrix<T> outside(const Kept& k, const Operand& t) const {
    if (t.data == nullptr) return {nullptr, 0, false, true};
    T* data = static_cast<T*>(t.data) + n * t.n + (channels_last ? first : int64_t(first) * positions);
    const int stride = channels_last ? int(k.shape.C) : positions;
    return {data, stride, false, stride % V == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0};
  }

  static __device__ __forceinline__ int channel(int row, int column) { return channels_last ? column : row; }
  static __device__ __forceinline__ int position(int row, int column) { return channels_last ? row : column; }
  static __device__ __forceinline__ int row_of(int c, int s) { return channels_last ? s : c; }
  static __device__ __forceinline__ int column_of(int c, int s) { return channels_last ? c : s; }

  template <int count>
  __device__ __forceinline__ Raw<T, count> at(T* map, int c, int s) const {
    return kept(map).template read<count>(row_of(c, s), column_of(c, s));
  }

  // Values in shared memory of `count` channels or positions: one for all, or side by side.
  template <int count, bool one>
  static __device__ __forceinline__ Coefficient<float, count, !one> some(const float* from, int i) {
    Coefficient<float, count, !one> found;
    if constexpr (one || count == 1) {
      found.value[0] = from[i];
    } else {
#pragma unroll
      for (int j = 0; j < count; j += 4) {
        const Raw<float, 4> raw = {*reinterpret_cast<const uint4*>(from + i + j)};
#pragma unroll
        for (int l = 0; l < 4; ++l) found.value[j + l] = value_of<float, 4>(raw, l);
      }
    }
    return found;
  }
  template <int count>
  static __device__ __forceinline__ auto of_channels(const float* from, int c) {
    return some<count, !channels_last>(from, c);
  }
  template <int count>
  static __device__ __forceinline__ auto of_positions(const float* from, int s) {
    return some<count, channels_last>(from, s);
  }

  // f(Count<count>, c, s, Raw<T, count> (&in)[I], Raw<T, count> (&out)[O]) for all values, from and to memory 16 bytes
  // at a time, U of them under way, whether or not rows are whole steps.
  template <int U, int I, int O, class F>
  __device__ __forceinline__ void each(const Matrix<T> (&in)[I], const Matrix<T> (&out)[O], F&& f) const {
    bool wide = columns >= V;
    for (const auto& t : in) wide = wide && in_steps(t);
    for (const auto& t : out) wide = wide && in_steps(t);
    const int all = rows * columns;
    if (wide && whole) each_step<true, U>(in, out, f);
    if (wide && !whole) each_step<false, U>(in, out, f);
#pragma unroll 1
    for (int e = (wide ? all / V * V : 0) + int(threadIdx.x); e < all; e += int(blockDim.x)) {
      const int row = e / columns, column = e - row * columns;
      Raw<T, 1> raw[I], result[O];
#pragma unroll
      for (int i = 0; i < I; ++i)
        if (in[i].data) raw[i] = in[i].template read<1>(row, column);
      f(Count<1>{}, channel(row, column), position(row, column), raw, result);
#pragma unroll
      for (int o = 0; o < O; ++o)
        if (out[o].data) out[o].template write<1>(row, column, result[o], stream);
    }
  }

  // A map of any strides, value by value.
  __device__ __forceinline__ void copy(const Kept& k, const Operand& from, T* to) const {
    const T* sample = static_cast<const T*>(from.data) + n * from.n + first * from.c;
#pragma unroll 1
    for (int e = int(threadIdx.x); e < rows * columns; e += int(blockDim.x)) {
      const int row = e / columns, column = e - row * columns;
      to[e] = sample[channel(row, column) * from.c + offset_of(from, k.shape, position(row, column))];
    }
  }

  // out(c, Sum (&sums)[M]) of term(Count<count>, c, s, float (&found)[M][count]) over a channel's positions.
  template <int M, class Term, class Out>
  __device__ __forceinline__ void plane_sums(Term&& term, Out&& out) const {
    if constexpr (channels_last)
      across<M>(term, out);
    else
      along<M, double>(term, out);
  }

  // Likewise out(s, sums) over the channels here, at every position.
  template <int M, class Term, class Out>
  __device__ __forceinline__ void position_sums(Term&& term, Out&& out) const {
    if constexpr (channels_last)
      along<M, float>(term, out);
    else
      across<M>(term, out);
  }

 private:
  __device__ __forceinline__ bool in_steps(const Matrix<T>& t) const {
    return t.data == nullptr || (whole && t.steps) ||
           (t.stride == columns && reinterpret_cast<uintptr_t>(t.data) % 16 == 0);
  }

  template <bool whole_rows, int U, int I, int O, class F>
  __device__ __forceinline__ void each_step(const Matrix<T> (&in)[I], const Matrix<T> (&out)[O], F&& f) const {
    const int steps = rows * columns / V, threads = int(blockDim.x);
    const int by_rows = threads * V / columns, by_columns = threads * V - by_rows * columns;
    int row = int(threadIdx.x) * V / columns, column = int(threadIdx.x) * V - row * columns;
    for (int i = int(threadIdx.x); i < steps; i += U * threads) {
      Raw<T, V> raw[U][I];
      int at_row[U], at_column[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        at_row[u] = row, at_column[u] = column;
#pragma unroll
        for (int m = 0; m < I; ++m)
          if (i + u * threads < steps && in[m].data) raw[u][m] = in[m].template read<V>(row, column);
        row += by_rows, column += by_columns;
        if (column >= columns) ++row, column -= columns;
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        if (i + u * threads >= steps) break;
        Raw<T, V> result[O];
        if constexpr (whole_rows)
          f(Count<V>{}, channel(at_row[u], at_column[u]), position(at_row[u], at_column[u]), raw[u], result);
        else
          one_by_one(at_row[u], at_column[u], raw[u], result, f);
#pragma unroll
        for (int o = 0; o < O; ++o)
          if (out[o].data) out[o].template write<V>(at_row[u], at_column[u], result[o], stream);
      }
    }
  }

  // A step that may begin in one row and end in the next.
  template <int I, int O, class F>
  __device__ __forceinline__ void one_by_one(int row, int column, const Raw<T, V> (&raw)[I], Raw<T, V> (&result)[O],
                                             F&& f) const {
    detail::Words<T> words[O];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      Raw<T, 1> one[I], found[O];
#pragma unroll
      for (int m = 0; m < I; ++m) {
        detail::Words<T> from;
        from.all = raw[m].bits;
        one[m] = {detail::from_bits<T>(from.each[j])};
      }
      f(Count<1>{}, channel(row, column), position(row, column), one, found);
#pragma unroll
      for (int o = 0; o < O; ++o) words[o].each[j] = detail::to_bits<T>(found[o].bits);
      if (++column == columns) ++row, column = 0;
    }
#pragma unroll
    for (int o = 0; o < O; ++o) result[o].bits = words[o].all;
  }

  template <int M, class Sum, class Term, class Out>
  __device__ __forceinline__ void along(Term&& term, Out&& out) const {
    if (whole)
      along_rows<M, Sum, V>(term, out);
    else
      along_rows<M, Sum, 1>(term, out);
  }
  template <int M, class Term, class Out>
  __device__ __forceinline__ void across(Term&& term, Out&& out) const {
    if (whole)
      across_rows<M, V>(term, out);
    else
      across_rows<M, 1>(term, out);
  }

  // A row is up to a warp's.
  template <int M, class Sum, int count, class Term, class Out>
  __device__ __forceinline__ void along_rows(Term&& term, Out&& out) const {
    int lanes = 32;
    while (lanes > 1 && lanes / 2 * count >= columns) lanes /= 2;
    const int lane = int(threadIdx.x) % lanes, groups = int(blockDim.x) / lanes;
    for (int before = 0; before < rows; before += groups) {
      const int row = before + int(threadIdx.x) / lanes;
      float sums[M][count];
#pragma unroll
      for (int m = 0; m < M; ++m)
#pragma unroll
        for (int j = 0; j < count; ++j) sums[m][j] = 0;
      if (row < rows) {
        for (int column = lane * count; column < columns; column += lanes * count) {
          float found[M][count];
          term(Count<count>{}, channel(row, column), position(row, column), found);
#pragma unroll
          for (int m = 0; m < M; ++m)
#pragma unroll
            for (int j = 0; j < count; ++j) sums[m][j] += found[m][j];
        }
      }
      Sum total[M];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        total[m] = 0;
#pragma unroll
        for (int j = 0; j < count; ++j) total[m] += Sum(sums[m][j]);
        for (int offset = 1; offset < lanes; offset *= 2) total[m] += __shfl_xor_sync(0xffffffffu, total[m], offset);
      }
      if (lane == 0 && row < rows) out(row, total);
    }
  }

  // Up to 128 columns are a warp's, or several warps' where there are too few.
  template <int M, int count, class Term, class Out>
  __device__ __forceinline__ void across_rows(Term&& term, Out&& out) const {
    const int vectors = columns / count, warps = int(blockDim.x) / 32;
    Walk w{};
    w.columns = 1;
    while (w.columns < min(32, 128 / count) && w.columns < vectors) w.columns *= 2;
    const int stripes = (vectors + w.columns - 1) / w.columns;
    int spread = 1;
    while (spread * 2 * stripes <= warps) spread *= 2;
    w.lanes = 32 / w.columns * spread, w.groups = warps / spread;
    const int group = int(threadIdx.x) / (w.columns * w.lanes), lane = int(threadIdx.x) / w.columns % w.lanes;
    for (int before = 0; before < stripes; before += w.groups) {
      const int column = ((before + group) * w.columns + int(threadIdx.x) % w.columns) * count;
      SumSet<float, count> sums[M];
#pragma unroll
      for (int m = 0; m < M; ++m)
#pragma unroll
        for (int j = 0; j < count; ++j) sums[m].value[j] = 0;
      if (column < columns) {
        for (int row = lane; row < rows; row += w.lanes) {
          float found[M][count];
          term(Count<count>{}, channel(row, column), position(row, column), found);
#pragma unroll
          for (int m = 0; m < M; ++m)
#pragma unroll
            for (int j = 0; j < count; ++j) sums[m].value[j] += found[m][j];
        }
      }
#pragma unroll
      for (int m = 0; m < M; ++m) merge_lanes(sums[m], w, room);
      if (lane == 0 && column < columns) {
#pragma unroll
        for (int j = 0; j < count; ++j) {
          float total[M];
#pragma unroll
          for (int m = 0; m < M; ++m) total[m] = sums[m].value[j];
          out(column + j, total);
        }
      }
    }
  }
};

}  // namespace fusednorm
