// plane_affine_grad: dx = scale*g + a*(x - center) + b; plane_affine_grad.cuh.
// Traffic: reads g or dy, and x, writes dx: 3 units; without a and b and with g at hand x is not read: 2 units. With a
// place for g given, writes it too: 4 units. Walks backwards, as plane_affine. Launch: blocks of 256 threads, one item a
// group of threads (walk.cuh).
#include "plane_affine_grad.cuh"

#include "dispatch.cuh"
#include "kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class T, bool channels_last, bool vectorized, Acts acts>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kGradBlocks.of(sizeof(T)))
    plane_affine_grad_kernel(const __grid_constant__ AffineArgs k, const __grid_constant__ Walk w) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const auto number = number_of(w);
  const Item<T, channels_last, vectorized> item(w, k.shape, everything(k.shape), k.x, number.item, number.exists);
  grad_item<acts, false>(k, item, nullptr, 0);
}

void plane_affine_grad(const AffineArgs& k, const Stream& s) {
  const Plan plan = plan_grad(k);
  with_kernel(k, plan, [&](auto type, auto channels_last, auto vectorized, auto acts) {
    launch({"plane_affine_grad", plan.walk.blocks(), plan.walk.threads(), 0}, s,
           plane_affine_grad_kernel<decltype(type), channels_last, vectorized, acts>, k, plan.walk);
  });
}

}  // namespace fusednorm
