// position_affine_reduce: sums over positions of de, de*(x - center), de*t, g*e*q, g, da, da*u; position_affine.cuh.
// Traffic: reads dy, x (and residual): 2 units; with g asked for, writes it: 3 units.
// Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "position_affine.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PositionReduceGradient {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = true;
  static constexpr int kMaps = 3, kCoefficients = kForwardCoefficients, kRows = kBackwardRows;
  static constexpr int kSums = kMostSums, kSteps = tuning::position_sum_steps(sizeof(T), channels_last);

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>& g,
                                              A (&found)[kSums + 1][count]) {
    const AffineGradient<A, count> gradient(k, c, rows, maps);
#pragma unroll
    for (int j = 0; j < count; ++j) {
      const A de = gradient.de(k, c, rows, j);
      found[0][j] = de;
      found[1][j] = de * gradient.d[j];
      found[2][j] = k.rows[kT] ? de * rows[kT][j] : A(0);
      found[3][j] = gradient.g[j] * gradient.e[j] * gradient.q[j];
      found[4][j] = gradient.g[j];
      const A da = gradient.da(k, c, rows, j);
      found[5][j] = da;
      found[6][j] = da * rows[kU][j];
      set_value<T, count>(g, j, gradient.g[j]);
    }
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionGradientBlocks.of(sizeof(T)))
    position_affine_reduce_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w,
                                  const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_positions<PositionReduceGradient<T, channels_last, vectorized>>(w, k, parts, shared_bytes);
}

void position_affine_reduce(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    using P = PositionReduceGradient<decltype(type), channels_last, vectorized>;
    launch({"position_affine_reduce", plan.walk.blocks(), plan.walk.threads(), shared_over_positions<P>(plan.walk)}, s,
           position_affine_reduce_kernel<decltype(type), channels_last, vectorized>, k, plan.walk, parts);
  });
}

}  // namespace fusednorm
