// FAULT 1: some threads wait at the barrier, the others for them in a shuffle; 2: for a lane that has left;
// 3: for a flag that nobody sets.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__global__ void meet(int* result) {
  const int lane = int(threadIdx.x % 32);
  int value = lane;
  if (threadIdx.x >= 96) return;  // no barrier waits for those who left
  if (FAULT == 1 && lane == 3) __syncthreads();
  if (FAULT == 2 && lane == 3) return;
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  while (FAULT == 3 && *static_cast<volatile int*>(result) == 0) __nanosleep(100);
  __syncthreads();
  atomicAdd(result, value);
}

int main() {
  int* result = allocate<int>(1);
  *result = 0;
  launch(configure(1, 128), meet, result);
  std::printf(*result == 3 * 2 * 31 * 16 ? "right\n" : "wrong\n");
}
