// position_affine: y = act(gain*e*q + bias + residual); position_affine.cuh.
// Traffic: reads x (and residual), writes y: 2 units (3); rows are N×S, and come from the caches for
// all channels but one. Walks backwards, as plane_affine. Launch: blocks of 256 threads, one item a group of threads (walk.cuh).
#include "position_affine.cuh"

#include "dispatch.cuh"
#include "position_kernels.h"
#include "tuning.h"

namespace fusednorm {

template <class Type, bool last, bool vectors>
struct PositionAffine {
  using T = Type;
  static constexpr bool channels_last = last, vectorized = vectors, kWrites = true;
  static constexpr int kMaps = 2, kCoefficients = kForwardCoefficients, kRows = kForwardRows, kSums = 0;
  static constexpr int kSteps = tuning::position_steps(sizeof(T), channels_last);

  // The gain goes into e: registers for fewer coefficients.
  template <class Coefficients>
  static __device__ __forceinline__ void prepare(Coefficients& c) {
#pragma unroll
    for (int j = 0; j < int(sizeof(c[0]) / sizeof(c[0].value[0])); ++j) {
      const auto gain = c[kGain].value[j];
      c[kScale].value[j] *= gain, c[kShift].value[j] *= gain, c[kOuter].value[j] *= gain, c[kGain].value[j] = 1;
    }
  }

  template <int count, class Coefficients, class Rows, class A>
  static __device__ __forceinline__ void step(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                              const Raw<T, count> (&maps)[3], Raw<T, count>& y, A (&)[1][count]) {
    Affine<A, count> affine(k, c, rows, maps[0], maps[1], k.maps[1].data != nullptr);
    with_act<Acts::all, A>(k.act, [&](auto value, auto) {
#pragma unroll
      for (int j = 0; j < count; ++j) set_value<T, count>(y, j, value(affine.z[j]));
    });
  }
};

template <class T, bool channels_last, bool vectorized>
__global__ void __launch_bounds__(tuning::kThreads, tuning::kPositionAffineBlocks.of(sizeof(T)))
    position_affine_kernel(const __grid_constant__ PositionPass k, const __grid_constant__ Walk w) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  over_positions<PositionAffine<T, channels_last, vectorized>>(w, k, {}, nullptr);
}

void position_affine(const PositionPass& k, const Plan& plan, const Stream& s) {
  with_position_kernel(k.shape, plan, [&](auto type, auto channels_last, auto vectorized) {
    launch({"position_affine", plan.walk.blocks(), plan.walk.threads(), 0}, s,
           position_affine_kernel<decltype(type), channels_last, vectorized>, k, plan.walk);
  });
}

}  // namespace fusednorm
