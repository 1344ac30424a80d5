// position_moments_pool: of what a cluster keeps in shared memory (docs/positions.md),
//   mean and biased variance over channels of x at each position -> t, their statistic
//   cov[n,c] = mean_s (x - center) (t - mean_s t)
// Traffic: reads x: 1 unit. Launch: blocks of 256 or 512 threads, one or a cluster of up to 8 for a sample.
#include "position_kept.cuh"

#include "dispatch.cuh"

namespace fusednorm {

template <class T, bool channels_last>
__global__ void __launch_bounds__(kept_threads(1, sizeof(T)), 1)
    position_moments_pool_kernel(const __grid_constant__ PositionKept k) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(k.kept);
  using Here = Sample<T, channels_last>;
  const Here here(k.kept, blockIdx.x / unsigned(k.kept.blocks), team.rank, position_room(1));
  const int S = here.positions;
  float *const center = here.values(kCenter), *const t = here.row(kU);
  fetch_terms(k.pass, here, 0);
  here.template each<4>({here.outside(k.kept, k.pass.maps[0])}, {here.kept(here.x)},
                        [](auto, int, int, const auto& in, auto& out) { out[0] = in[0]; });
  __syncthreads();

  moments_over_channels(k, here, team, [&]<int count>(Count<count>, int c, int s, float (&value)[count]) {
    const auto x = here.template at<count>(here.x, c, s);
#pragma unroll
    for (int j = 0; j < count; ++j) value[j] = value_of<T, count>(x, j);
  });
  const float level = float(sum_of(S, here.room, [&](int s) { return t[s]; }) / S);
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) t[s] -= level;
  __syncthreads();
  here.template plane_sums<1>(
      [&]<int count>(Count<count>, int c, int s, auto& found) {
        const auto x = here.template at<count>(here.x, c, s);
        const auto m = Here::template of_channels<count>(center, c);
        const auto row = Here::template of_positions<count>(t, s);
#pragma unroll
        for (int j = 0; j < count; ++j) found[0][j] = row[j] * (value_of<T, count>(x, j) - m[j]);
      },
      [&](int c, const auto& sums) { k.cov[here.n * k.kept.shape.C + here.first + c] = float(sums[0] / S); });
}

void position_moments_pool(const PositionKept& k, const Stream& s) {
  with_kept_kernel(k.kept.shape, [&](auto type, auto channels_last) {
    using T = decltype(type);
    launch(kept_launch("position_moments_pool", k.kept, position_room(1)), s,
           position_moments_pool_kernel<T, channels_last>, k);
  });
}

}  // namespace fusednorm
