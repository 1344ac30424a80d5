// Launching, and what depends on the kernel.
#pragma once

enum cudaLaunchAttributeID {
  cudaLaunchAttributeIgnore = 0,
  cudaLaunchAttributeCooperative = 2,
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6,
};

union cudaLaunchAttributeValue {
  char pad[64];
  int cooperative;
  struct {
    unsigned x, y, z;
  } clusterDim;
  int programmaticStreamSerializationAllowed;
};

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace emulation {

// `call(closure)` runs the kernel in one thread; `kernel` names it.
cudaError_t launch(const cudaLaunchConfig_t* config, const void* kernel, void (*call)(void*), void* closure);
cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t occupancy(int* blocks, const void* kernel, int threads, size_t shared);
cudaError_t cluster_occupancy(int* clusters, const void* kernel, const cudaLaunchConfig_t* config);

}  // namespace emulation

template <typename... ExpTypes, typename... ActTypes>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(ExpTypes...), ActTypes&&... args) {
  static_assert((sizeof(ExpTypes) + ... + 0) <= 4096, "too many bytes of arguments");
  return [&](ExpTypes... coerced) {
    auto run = [&] { kernel(coerced...); };
    return emulation::launch(
        config, reinterpret_cast<const void*>(kernel), [](void* closure) { (*static_cast<decltype(run)*>(closure))(); },
        &run);
  }(std::forward<ActTypes>(args)...);
}

template <typename T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
  return emulation::set_function_attribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <typename T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, T* kernel, int threads, size_t shared) {
  return emulation::occupancy(blocks, reinterpret_cast<const void*>(kernel), threads, shared);
}

template <typename T>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, T* kernel, const cudaLaunchConfig_t* config) {
  return emulation::cluster_occupancy(clusters, reinterpret_cast<const void*>(kernel), config);
}
