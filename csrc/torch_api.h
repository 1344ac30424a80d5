// What a whole layer's host code needs of torch, over either of its C++ interfaces: the stable one, whose binaries load
// with other versions of torch too, and whose headers nvcc takes without a CUDA torch (_C, _cuda); or ATen (_eager,
// FUSEDNORM_ATEN), with autograd and a tenth as long a way to a new tensor. There, what is absent is undefined.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#ifdef FUSEDNORM_ATEN

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/util/Exception.h>

namespace fusednorm {

using at::Tensor;
using c10::ScalarType;
using Sizes = at::IntArrayRef;

// In main memory only: past the dispatcher.
inline Tensor make_empty(const Tensor&, Sizes sizes, ScalarType type) { return at::detail::empty_cpu(sizes, type); }
inline Tensor make_zeros(const Tensor&, Sizes sizes, ScalarType type) {
  Tensor t = at::detail::empty_cpu(sizes, type);
  std::memset(t.data_ptr(), 0, t.nbytes());
  return t;
}
inline Tensor make_like(const Tensor& x) {
  if (!x.is_non_overlapping_and_dense()) return at::empty_like(x);
  return at::detail::empty_strided_cpu(x.sizes(), x.strides(), x.scalar_type());
}
inline Tensor make_nothing(const Tensor&, ScalarType) { return {}; }
inline void fill_zero(const Tensor& t) { std::memset(t.data_ptr(), 0, t.nbytes()); }
inline Tensor to_type(const Tensor& t, ScalarType type) { return t.to(type); }
inline Tensor dense(const Tensor& t) { return t.contiguous(); }

}  // namespace fusednorm

#else

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

namespace fusednorm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

inline Tensor make_empty(const Tensor& x, Sizes sizes, ScalarType type) {
  return torch::stable::new_empty(x, sizes, type);
}
inline Tensor make_zeros(const Tensor& x, Sizes sizes, ScalarType type) {
  return torch::stable::new_zeros(x, sizes, type);
}
inline Tensor make_like(const Tensor& x) { return torch::stable::empty_like(x); }
inline Tensor make_nothing(const Tensor& x, ScalarType type) {
  const int64_t sizes[] = {0};
  return make_empty(x, {sizes, 1}, type);
}
inline void fill_zero(Tensor t) { torch::stable::zero_(t); }
inline Tensor to_type(const Tensor& t, ScalarType type) { return torch::stable::to(t, type); }
inline Tensor dense(const Tensor& t) { return torch::stable::contiguous(t); }

}  // namespace fusednorm

#endif
