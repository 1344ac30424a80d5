// A sum over a grid that waits for itself, launched cooperatively. FAULT 1: without the wait; 2: a block leaves.
#include <cooperative_groups.h>

#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__global__ void sum(int* partial, int* result) {
  if (threadIdx.x == 0) partial[blockIdx.x] = int(blockIdx.x) + 1;
  if (FAULT == 2 && blockIdx.x == 2) return;
  if (FAULT != 1) cooperative_groups::this_grid().sync();
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += partial[i];
  result[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

int main() {
  const int blocks = 8, threads = 64;
  int* partial = allocate<int>(blocks);
  int* result = allocate<int>(blocks * threads);
  for (int i = 0; i < blocks; ++i) partial[i] = 0;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = configure(blocks, threads);
  config.attrs = &attribute;
  config.numAttrs = 1;
  launch(config, sum, partial, result);
  int wrong = 0;
  for (int i = 0; i < blocks * threads; ++i) wrong += result[i] != blocks * (blocks + 1) / 2;
  std::printf(wrong ? "wrong\n" : "right\n");
}
