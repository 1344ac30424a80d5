// What kernels that keep a sample add up: over a block's threads, and over the blocks of a team. All threads of a block
// come to each function here.
#pragma once

#include "sample.h"
#include "team.cuh"

namespace fusednorm {

// Sums (with `most`: maxima) over a block's threads, in all of them.
template <int M, bool most = false>
__device__ __forceinline__ void over_block(double (&value)[M], unsigned char* room) {
  auto* entries = reinterpret_cast<double*>(room + kKeptRoom - 1024);
  const auto joined = [](double a, double b) { return most ? (a > b ? a : b) : a + b; };
#pragma unroll
  for (int m = 0; m < M; ++m)
    for (int offset = 1; offset < 32; offset *= 2)
      value[m] = joined(value[m], __shfl_xor_sync(0xffffffffu, value[m], offset));
  const int warps = int(blockDim.x) / 32;
  __syncthreads();  // who read the last ones has done so
  if (threadIdx.x % 32 == 0)
#pragma unroll
    for (int m = 0; m < M; ++m) entries[int(threadIdx.x) / 32 * M + m] = value[m];
  __syncthreads();
#pragma unroll
  for (int m = 0; m < M; ++m) {
    value[m] = entries[m];
    for (int warp = 1; warp < warps; ++warp) value[m] = joined(value[m], entries[warp * M + m]);
  }
}

template <class F>
__device__ __forceinline__ double sum_of(int count, unsigned char* room, F&& f) {
  double sum[1] = {0};
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) sum[0] += double(f(i));
  over_block(sum, room);
  return sum[0];
}

// What the blocks of a team found at each position, added in their order. exchange: [sample][block][position]
__device__ __forceinline__ void add_blocks(const Team& team, double* exchange, int64_t n, float* row, int S) {
  __syncthreads();
  if (team.size == 1) return;
  double* all = exchange + n * team.size * S;
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) all[team.rank * S + s] = double(row[s]);
  team.sync();
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    double sum = 0;
    for (int rank = 0; rank < team.size; ++rank) sum += all[rank * S + s];
    row[s] = float(sum);
  }
  __syncthreads();
}

}  // namespace fusednorm
