// Starting kernels: on the caller's stream, with the attributes that they need, and with errors that say which kernel.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace fusednorm {

// Where a layer runs: the tensor's device has been made current, and this is its stream.
struct Stream {
  cudaStream_t stream;
  int sms;            // multiprocessors
  int major;          // of the compute capability that the kernels were compiled for, at most the device's
  size_t l2, shared;  // bytes: of L2, and of shared memory that a block may have
  int cluster = 1;    // the most blocks of a cluster that each fill a multiprocessor
};

struct Launch {
  const char* name;
  int64_t grid;
  int block;
  size_t shared = 0;
  bool cooperative = false;
  int cluster = 1;
};

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("fusednorm: ") + what + ": " + cudaGetErrorString(error));
}

// Whatever a block may ask for beyond this must be announced.
constexpr size_t kSharedByDefault = 48 * 1024;

template <class... Parameters, class... Arguments>
void launch(const Launch& l, const Stream& s, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (l.shared > kSharedByDefault)
    // Always the same value: another thread may be launching the same kernel with less.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(s.shared)), l.name);
  if (l.grid > 0x7fffffff) throw std::runtime_error(std::string("fusednorm: ") + l.name + ": x has too many planes");
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  // May start while the kernel before it ends: all of ours wait in wait_for_previous_kernel (team.cuh).
  if (s.major >= 9 && !l.cooperative) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (l.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  if (l.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = unsigned(l.cluster);
    attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(l.grid), 1, 1);
  config.blockDim = dim3(unsigned(l.block), 1, 1);
  config.dynamicSmemBytes = l.shared;
  config.stream = s.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), l.name);
}

}  // namespace fusednorm
