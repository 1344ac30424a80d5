// A layer's call, recorded once by Python with all its checks and then replayed: as long as the module, its options and
// tensors, and what the call is made of are what they were, nothing of it has to be checked or looked up again.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kind.h"

namespace fusednorm {

namespace py = pybind11;

// A running average: tensor `place` of the module's moves toward a result of norm_forward (0 to 3: batch_mean,
// batch_var, z_mean, z_var) by `momentum`.
struct Average {
  int64_t statistic;
  size_t place;
  double momentum;
};

// A module as it was when its call was recorded: types, options and tensors, submodules' too.
class Snapshot {
 public:
  // Throws py::value_error where it can't be told whether the module will have changed.
  explicit Snapshot(py::handle module);

  // The module's tensors in the order of the walk, undefined where absent; nothing if anything else has changed.
  bool read(py::handle module, std::vector<Tensor>& tensors) const;
  // Which of them t is, or is a view of as a whole; right after the recording.
  size_t place(const Tensor& t) const;

 private:
  struct Slot {
    py::object name;
    bool buffer, absent;
    c10::ScalarType type;
    c10::Device device;
    c10::Layout layout;
    std::vector<int64_t> sizes;
    const void*
        data;  // when it was recorded; no reference, which would keep a tensor alive that the module has replaced
  };
  struct Node {
    size_t parent;
    py::object name, type;
    std::vector<std::pair<py::object, py::object>> options;
    std::vector<Slot> slots;
    Py_ssize_t attributes, parameters, buffers, modules;
  };
  void walk(py::handle module, size_t parent, py::object name);

  std::vector<Node> nodes_;
};

class Recorded {
 public:
  Recorded(py::handle module, const LayerKind& kind, const Tensor& x, const Own& own,
           const std::vector<std::tuple<int64_t, Tensor, double>>& averages, const std::vector<Tensor>& counters);

  // y, or undefined if the call is another one.
  Tensor run(py::handle module, const Tensor& x, const Optional& residual) const;

 private:
  bool fits(const Tensor& x, const Optional& residual) const;

  Snapshot snapshot_;
  const LayerKind& kind_;
  std::string forced_;
  c10::ScalarType type_;
  c10::Device device_;
  int64_t dimensions_, channels_;
  bool one_sample_, one_position_;  // x had no more: what takes statistics over them refuses it
  std::vector<int64_t> own_;        // places, -1 where absent
  std::vector<Average> averages_;
  std::vector<size_t> counters_;
};

// A module's recorded calls: in training, in evaluation, for several types.
class Replay {
 public:
  // y; False if the call has yet to be recorded, None if Python has to make it in any case.
  py::object operator()(py::handle module, py::handle x, py::handle residual) const;
  void add(std::shared_ptr<const Recorded> call);

 private:
  std::vector<std::shared_ptr<const Recorded>> calls_;
  int recorded_ = 0;
};

// The backend that the user asks for, or nothing.
void force(std::string backend);

}  // namespace fusednorm
