#include "device.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "head.h"
#include "resident.h"
#include "tuning.h"

namespace fusednorm {

namespace {

constexpr int kDevices = 64;

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// Asked once: such calls cost as much as a launch.
const Stream& properties(int device) {
  static std::array<std::once_flag, kDevices> asked;
  static std::array<Stream, kDevices> known;
  STD_TORCH_CHECK(device >= 0 && device < kDevices, "fusednorm: x: on device ", device, ", beyond the ", kDevices,
                  " that are provided for");
  std::call_once(asked[device], [device] {
    Stream& s = known[device];
    s.stream = nullptr;
    s.sms = attribute(cudaDevAttrMultiProcessorCount, device);
    s.major = std::min(attribute(cudaDevAttrComputeCapabilityMajor, device), compiled_for());
    s.l2 = size_t(attribute(cudaDevAttrL2CacheSize, device));
    s.shared = size_t(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    s.cluster = largest_cluster(s);
  });
  return known[device];
}

}  // namespace

Cuda::Cuda(const Tensor& x) : x_(x) {
#ifdef FUSEDNORM_EMULATION  // tests/emulation: the kernels run on the CPU, on tensors in main memory
  stream_ = properties(0);
#else
  const int device = x.get_device_index();
  guard_.emplace(device);
  stream_ = properties(device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  stream_.stream = static_cast<cudaStream_t>(stream);
#endif
}

Shape Cuda::shape_of(const Tensor& x) const {
  Shape s = fusednorm::shape_of(x);
  s.stream = double(x.numel()) * double(x.element_size()) > tuning::kStreamShare * double(stream_.l2);
  return s;
}

void* Cuda::memory(size_t bytes) {
  if (bytes == 0) return nullptr;
  const int64_t sizes[] = {int64_t(bytes + 7) / 8};
  kept_.push_back(torch::stable::new_empty(x_, {sizes, 1}, ScalarType::Double));
  return kept_.back().data_ptr();
}

}  // namespace fusednorm
