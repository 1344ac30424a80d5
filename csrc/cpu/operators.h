// The CPU as operators.h, position_operators.h and layer.h want a device.
#pragma once

#include "../layer.h"
#include "kernels.h"

namespace fusednorm {

// What is written over a map goes to lines that are in the caches, since they have been read: nothing is gained by
// writing past them.
template <class Args>
Args by_caches(Args k) {
  k.shape.stream = k.shape.stream && k.y.data != k.x.data;
  return k;
}

struct Cpu {
  static constexpr bool adds_gradients = true;

  explicit Cpu(const Tensor&) {}
  static Shape shape_of(const Tensor& x);
  void plane_moments(const MomentsArgs& k) { kernels().plane_moments(k); }
  void plane_affine(const AffineArgs& k) { kernels().plane_affine(by_caches(k)); }
  void plane_affine_reduce(const AffineArgs& k) { kernels().plane_affine_reduce(k); }
  void plane_affine_grad(const AffineArgs& k) { kernels().plane_affine_grad(k); }
  void position_reduce(const PositionReduceArgs& k) { kernels().position_reduce(k); }
  void plane_pool(const PlanePoolArgs& k) { kernels().plane_pool(k); }
  void position_moments(const PositionMomentsArgs& k) { kernels().position_moments(k); }
  void position_moments_pool(const PositionMomentsPoolArgs& k) { kernels().position_moments_pool(k); }
  void position_affine(const PositionAffineArgs& k) { kernels().position_affine(by_caches(k)); }
  void position_affine_reduce(const PositionAffineArgs& k) { kernels().position_affine_reduce(k); }
  void position_affine_spread(const PositionAffineArgs& k) { kernels().position_affine_spread(k); }
  void position_affine_spread_reduce(const PositionAffineArgs& k) { kernels().position_affine_spread_reduce(k); }
  void position_affine_grad(const PositionAffineArgs& k) { kernels().position_affine_grad(k); }
  void forward(ForwardCall& call);
  void backward(BackwardCall& call);
};

}  // namespace fusednorm
