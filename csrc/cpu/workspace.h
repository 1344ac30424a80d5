// What an operator of several passes works with beside its maps: arrays of the compute type that live as long as the call.
#pragma once

#include <vector>

#include "../tensors.h"

namespace fusednorm {

class Workspace {
 public:
  explicit Workspace(const Tensor& x) : x_(x), type_(compute_type(x)) {}

  void* planes() { return keep(new_per_plane(x_)); }
  void* means() { return keep(new_means(x_)); }
  void* rows(int64_t rows, int64_t columns) { return keep(new_rows(x_, rows, columns, type_)); }
  double* doubles(int64_t count) { return static_cast<double*>(keep(new_rows(x_, 1, count, ScalarType::Double))); }
  PerPlane of(void* planes) const { return {planes, x_.sizes()[1], 1}; }
  // One value for all planes.
  PerPlane all(double value) {
    void* at = rows(1, 1);
    type_ == ScalarType::Double ? void(*static_cast<double*>(at) = value)
                                : void(*static_cast<float*>(at) = float(value));
    return {at, 0, 0};
  }

 private:
  const Tensor& x_;
  const ScalarType type_;
  std::vector<Tensor> kept_;

  void* keep(Tensor t) {
    kept_.push_back(std::move(t));
    return kept_.back().data_ptr();
  }
};

}  // namespace fusednorm
