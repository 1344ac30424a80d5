// The device: an H100 with few multiprocessors, or what the environment makes of it: less shared memory, so that kernels
// take other ways, or a lower compute capability.
#include <cstdlib>

#include "state.h"

namespace emulation {

namespace {

int from_environment(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text ? atoi(text) : otherwise;
}

}  // namespace

unsigned multiprocessors() {
  const int count = from_environment("FUSEDNORM_EMULATION_MULTIPROCESSORS", 4);
  return unsigned(count < 1 ? 1 : count);
}

// What registers would allow is not known here.
unsigned blocks_per_multiprocessor(unsigned threads, size_t shared) {
  const unsigned warps = (threads + 31) / 32;
  const size_t by_shared = kSharedPerMultiprocessor / (shared + kSharedReserved);
  return unsigned(min(size_t(min(kBlocksPerMultiprocessor, kThreadsPerMultiprocessor / 32 / warps)), by_shared));
}

}  // namespace emulation

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return *value = emulation::kThreadsPerBlock, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return *value = emulation::kSharedUnasked, cudaSuccess;
    case cudaDevAttrWarpSize:
      return *value = 32, cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      return *value = int(emulation::multiprocessors()), cudaSuccess;
    case cudaDevAttrL2CacheSize:
      return *value = 50 << 20, cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return *value = emulation::kThreadsPerMultiprocessor, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      return *value = emulation::from_environment("FUSEDNORM_EMULATION_MAJOR", 9), cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = 0, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return *value = emulation::kSharedPerMultiprocessor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = emulation::from_environment("FUSEDNORM_EMULATION_SHARED", emulation::kSharedPerBlock),
             cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return *value = emulation::kBlocksPerMultiprocessor, cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      return *value = emulation::kSharedReserved, cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrClusterLaunch:
      return *value = 1, cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

cudaError_t cudaMallocManaged(void** pointer, size_t size, unsigned) {
  *pointer = aligned_alloc(256, (size + 255) / 256 * 256);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void* pointer) {
  free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t) {
  memset(pointer, value, size);
  return cudaSuccess;
}
