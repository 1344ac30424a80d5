// position_affine_spread_reduce: of what a cluster keeps in shared memory (position_affine.cuh),
//   du = sum_c gate_weight*da, then with e_offset = du*du_offset, e_slope = du*du_slope
//   sums over positions of de, de*(x - center), de*t, g*e*q, g, da, da*u
// Traffic: reads dy, x (and residual, once more from L2): 2 units (3), one more with g to write.
// Launch: blocks of 256 or 512 threads, one or a cluster of up to 8 for a sample.
#include "position_kept.cuh"

#include "dispatch.cuh"

namespace fusednorm {

template <class T, bool channels_last>
__global__ void __launch_bounds__(kept_threads(2, sizeof(T)), 1)
    position_affine_spread_reduce_kernel(const __grid_constant__ PositionKept k) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(k.kept);
  using Here = Sample<T, channels_last>;
  const Here here(k.kept, blockIdx.x / unsigned(k.kept.blocks), team.rank, position_room(2));
  const int S = here.positions;
  float *const offset = here.row(kOffset), *const slope = here.row(kSlope);
  fetch_terms(k.pass, here, kForwardRows);
  const Matrix<T> dy = k.dy_dense ? here.outside(k.kept, k.pass.maps[0]) : Matrix<T>{};
  here.template each<4>({dy, here.outside(k.kept, k.pass.maps[1])},
                        {dy.data ? here.kept(here.g) : dy, here.kept(here.x)},
                        [](auto, int, int, const auto& in, auto& out) { out[0] = in[0], out[1] = in[1]; });
  if (!dy.data) here.copy(k.kept, k.pass.maps[0], here.g);
  __syncthreads();

  const Matrix<T> residual = here.outside(k.kept, k.pass.maps[2]), g = here.outside(k.kept, k.pass.out);
  const auto maps_of = [&]<int count>(int c, int s, Raw<T, count>(&maps)[3]) {
    maps[0] = here.template at<count>(here.g, c, s), maps[1] = here.template at<count>(here.x, c, s);
    if (residual.data) maps[2] = residual.template read_anywhere<count>(Here::row_of(c, s), Here::column_of(c, s));
  };
  here.template position_sums<1>(
      [&]<int count>(Count<count>, int c, int s, auto& found) {
        Raw<T, count> maps[3], written;
        maps_of(c, s, maps);
        const StepTerms<Here, count, kForwardCoefficients, kForwardRows> terms(here, c, s);
        const AffineGradient<float, count> gradient(k.pass, terms.coefficients, terms.rows, maps);
#pragma unroll
        for (int j = 0; j < count; ++j) {
          found[0][j] = terms.coefficients[kGateWeight][j] * gradient.da(k.pass, terms.coefficients, terms.rows, j);
          set_value<T, count>(written, j, gradient.g[j]);
        }
        if (g.data) g.template write_anywhere<count>(Here::row_of(c, s), Here::column_of(c, s), written, false);
      },
      [&](int s, const auto& sums) { offset[s] = sums[0]; });
  add_blocks(team, k.exchange, here.n, offset, S);
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    const int64_t position = here.n * S + s;
    const float du = offset[s];
    if (team.rank == 0) k.du[position] = du;
    offset[s] = du * static_cast<const float*>(k.pass.rows[kOffset])[position];
    slope[s] = du * static_cast<const float*>(k.pass.rows[kSlope])[position];
  }
  __syncthreads();

  here.template plane_sums<kMostSums>(
      [&]<int count>(Count<count>, int c, int s, auto& found) {
        Raw<T, count> maps[3];
        maps_of(c, s, maps);
        const StepTerms<Here, count, kForwardCoefficients, kBackwardRows> terms(here, c, s);
        const AffineGradient<float, count> gradient(k.pass, terms.coefficients, terms.rows, maps);
#pragma unroll
        for (int j = 0; j < count; ++j) {
          const float de = gradient.de(k.pass, terms.coefficients, terms.rows, j);
          const float da = gradient.da(k.pass, terms.coefficients, terms.rows, j);
          found[0][j] = de, found[1][j] = de * gradient.d[j], found[2][j] = de * terms.rows[kT][j];
          found[3][j] = gradient.g[j] * gradient.e[j] * gradient.q[j], found[4][j] = gradient.g[j];
          found[5][j] = da, found[6][j] = da * terms.rows[kU][j];
        }
      },
      [&](int c, const auto& sums) {
        const int64_t planes = k.kept.shape.N * k.kept.shape.C, plane = here.n * k.kept.shape.C + here.first + c;
        for (int i = 0; i < kMostSums; ++i) k.sums[i * planes + plane] = float(sums[i]);
      });
}

void position_affine_spread_reduce(const PositionKept& k, const Stream& s) {
  with_kept_kernel(k.kept.shape, [&](auto type, auto channels_last) {
    using T = decltype(type);
    launch(kept_launch("position_affine_spread_reduce", k.kept, position_room(2)), s,
           position_affine_spread_reduce_kernel<T, channels_last>, k);
  });
}

}  // namespace fusednorm
