// Launched before the kernel ahead of it has ended. FAULT 1: one block does not wait for that.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__global__ void increment(int* x) {
  if (!(FAULT == 1 && blockIdx.x == 1)) cudaGridDependencySynchronize();
  x[blockIdx.x * blockDim.x + threadIdx.x] += 1;
  cudaTriggerProgrammaticLaunchCompletion();
}

int main() {
  int* x = allocate<int>(128);
  for (int i = 0; i < 128; ++i) x[i] = 0;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = configure(4, 32);
  config.attrs = &attribute;
  config.numAttrs = 1;
  launch(config, increment, x);
  launch(config, increment, x);
  int sum = 0;
  for (int i = 0; i < 128; ++i) sum += x[i];
  std::printf(sum == 256 ? "right\n" : "wrong\n");
}
