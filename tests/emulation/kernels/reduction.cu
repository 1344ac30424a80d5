// A block's sum by shuffles and shared memory. With -DFAULT=1 the barrier between the two is missing, with
// -DFAULT=2 the one that keeps the next sum out of a buffer still being read.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__device__ __forceinline__ float block_sum(float value) {
  float* partial = reinterpret_cast<float*>(fusednorm::shared_bytes);
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  if (FAULT != 1) __syncthreads();
  float sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += partial[warp];
  if (FAULT != 2) __syncthreads();
  return sum;
}

__global__ void __launch_bounds__(256) sums(const float* __restrict__ x, float* __restrict__ result) {
  const float first = block_sum(x[threadIdx.x]);
  const float second = block_sum(2 * first + threadIdx.x);
  result[threadIdx.x] = second;
}

int main() {
  const int n = 256;
  float* x = allocate<float>(n);
  float* result = allocate<float>(n);
  for (int i = 0; i < n; ++i) x[i] = float(i % 7);
  launch(configure(1, n, n / 32 * sizeof(float)), sums, x, result);
  float first = 0, wrong = 0;
  for (int i = 0; i < n; ++i) first += x[i];
  for (int i = 0; i < n; ++i) wrong += !(result[i] == n * 2 * first + n * (n - 1) / 2);
  std::printf(wrong ? "wrong\n" : "right\n");
}
