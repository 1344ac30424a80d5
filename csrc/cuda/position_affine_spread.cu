// position_affine_spread: sums over channels, du = sum_c gate_weight*da, dt = sum_c outer*de + pool*(x - center);
// position_affine.cuh.
// Traffic: reads dy, x (and residual): 2 units; with g asked for, writes it: 3 units.
// Launch: blocks of 256 threads, laid over a map as position_pass.h says.
#include "position_affine.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PositionSpread {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = true;
  static constexpr int kMaps = 3, kCoefficients = kSpreadCoefficients, kRows = kBackwardRows, kSums = 2;
  static constexpr int kSteps = tuning::position_steps(sizeof(T), channels_last);

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>& g,
                                              A (&found)[kSums + 1][count]) {
    const AffineGradient<A, count> gradient(k, c, rows, maps);
#pragma unroll
    for (int j = 0; j < count; ++j) {
      found[0][j] = c[kGateWeight][j] * gradient.da(k, c, rows, j);
      found[1][j] = c[kOuter][j] * gradient.de(k, c, rows, j) + c[kPool][j] * gradient.d[j];
      set_value<T, count>(g, j, gradient.g[j]);
    }
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionGradientBlocks.of(sizeof(T)))
    position_affine_spread_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w,
                                  const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_channels<PositionSpread<T, channels_last, vectorized>>(w, k, parts, shared_bytes);
}

void position_affine_spread(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    using P = PositionSpread<decltype(type), channels_last, vectorized>;
    launch({"position_affine_spread", plan.walk.blocks(), plan.walk.threads(), shared_over_channels<P>(plan.walk)}, s,
           position_affine_spread_kernel<decltype(type), channels_last, vectorized>, k, plan.walk, parts);
  });
}

}  // namespace fusednorm
