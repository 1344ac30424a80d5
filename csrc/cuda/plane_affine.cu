// plane_affine: y = act(scale*(x - center) + shift + residual); plane_affine.cuh.
// Traffic: reads x (and residual), writes y: 2 units (3), the mask 1/32 unit of float32. Walks backwards: the last of x is
// what plane_moments left in L2. Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "plane_affine.cuh"

#include "dispatch.cuh"
#include "kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class T, bool channels_last, bool vectorized, Acts acts>
__global__ void __launch_bounds__(
    tuning::kThreads, (acts == Acts::smooth ? tuning::kSmoothAffineBlocks : tuning::kAffineBlocks).of(sizeof(T)))
    plane_affine_kernel(const __grid_constant__ AffineArgs k, const __grid_constant__ Walk w) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const auto number = number_of(w);
  const Item<T, channels_last, vectorized> item(w, k.shape, everything(k.shape), k.x, number.item, number.exists);
  affine_item<acts, false>(w, k, item, shared_bytes, nullptr, 0);
}

void plane_affine(const AffineArgs& k, const Stream& s) {
  const Plan plan = plan_affine(k);
  const size_t shared = k.mask && !k.shape.channels_last ? mask_shared_bytes(plan.walk) : 0;
  with_kernel(k, plan, [&](auto type, auto channels_last, auto vectorized, auto acts) {
    launch({"plane_affine", plan.walk.blocks(), plan.walk.threads(), shared}, s,
           plane_affine_kernel<decltype(type), channels_last, vectorized, acts>, k, plan.walk);
  });
}

}  // namespace fusednorm
