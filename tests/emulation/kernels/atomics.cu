// Integer atomics, and the block that comes last. FAULT 1: an atomic on floats, which must not compile.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

struct Results {
  int sum, largest;
  unsigned bits, ticket, lasts, exchanged;
  unsigned long long wide;
  float sum_of_floats;
};

__global__ void count(Results* results) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&results->sum, i);
  atomicMax(&results->largest, i);
  atomicOr(&results->bits, 1u << (i % 32));
  atomicAdd(&results->wide, 1ull << 32);
  if (atomicCAS(&results->exchanged, 0u, unsigned(i + 1)) == 0u) atomicExch(&results->exchanged, 7u);
#if FAULT == 1
  atomicAdd(&results->sum_of_floats, 1.0f);
#endif
  __syncthreads();
  __threadfence();
  if (threadIdx.x == 0 && atomicInc(&results->ticket, gridDim.x - 1) == gridDim.x - 1) ++results->lasts;
}

int main() {
  Results* results = allocate<Results>(1);
  *results = {};
  launch(configure(dim3(10), dim3(96)), count, results);
  std::printf("%d %d %u %u %u %u %llu\n", results->sum, results->largest, results->bits, results->ticket,
              results->lasts, results->exchanged, results->wide >> 32);
}
