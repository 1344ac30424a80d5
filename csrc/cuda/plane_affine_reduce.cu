// plane_affine_reduce: dshift = sum_s g, dscale = sum_s g*(x - center), g = dy*act'(z); plane_affine_reduce.cuh.
// Traffic: reads dy, x (and the mask or the residual): 2 units; with g asked for, writes it: 3 units.
// Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "plane_affine_reduce.cuh"

#include "dispatch.cuh"
#include "kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class T, bool channels_last, bool vectorized, Acts acts>
__global__ void __launch_bounds__(
    tuning::kThreads, (acts == Acts::smooth ? tuning::kSmoothReduceBlocks : tuning::kReduceBlocks).of(sizeof(T)))
    plane_affine_reduce_kernel(const __grid_constant__ AffineArgs k, const __grid_constant__ Walk w,
                               const __grid_constant__ Partials partials) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const auto number = number_of(w);
  const Item<T, channels_last, vectorized> item(w, k.shape, everything(k.shape), k.x, number.item, number.exists);
  reduce_item<acts, false>(w, k, partials, item, shared_bytes, nullptr, 0);
}

void plane_affine_reduce(const AffineArgs& k, const Plan& plan, const Partials& partials, const Stream& s) {
  with_kernel(k, plan, [&](auto type, auto channels_last, auto vectorized, auto acts) {
    using T = decltype(type);
    constexpr int M = channels_last ? kValues<T, vectorized> : 1;
    const size_t shared = reduction_entries(plan.walk) * sizeof(Sums<M>);
    launch({"plane_affine_reduce", plan.walk.blocks(), plan.walk.threads(), shared}, s,
           plane_affine_reduce_kernel<T, channels_last, vectorized, acts>, k, plan.walk, partials);
  });
}

}  // namespace fusednorm
