// CUDA as operators.h and layer.h want a device: x's device made current, its stream, and what it offers.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <optional>

#include "../layer.h"
#include "launch.h"
#include "plan.h"

// Where the operators are registered.
#ifdef FUSEDNORM_EMULATION
#define FUSEDNORM_KEY CPU
#else
#define FUSEDNORM_KEY CUDA
#endif

namespace fusednorm {

class Cuda {
 public:
  static constexpr bool adds_gradients = false;  // the head writes all of them

  explicit Cuda(const Tensor& x);
  Shape shape_of(const Tensor& x) const;
  void plane_moments(const MomentsArgs& k);
  void plane_affine(const AffineArgs& k);
  void plane_affine_reduce(const AffineArgs& k);
  void plane_affine_grad(const AffineArgs& k);
  void forward(ForwardCall& call);
  void backward(BackwardCall& call);

 private:
  // Memory that lives until the calls are queued: the allocator hands it out again in the stream's order.
  void* memory(size_t bytes);
  Partials partials(const Shape& shape, const Walk& walk);  // none where planes are not split

  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  const Tensor& x_;
  std::vector<Tensor> kept_;
  Stream stream_;
};

}  // namespace fusednorm
