// plane_moments: mean and biased variance of every plane, or of its segments; the formula is in plane_moments.cuh.
// Traffic: reads x once: 1 unit. Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "plane_moments.cuh"

#include "dispatch.cuh"
#include "kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kMomentsBlocks.of(sizeof(T)))
    plane_moments_kernel(const __grid_constant__ MomentsArgs k, const __grid_constant__ Walk w,
                         const __grid_constant__ MomentsOut out) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const auto number = number_of(w);
  const Item<T, channels_last, vectorized> item(w, k.shape, everything(k.shape), k.x, number.item, number.exists);
  moments_item<false>(w, k.shape, k.x, item, out, shared_bytes, nullptr, 0);
}

void plane_moments(const MomentsArgs& k, const Plan& plan, const Partials& partials, const Stream& s) {
  with_type(k.shape.type, [&](auto type) {
    with_bool(k.shape.channels_last, [&](auto channels_last) {
      with_bool(plan.vectorized, [&](auto vectorized) {
        using T = decltype(type);
        constexpr int M = channels_last ? kValues<T, vectorized> : 1;
        const size_t shared = reduction_entries(plan.walk) * sizeof(Moments<Compute<T>, M>);
        launch({"plane_moments", plan.walk.blocks(), plan.walk.threads(), shared}, s,
               plane_moments_kernel<T, channels_last, vectorized>, k, plan.walk, MomentsOut{k.mean, k.var, partials});
      });
    });
  });
}

}  // namespace fusednorm
