// Copies through shared memory, 16 bytes a thread. FAULT 1: stores past a global array; 2: past the shared memory
// that was asked for; 3: loads from an address that 16 does not divide; 4: before the array.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__global__ void copy(const float* __restrict__ x, float* __restrict__ y) {
  float4* shared = reinterpret_cast<float4*>(fusednorm::shared_bytes);
  const int i = int(threadIdx.x), shift = FAULT == 3 ? 1 : 0;
  shared[i + (FAULT == 2 ? 1 : 0)] = __ldcs(reinterpret_cast<const float4*>(x + shift) + i);
  __syncthreads();
  __stcs(reinterpret_cast<float4*>(y) + i + (FAULT == 1 ? 1 : FAULT == 4 ? -1 : 0), shared[i]);
}

int main() {
  const int n = 64;
  float* x = allocate<float>(4 * n + (FAULT == 3 ? 4 : 0));
  float* y = allocate<float>(4 * n);
  for (int i = 0; i < 4 * n; ++i) x[i] = float(i);
  launch(configure(1, n, n * sizeof(float4)), copy, x, y);
  int wrong = 0;
  for (int i = 0; i < 4 * n; ++i) wrong += y[i] != i;
  std::printf(wrong ? "wrong\n" : "right\n");
}
