// How the head's work is divided among a team's blocks, warps and threads, and how their sums come together: always in
// the same order. All functions here are for all threads of a block together.
#pragma once

#include "head_scratch.h"
#include "team.cuh"

namespace fusednorm {

__device__ __forceinline__ int lane_of_warp() { return int(threadIdx.x) % 32; }
__device__ __forceinline__ int warp_of_block() { return int(threadIdx.x) / 32; }
__device__ __forceinline__ int warps_of_block() { return int(blockDim.x) / 32; }

// Every lane gets the sum.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll 1
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

__device__ __forceinline__ double warp_max(double value) {
#pragma unroll 1
  for (int offset = 16; offset > 0; offset /= 2) {
    const double other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// use(i, load(i)) for i = begin, begin + step, ...: U loads are under way before the first of their values is used.
template <int U, class Load, class Use>
__device__ __forceinline__ void in_flight(unsigned begin, unsigned end, unsigned step, Load load, Use use) {
#pragma unroll 1
  for (unsigned i = begin; i < end; i += U * step) {
    decltype(load(i)) values[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * step < end) values[u] = load(i + u * step);
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * step < end) use(i + u * step, values[u]);
  }
}

// f(item) for this warp's items; the first ones go to different blocks.
template <class F>
__device__ __forceinline__ void each_warp_item(const Team& team, int64_t items, F f) {
  const int64_t step = int64_t(warps_of_block()) * team.size;
  for (int64_t i = int64_t(warp_of_block()) * team.size + team.rank; i < items; i += step) f(i);
}

// From the other end, for work that goes on beside other work: where that leaves blocks idle, these are they.
__device__ __forceinline__ Team reversed(const Team& team) {
  return {team.scope, team.size - 1 - team.rank, team.size};
}

// The block's warps in bands: a band goes through the samples of one item, 32 channels, with `splits` warps; a lane has
// a channel.
struct Bands {
  int splits, count, band, split;

  __device__ __forceinline__ explicit Bands(int64_t samples) : splits(1) {
    const int warps = warps_of_block();
    while (splits * 2 <= warps && splits * 8 <= samples) splits *= 2;  // four samples or more for a warp
    count = warps / splits;
    band = warp_of_block() / splits;
    split = warp_of_block() % splits;
  }

  // f(item, active): every warp of the block as often, for f has barriers.
  template <class F>
  __device__ __forceinline__ void each(const Team& team, int64_t items, F f) const {
    for (int64_t first = team.rank; first < items; first += int64_t(team.size) * count) {
      const int64_t item = first + int64_t(band) * team.size;
      f(item, band < count && item < items);
    }
  }

  // Each value summed over the band's warps, lane by lane; all of them get the sums.
  template <class T, int V>
  __device__ __forceinline__ void sum(T (&values)[V], unsigned char* shared) const {
    constexpr int together = head_shared_bytes(1) / int(sizeof(T));  // values of a thread that there is room for
    if (splits == 1) return;
    T* area = reinterpret_cast<T*>(shared);
    const int warps = warps_of_block(), lane = lane_of_warp();
#pragma unroll
    for (int begin = 0; begin < V; begin += together) {
#pragma unroll
      for (int v = 0; v < together; ++v)
        if (begin + v < V) area[(v * warps + warp_of_block()) * 32 + lane] = values[begin + v];
      __syncthreads();
      for (int v = split; v < together && begin + v < V && band < count; v += splits) {
        T* row = area + (v * warps + band * splits) * 32 + lane;
        T total = row[0];
#pragma unroll 1
        for (int w = 1; w < splits; ++w) total += row[w * 32];
        row[0] = total;
      }
      __syncthreads();
#pragma unroll
      for (int v = 0; v < together; ++v)
        if (begin + v < V) values[begin + v] = area[(v * warps + warp_of_block() - split) * 32 + lane];
      __syncthreads();
    }
  }
};

// The block's threads in crews: one for a group of channels, from one thread to all of them.
struct Crew {
  int threads, count, number, member;

  __device__ __forceinline__ explicit Crew(int channels) : threads(1) {
    while (threads < channels && threads * 2 <= int(blockDim.x)) threads *= 2;
    count = int(blockDim.x) / threads;
    number = int(threadIdx.x) / threads;
    member = int(threadIdx.x) % threads;
  }

  template <class F>
  __device__ __forceinline__ void each(const Team& team, int64_t items, F f) const {
    for (int64_t first = team.rank; first < items; first += int64_t(team.size) * count) {
      const int64_t item = first + int64_t(number) * team.size;
      f(item, number < count && item < items);
    }
  }

  __device__ __forceinline__ double sum(double value, unsigned char* shared) const {
#pragma unroll 1
    for (int offset = (threads < 32 ? threads : 32) / 2; offset > 0; offset /= 2)
      value += __shfl_xor_sync(0xffffffffu, value, offset);
    if (threads <= 32) return value;
    double* area = reinterpret_cast<double*>(shared);
    if (lane_of_warp() == 0) area[warp_of_block()] = value;
    __syncthreads();
    const int warps = threads / 32;
    value = 0;
#pragma unroll 1
    for (int w = 0; w < warps && number < count; ++w) value += area[number * warps + w];
    __syncthreads();
    return value;
  }
};

// done(n, i, sum_j row(n, j) matrix(i, j), whether it is the first part of the sum) in some lane, for i < K; then
// after(first, count) once these samples are done, with all the block. A block takes whole samples: their rows lie in
// shared memory, as many as there is room for, or parts of one; a warp takes an i. Lanes sum in A, warps in double.
template <class A, class Row, class Matrix, class Done, class After>
__device__ __forceinline__ void row_products(int width, int K, const Unit& unit, const Team& team,
                                             unsigned char* shared, Row row, Matrix matrix, Done done, After after) {
  A* area = reinterpret_cast<A*>(shared);
  const int room = head_shared_bytes(int(blockDim.x)) / int(sizeof(A)), length = width < room ? width : room;
  const int64_t samples = unit.n1 - unit.n0, share = (samples + team.size - 1) / team.size;
  const int together = int(share < room / length ? share : room / length);
  for (int64_t first = unit.n0 + int64_t(team.rank) * together; first < unit.n1;
       first += int64_t(team.size) * together) {
    const int here = int(unit.n1 - first < together ? unit.n1 - first : together);
    for (int begin = 0; begin < width; begin += length) {
      const int count = width - begin < length ? width - begin : length;
#pragma unroll 1
      for (int i = int(threadIdx.x); i < here * count; i += int(blockDim.x))
        area[i] = row(first + i / count, begin + i % count);
      __syncthreads();
      for (int i = warp_of_block(); i < here * K; i += warps_of_block()) {
        const int sample = i / K, component = i % K;
        A sum = 0;
        in_flight<8>(
            lane_of_warp(), count, 32, [&](int j) { return matrix(component, begin + j); },
            [&](int j, A value) { sum += area[sample * count + j] * value; });
        const double total = warp_sum(double(sum));
        if (lane_of_warp() == 0) done(first + sample, component, total, begin == 0);
      }
      __syncthreads();
    }
    after(first, here);
  }
}

// take(i, value(i)) for i < K, in order, in all lanes of a warp: lanes calculate 32 values side by side and hand them
// round. Called again with the same values, and no more than 32, it does not calculate them again.
template <class A>
struct HandRound {
  A mine = 0;
  int have = -1;

  template <class Value, class Take>
  __device__ __forceinline__ void operator()(int K, Value value, Take take) {
    for (int begin = 0; begin < K; begin += 32) {
      const int i = begin + lane_of_warp(), count = K - begin < 32 ? K - begin : 32;
      if (have != begin) mine = i < K ? value(i) : A(0);
      have = begin;
#pragma unroll 4
      for (int j = 0; j < count; ++j) take(begin + j, __shfl_sync(0xffffffffu, mine, j));
    }
  }
};

// f(n, start(n), hand round, c, whether c is a channel) for all of the unit's samples and channels: a warp has 32
// channels of a sample at a time, and no more samples than it must: start(n) is theirs once.
template <class A, class Start, class F>
__device__ __forceinline__ void each_plane(int C, const Unit& unit, const Team& team, Start start, F f) {
  const int64_t samples = unit.n1 - unit.n0, warps = int64_t(warps_of_block()) * team.size;
  const int tiles = (C + 31) / 32;
  const int parts = warps <= samples ? 1 : warps / samples < tiles ? int(warps / samples) : tiles;
  each_warp_item(team, samples * parts, [&](int64_t item) {
    const int64_t n = unit.n0 + item / parts;
    const auto started = start(n);
    HandRound<A> hand_round;
    for (int tile = int(item % parts); tile < tiles; tile += parts) {
      const int c = tile * 32 + lane_of_warp();
      f(n, started, hand_round, c < C ? c : C - 1, c < C);
    }
  });
}

}  // namespace fusednorm
