// fusednorm._cuda: importing it registers the operators' CUDA kernels; it says how it was built.
#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include <string>

#include "head.h"

namespace py = pybind11;

namespace {

std::string version_of(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of fusednorm.";
  m.def("build_info", [] {
    py::dict info;
    info["cuda"] = version_of(CUDART_VERSION);
    info["architectures"] = FUSEDNORM_CUDA_ARCHS;
    info["host_flags"] = FUSEDNORM_FLAGS;
    return info;
  });
  m.def(
      "runs_on",
      [](int device) {
        int before = 0;
        if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) return false;
        const bool runs = fusednorm::compiled_for() >= 8;
        return cudaSetDevice(before) == cudaSuccess && runs;
      },
      "Whether there are kernels for this device among those that were built.");
}
