// A hot layer on the CPU.
#include "../layer.h"
#include "kernels.h"
#include "operators.h"

namespace fusednorm {

namespace {

template <class To, class From>
void copy_values(const Tensor& to, const void* from, int64_t count, int64_t period) {
  To* p = static_cast<To*>(to.data_ptr());
  for (int64_t i = 0; i < count; ++i) p[i] = To(static_cast<const From*>(from)[i % period]);
}

// The pivots: the means in the compute type.
Tensor center_of(const Tensor& mean, const Tensor& x) {
  if (compute_type(x) == ScalarType::Double) return mean;
  Tensor center = new_per_plane(x);
  copy_values<float, double>(center, mean.data_ptr(), mean.numel(), mean.numel());
  return center;
}

// Where no moments are taken: the running mean for every sample, or 0.
void fill_means(const Tensor& mean, const void* running_mean, const Tensor& x) {
  const int64_t C = x.sizes()[1];
  if (!running_mean)
    fill_zero(mean);
  else if (compute_type(x) == ScalarType::Double)
    copy_values<double, double>(mean, running_mean, mean.numel(), C);
  else
    copy_values<double, float>(mean, running_mean, mean.numel(), C);
}

}  // namespace

void Cpu::forward(ForwardCall& call) {
  if (call.head.needs_moments()) {
    plane_moments(call.moments);
  } else {
    fill_means(call.mean, call.head.running_mean, call.x);
    fill_zero(call.var);
  }
  const Tensor center = center_of(call.mean, call.x);
  call.head.m = center.data_ptr();
  kernels().head(call.head);
  call.affine.center = per_plane(center, call.x, "center");
  plane_affine(call.affine);
}

void Cpu::backward(BackwardCall& call) {
  const Tensor center = center_of(call.mean, call.x);
  call.affine.center = per_plane(center, call.x, "center");
  call.head.head.m = center.data_ptr();
  plane_affine_reduce(call.reduce_pass());
  kernels().head_grad(call.head);
  if (call.dx.data) plane_affine_grad(call.grad_pass());
}

}  // namespace fusednorm
