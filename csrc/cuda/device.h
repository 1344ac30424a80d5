// CUDA as operators.h and layer.h want a device: x's device made current, its stream, and what it offers.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <optional>

#include "../layer.h"
#include "context.h"
#include "launch.h"
#include "plan.h"
#include "position_kept.h"
#include "position_pass.h"

// Where the operators are registered.
#ifdef FUSEDNORM_EMULATION
#define FUSEDNORM_KEY CPU
#else
#define FUSEDNORM_KEY CUDA
#endif

namespace fusednorm {

// An operand that is_dense (sample.h).
Operand dense(const Tensor& t, const Tensor& x, const Shape& s, const char* name);

class Cuda {
 public:
  static constexpr bool adds_gradients = false;  // the head writes all of them

  explicit Cuda(const Tensor& x);
  Shape shape_of(const Tensor& x) const;
  void plane_moments(const MomentsArgs& k);
  void plane_affine(const AffineArgs& k);
  void plane_affine_reduce(const AffineArgs& k);
  void plane_affine_grad(const AffineArgs& k);
  void position_reduce(const PositionReduceArgs& k);
  void plane_pool(const PlanePoolArgs& k);
  void position_moments(const PositionMomentsArgs& k);
  void position_affine(const PositionAffineArgs& k);
  void position_affine_reduce(const PositionAffineArgs& k);
  void position_affine_spread(const PositionAffineArgs& k);
  void position_affine_grad(const PositionAffineArgs& k);
  void position_moments_pool(const PositionMomentsPoolArgs& k);
  void position_moments_affine(const PositionAffineArgs& k);
  void position_affine_spread_reduce(const PositionAffineArgs& k);
  void context_forward(ContextArgs& k);
  void context_backward(ContextArgs& k);
  const Stream& stream() const { return stream_; }
  void forward(ForwardCall& call);
  void backward(BackwardCall& call);

 private:
  // Memory that lives until the calls are queued: the allocator hands it out again in the stream's order.
  void* memory(size_t bytes);
  double* exchange(const Kept& k, int values);
  Partials partials(const Shape& shape, const Walk& walk);  // none where planes are not split
  Parts parts_of_planes(const PositionPass& k, const Plan& plan, int sums);
  Parts parts_of_channels(const PositionPass& k, const Plan& plan, int sums, void* first, void* second);

  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  const Tensor& x_;
  std::vector<Tensor> kept_;
  Stream stream_;
};

}  // namespace fusednorm
