// position_moments_affine: of what a cluster keeps in shared memory (position_affine.cuh),
//   mean and biased variance over channels of e at each position -> u, their statistic
//   y = act(gain*e*R(gate_weight*u + gate_bias) + bias + residual),  e = scale*(x - center) + shift + outer*t
// Traffic: reads x (and residual), writes y: 2 units (3).
// Launch: blocks of 256 or 512 threads, one or a cluster of up to 8 for a sample.
#include "position_kept.cuh"

#include "dispatch.cuh"

namespace fusednorm {

template <class T, bool channels_last>
__global__ void __launch_bounds__(kept_threads(1, sizeof(T)), 1)
    position_moments_affine_kernel(const __grid_constant__ PositionKept k) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(k.kept);
  using Here = Sample<T, channels_last>;
  const Here here(k.kept, blockIdx.x / unsigned(k.kept.blocks), team.rank, position_room(1));
  fetch_terms(k.pass, here, kT + 1);
  here.template each<4>({here.outside(k.kept, k.pass.maps[0])}, {here.kept(here.x)},
                        [](auto, int, int, const auto& in, auto& out) { out[0] = in[0]; });
  __syncthreads();

  moments_over_channels(k, here, team, [&]<int count>(Count<count>, int c, int s, float (&value)[count]) {
    const auto x = here.template at<count>(here.x, c, s);
    const StepTerms<Here, count, kOuter + 1, kT + 1> terms(here, c, s);
    const auto& of = terms.coefficients;
#pragma unroll
    for (int j = 0; j < count; ++j)
      value[j] = of[kScale][j] * (value_of<T, count>(x, j) - of[kCenter][j]) + of[kShift][j] +
                 of[kOuter][j] * terms.rows[kT][j];
  });

  const Matrix<T> residual = here.outside(k.kept, k.pass.maps[1]);
  here.template each<2>({here.kept(here.x), residual}, {here.outside(k.kept, k.pass.out)},
                        [&]<int count>(Count<count>, int c, int s, const auto& in, auto& out) {
                          const StepTerms<Here, count, kForwardCoefficients, kForwardRows> terms(here, c, s);
                          const Affine<float, count> affine(k.pass, terms.coefficients, terms.rows, in[0], in[1],
                                                            residual.data != nullptr);
                          with_act<Acts::all, float>(k.pass.act, [&](auto value, auto) {
#pragma unroll
                            for (int j = 0; j < count; ++j) set_value<T, count>(out[0], j, value(affine.z[j]));
                          });
                        });
}

void position_moments_affine(const PositionKept& k, const Stream& s) {
  with_kept_kernel(k.kept.shape, [&](auto type, auto channels_last) {
    using T = decltype(type);
    launch(kept_launch("position_moments_affine", k.kept, position_room(1)), s,
           position_moments_affine_kernel<T, channels_last>, k);
  });
}

}  // namespace fusednorm
