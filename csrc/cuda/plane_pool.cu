// plane_pool: pooled = sum_s q*f(x - center), slope = sum_s q*f'(x - center), for every plane.
// Traffic: reads x once: 1 unit; q is N×S, and read again by every channel from the caches.
// Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "position_walk.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PlanePool {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = false;
  static constexpr int kMaps = 1, kCoefficients = 1, kRows = 1, kSums = 2, kSteps = tuning::kPositionLoads;

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>&, A (&found)[3][count]) {
#pragma unroll
    for (int j = 0; j < count; ++j) {
      const A d = value_of<T, count>(maps[0], j) - c[0][j];
      found[0][j] = rows[0][j] * kind_value(k.kind, d);
      found[1][j] = rows[0][j] * kind_slope(k.kind, d);
    }
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionSumBlocks.of(sizeof(T)))
    plane_pool_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w,
                      const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_positions<PlanePool<T, channels_last, vectorized>>(w, k, parts, shared_bytes);
}

void plane_pool(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    using P = PlanePool<decltype(type), channels_last, vectorized>;
    launch({"plane_pool", plan.walk.blocks(), plan.walk.threads(), shared_over_positions<P>(plan.walk)}, s,
           plane_pool_kernel<decltype(type), channels_last, vectorized>, k, plan.walk, parts);
  });
}

}  // namespace fusednorm
