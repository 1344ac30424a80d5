// The CPU as operators.h and layer.h want a device.
#pragma once

#include "../layer.h"
#include "kernels.h"

namespace fusednorm {

struct Cpu {
  static constexpr bool adds_gradients = true;

  explicit Cpu(const Tensor&) {}
  static Shape shape_of(const Tensor& x);
  void plane_moments(const MomentsArgs& k) { kernels().plane_moments(k); }
  void plane_affine(const AffineArgs& k) { kernels().plane_affine(k); }
  void plane_affine_reduce(const AffineArgs& k) { kernels().plane_affine_reduce(k); }
  void plane_affine_grad(const AffineArgs& k) { kernels().plane_affine_grad(k); }
  void forward(ForwardCall& call);
  void backward(BackwardCall& call);
};

}  // namespace fusednorm
