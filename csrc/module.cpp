// fusednorm._C: importing it registers the operators' native kernels; it says how it was built and what it chose.
#include <pybind11/pybind11.h>

#include "cpu/kernels.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of fusednorm.";
  // For _eager, which calls them too.
  m.attr("kernels") = py::capsule(&fusednorm::kernels(), static_cast<void (*)(void*)>(nullptr));
  m.def("build_info", [] {
    py::dict info;
#if defined(__clang__)
    info["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
    info["compiler"] = "gcc " __VERSION__;
#else
    info["compiler"] = "unknown";
#endif
    info["flags"] = FUSEDNORM_FLAGS;
    info["cpu_isa"] = fusednorm::kernels().name;
    return info;
  });
}
