// position_reduce: t = sum_c weight*f(x - center), at every position.
// Traffic: reads x once: 1 unit. Launch: blocks of 256 threads, laid over a map as position_pass.h says.
#include "position_walk.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PositionReduce {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = false;
  static constexpr int kMaps = 1, kCoefficients = 2, kRows = 1, kSums = 1, kSteps = tuning::kPositionLoads;

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows&,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>&, A (&found)[2][count]) {
#pragma unroll
    for (int j = 0; j < count; ++j)
      found[0][j] = c[1][j] * kind_value(k.kind, value_of<T, count>(maps[0], j) - c[0][j]);
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionSumBlocks.of(sizeof(T)))
    position_reduce_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w,
                           const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_channels<PositionReduce<T, channels_last, vectorized>>(w, k, parts, shared_bytes);
}

void position_reduce(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    using P = PositionReduce<decltype(type), channels_last, vectorized>;
    launch({"position_reduce", plan.walk.blocks(), plan.walk.threads(), shared_over_channels<P>(plan.walk)}, s,
           position_reduce_kernel<decltype(type), channels_last, vectorized>, k, plan.walk, parts);
  });
}

}  // namespace fusednorm
