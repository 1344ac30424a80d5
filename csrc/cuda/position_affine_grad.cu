// position_affine_grad: dx = scale*de + a*(x - center) + b + sum_j outers[j]*rows[j] + weight*h*f'(x - center);
// position_affine.cuh.
// Traffic: reads dy and x, writes dx: 3 units; where nothing depends on x it is not read: 2. Walks backwards, as
// plane_affine. Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "position_affine.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PositionGrad {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = true;
  static constexpr int kMaps = 3, kCoefficients = kGradCoefficients, kRows = kGradRows, kSums = 0;
  static constexpr int kSteps = tuning::position_steps(sizeof(T), channels_last);

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>& dx, A (&)[1][count]) {
    const AffineGradient<A, count> gradient(k, c, rows, maps);
#pragma unroll
    for (int j = 0; j < count; ++j) {
      A value = c[kScale][j] * gradient.de(k, c, rows, j);
      if (k.coefficients[kA].data) value += c[kA][j] * gradient.d[j] + c[kB][j];
#pragma unroll
      for (int i = 0; i < kMaxOuters; ++i) value += c[kOuters + i][j] * rows[kMoreRows + i][j];
      if (k.rows[kH]) value += c[kWeight][j] * rows[kH][j] * kind_slope(k.kind, gradient.d[j]);
      set_value<T, count>(dx, j, value);
    }
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionGradientBlocks.of(sizeof(T)))
    position_affine_grad_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_positions<PositionGrad<T, channels_last, vectorized>>(w, k, {}, nullptr);
}

void position_affine_grad(const PositionPass& k, const Plan& plan, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    launch({"position_affine_grad", plan.walk.blocks(), plan.walk.threads(), 0}, s,
           position_affine_grad_kernel<decltype(type), channels_last, vectorized>, k, plan.walk);
  });
}

}  // namespace fusednorm
