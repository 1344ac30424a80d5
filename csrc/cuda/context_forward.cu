// context_forward: the Normalization-Attention module of what a cluster keeps in shared memory; context.h.
//   m of each plane -> t = sum_c w f(x - m) -> p = softmax(Phi(t)) -> pooled = sum_s p (x - m) -> gates -> y
// Traffic: reads x (and residual), writes y: 2 units (3).
// Launch: blocks of 256 or 512 threads, one or a cluster of up to 8 for a sample.
#include "affine.cuh"
#include "context_head.cuh"
#include "sample.cuh"

#include "dispatch.cuh"

namespace fusednorm {

namespace {

// Shared memory has for each value whether its gradient passes: bits of the mask from it.
template <class Sample>
__device__ __forceinline__ void write_mask(const ContextArgs& k, const Sample& here, bool channels_last) {
  __syncthreads();
  const int run = channels_last ? int(k.shape.C) : here.positions, bytes = (here.columns + 7) / 8,
            row_bytes = (run + 7) / 8;
  const int64_t first = channels_last ? here.n * here.positions * row_bytes + here.first / 8
                                      : (here.n * k.shape.C + here.first) * row_bytes;
  for (int i = int(threadIdx.x); i < here.rows * bytes; i += int(blockDim.x)) {
    const int row = i / bytes, begin = (i - row * bytes) * 8, end = min(begin + 8, here.columns);
    unsigned bits = 0;
    for (int column = begin; column < end; ++column)
      bits |= unsigned(detail::to_compute(here.x[row * here.columns + column]) != 0) << (column - begin);
    k.mask[first + int64_t(row) * row_bytes + begin / 8] = uint8_t(bits);
  }
}

}  // namespace

template <class T, bool channels_last>
__global__ void __launch_bounds__(kept_threads(1, sizeof(T)), 1)
    context_forward_kernel(const __grid_constant__ ContextArgs k) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(k.blocks == 1 ? Scope::block : Scope::cluster, k.blocks);
  const int64_t n = blockIdx.x / unsigned(k.blocks);
  using Here = Sample<T, channels_last>;
  const Here here(k, n, team.rank, context_room(1));
  const int S = here.positions, step = int(blockDim.x);
  float *const center = here.values(0), *const scale = here.values(1), *const shift = here.values(2);
  float *const weight = here.values(3), *const p_row = here.row(0);

  here.template each<4>({here.outside(k, k.x)}, {here.kept(here.x)},
                        [](auto, int, int, const auto& in, auto& out) { out[0] = in[0]; });
  __syncthreads();

  // Around each plane's first value; what is left is small.
  const auto first_of = [&](int c) { return value_of<T, 1>(here.template at<1>(here.x, c, 0), 0); };
  here.template plane_sums<1>(
      [&]<int count>(Count<count>, int c, int s, auto& found) {
        const auto x = here.template at<count>(here.x, c, s);
#pragma unroll
        for (int j = 0; j < count; ++j) found[0][j] = value_of<T, count>(x, j) - first_of(channels_last ? c + j : c);
      },
      [&](int c, const auto& sums) {
        const int64_t plane = n * k.shape.C + here.first + c;
        k.mean[plane] = double(first_of(c)) + double(sums[0]) / S;
        k.var[plane] = 0;
        const auto inner = context_plane(k, n, here.first + c);
        center[c] = inner.center, scale[c] = inner.scale, shift[c] = inner.shift,
        weight[c] = inner.weight(k.similarity, k.shape.C);
      });
  __syncthreads();

  if (k.similarity != Similarity::none) {
    here.template position_sums<1>(
        [&]<int count>(Count<count>, int c, int s, auto& found) {
          const auto x = here.template at<count>(here.x, c, s);
          const auto m = Here::template of_channels<count>(center, c);
          const auto w = Here::template of_channels<count>(weight, c);
#pragma unroll
          for (int j = 0; j < count; ++j) found[0][j] = w[j] * kind_value(k.kind, value_of<T, count>(x, j) - m[j]);
        },
        [&](int s, const auto& sums) { p_row[s] = sums[0]; });
    add_blocks(team, k.exchange, n, p_row, S);
    if (team.rank == 0)
      for (int s = int(threadIdx.x); s < S; s += step) k.t[n * S + s] = p_row[s];
    weights_of(k, p_row, S, here.room);
    if (team.rank == 0)
      for (int s = int(threadIdx.x); s < S; s += step) k.p[n * S + s] = p_row[s];

    here.template plane_sums<1>(
        [&]<int count>(Count<count>, int c, int s, auto& found) {
          const auto x = here.template at<count>(here.x, c, s);
          const auto m = Here::template of_channels<count>(center, c);
          const auto p = Here::template of_positions<count>(p_row, s);
#pragma unroll
          for (int j = 0; j < count; ++j) found[0][j] = p[j] * (value_of<T, count>(x, j) - m[j]);
        },
        [&](int c, const auto& sums) { k.pooled[n * k.shape.C + here.first + c] = float(sums[0]); });
  }
  team.sync();
  const auto gates = gates_of(k, n, here.room);
  for (int c = int(threadIdx.x); c < here.channels; c += step) {
    const float gate = gates.gate(gates.standardized(context_of(k, n, here.first + c)));
    const int64_t plane = n * k.shape.C + here.first + c;
    k.outer_scale[plane] = scale[c] *= gate;
    k.outer_shift[plane] = shift[c] *= gate;
  }
  __syncthreads();

  const Matrix<T> residual = here.outside(k, k.residual);
  const Matrix<T> flags = k.mask ? here.kept(here.x) : Matrix<T>{};
  here.template each<2>({here.kept(here.x), residual}, {here.outside(k, k.y), flags},
                        [&]<int count>(Count<count>, int c, int, const auto& in, auto& out) {
                          const auto m = Here::template of_channels<count>(center, c);
                          const auto a = Here::template of_channels<count>(scale, c);
                          const auto b = Here::template of_channels<count>(shift, c);
                          with_act<Acts::all, float>(k.act, [&](auto value, auto passes) {
#pragma unroll
                            for (int j = 0; j < count; ++j) {
                              float z = a[j] * (value_of<T, count>(in[0], j) - m[j]) + b[j];
                              if (residual.data) z += value_of<T, count>(in[1], j);
                              set_value<T, count>(out[0], j, value(z));
                              set_value<T, count>(out[1], j, passes(z));
                            }
                          });
                        });
  if (k.mask) write_mask(k, here, channels_last);
}

void context_forward(const ContextArgs& k, const Stream& s) {
  with_kept_kernel(k.shape, [&](auto type, auto channels_last) {
    using T = decltype(type);
    launch(kept_launch("context_forward", k, context_room(1)), s, context_forward_kernel<T, channels_last>, k);
  });
}

}  // namespace fusednorm
