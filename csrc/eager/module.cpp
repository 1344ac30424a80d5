// fusednorm._eager: whole layers' calls in eager mode, without Python in between. Knows torch's own C++ interface, and
// so serves the version of torch that it was built with; without it everything works, small maps more slowly.
#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/version.h>

#include "../cpu/kernels.h"
#include "function.h"
#include "replay.h"

namespace fusednorm {

namespace {
const KernelTable* table = nullptr;
}

const KernelTable& kernels() { return *table; }

}  // namespace fusednorm

PYBIND11_MODULE(_eager, m) {
  using namespace fusednorm;
  m.doc() = "Eager calls of fusednorm's layers.";
  const auto version =
      py::module_::import("torch").attr("__version__").attr("split")("+").cast<std::vector<std::string>>();
  if (version.at(0) != TORCH_VERSION)
    throw py::import_error("built for torch " TORCH_VERSION ", this is " + version.at(0));
  table = py::module_::import("fusednorm._C").attr("kernels").cast<py::capsule>().get_pointer<const KernelTable>();
  // Kinds are never freed: graphs hold plain pointers to them, and there are as many as kinds of layers.
  py::class_<LayerKind, std::unique_ptr<LayerKind, py::nodelete>>(m, "Kind").def(
      py::init<const std::string&, std::vector<int64_t>, std::vector<int64_t>, Scalars, std::string, bool, int64_t>());
  py::class_<Recorded, std::shared_ptr<Recorded>>(m, "Recorded")
      .def(py::init<py::handle, const LayerKind&, const Tensor&, const Own&,
                    const std::vector<std::tuple<int64_t, Tensor, double>>&, const std::vector<Tensor>&>());
  py::class_<Replay>(m, "Replay")
      .def(py::init<>())
      .def("__call__", torch::wrap_pybind_function(&Replay::operator()))  // hooks may raise Python's own errors
      .def("add", [](Replay& replay, std::shared_ptr<Recorded> call) { replay.add(std::move(call)); })
      // A copied or pickled module records its calls anew.
      .def("__reduce__", [](const Replay&) {
        return py::make_tuple(py::module_::import("fusednorm.engine.eager").attr("new_replay"), py::tuple());
      });
  m.def("differentiate_by", &differentiate_by);
  m.def("force", &force);
}
