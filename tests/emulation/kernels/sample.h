// What the samples share. They run on a GPU, too, compiled by nvcc.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

namespace fusednorm {
extern __shared__ __align__(16) unsigned char shared_bytes[];
}

#define CHECK(call)                                                               \
  do {                                                                            \
    const cudaError_t error_ = (call);                                            \
    if (error_ != cudaSuccess) {                                                  \
      std::printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_)); \
      std::exit(1);                                                               \
    }                                                                             \
  } while (0)

// Memory that host and device see.
template <typename T>
T* allocate(size_t n) {
  T* pointer = nullptr;
  CHECK(cudaMallocManaged(&pointer, n * sizeof(T)));
  return pointer;
}

inline cudaLaunchConfig_t configure(dim3 grid, dim3 block, size_t shared = 0) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  return config;
}

template <typename... Parameters, typename... Arguments>
void launch(const cudaLaunchConfig_t& config, void (*kernel)(Parameters...), Arguments... arguments) {
  CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  CHECK(cudaDeviceSynchronize());
}
