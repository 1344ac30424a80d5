// context_backward: the way back through the Normalization-Attention module of what a cluster keeps in shared memory.
//   g = dy*act'(z) -> sum_s g, sum_s g*d -> the gates' arguments -> dpooled -> dp = sum_c dpooled d -> dt
//   -> dx = gate*scale*g + dpooled*p + weight*dt*f'(d) + b,  b = dm/S from sum_s dt f'(d)
//   dresidual = g,  d = x - center                                                                           context.h
// Traffic: reads dy, x (and the mask, or the residual), writes dx (and dresidual): 3 units (4). g is kept in the map's
// type, as dresidual is. Launch: as context_forward's, in 16 bits blocks of 256.
#include "affine.cuh"
#include "context_head.cuh"
#include "sample.cuh"

#include "dispatch.cuh"

namespace fusednorm {

namespace {

// The mean over all channels of the sample of what each channel's gate adds.
__device__ __forceinline__ void mean_over_channels(const ContextArgs& k, const Team& team, int64_t n, double (&sums)[2],
                                                   unsigned char* room) {
  over_block(sums, room);
  if (team.size > 1) {
    double* all = k.gate_exchange + n * team.size * 2;
    if (threadIdx.x == 0) all[team.rank * 2] = sums[0], all[team.rank * 2 + 1] = sums[1];
    team.sync();
    sums[0] = sums[1] = 0;
    for (int rank = 0; rank < team.size; ++rank) sums[0] += all[rank * 2], sums[1] += all[rank * 2 + 1];
  }
  if (team.rank == 0 && threadIdx.x == 0) k.dgate[n] = sums[1], k.dgate[k.shape.N + n] = sums[0];
  sums[0] /= double(k.shape.C), sums[1] /= double(k.shape.C);
}

}  // namespace

template <class T, bool channels_last>
__global__ void __launch_bounds__(kept_threads(2, sizeof(T)), 1)
    context_backward_kernel(const __grid_constant__ ContextArgs k) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(k.blocks == 1 ? Scope::block : Scope::cluster, k.blocks);
  const int64_t n = blockIdx.x / unsigned(k.blocks);
  using Here = Sample<T, channels_last>;
  const Here here(k, n, team.rank, context_room(2));
  const int S = here.positions, step = int(blockDim.x);
  float *const center = here.values(0), *const scale = here.values(1), *const shift = here.values(2);
  float *const weight = here.values(3), *const gate = here.values(4), *const standardized = here.values(5);
  float *const dpooled = here.values(6), *const offset = here.values(7);  // offset: b
  // Of gate*scale and gate*shift, then of scale and shift.
  float *const dscale = here.values(8), *const dshift = here.values(9);
  float *const p_row = here.row(0), *const dt_row = here.row(1);

  const auto gates = gates_of(k, n, here.room);
  for (int c = int(threadIdx.x); c < here.channels; c += step) {
    const auto inner = context_plane(k, n, here.first + c);
    standardized[c] = gates.standardized(context_of(k, n, here.first + c));
    gate[c] = gates.gate(standardized[c]);
    center[c] = inner.center, weight[c] = inner.weight(k.similarity, k.shape.C);
    scale[c] = gate[c] * inner.scale, shift[c] = gate[c] * inner.shift;
  }
  for (int s = int(threadIdx.x); s < S; s += step) p_row[s] = k.p ? k.p[n * S + s] : 1.f / float(S), dt_row[s] = 0;
  __syncthreads();

  const Matrix<T> dy = k.dy_dense ? here.outside(k, k.dy) : Matrix<T>{};
  here.template each<4>({dy, here.outside(k, k.x)}, {dy.data ? here.kept(here.g) : dy, here.kept(here.x)},
                        [](auto, int, int, const auto& in, auto& out) { out[0] = in[0], out[1] = in[1]; });
  if (!dy.data) here.copy(k, k.dy, here.g);
  __syncthreads();

  // g takes dy's place; its sums are of what it was before rounding.
  const bool needs_z = k.act != Act::identity && !k.mask;
  const Matrix<T> residual = needs_z ? here.outside(k, k.residual) : Matrix<T>{};
  const int row_bytes = ((channels_last ? int(k.shape.C) : S) + 7) / 8;
  const int64_t row_0 = channels_last ? n * S : n * k.shape.C + here.first;
  const uint8_t* mask = k.mask ? k.mask + row_0 * row_bytes : nullptr;
  here.template plane_sums<2>(
      [&]<int count>(Count<count>, int c, int s, auto& found) {
        const int row = Here::row_of(c, s), column = Here::column_of(c, s);
        Raw<T, count> more;
        if (residual.data) more = residual.template read_anywhere<count>(row, column);
        unsigned bits = 0;
        if (k.mask) bits = read_bits(mask + row * row_bytes, channels_last ? here.first + c : s, count);
        const auto dy = here.template at<count>(here.g, c, s);
        const auto x = here.template at<count>(here.x, c, s);
        const auto m = Here::template of_channels<count>(center, c);
        const auto a = Here::template of_channels<count>(scale, c);
        const auto b = Here::template of_channels<count>(shift, c);
        Raw<T, count> kept;
        with_gradient<Acts::all, float>(k.act, k.mask != nullptr, [&](auto gradient) {
#pragma unroll
          for (int j = 0; j < count; ++j) {
            const float d = value_of<T, count>(x, j) - m[j];
            float z = a[j] * d + b[j];
            if (residual.data) z += value_of<T, count>(more, j);
            found[0][j] = gradient(value_of<T, count>(dy, j), z, bits >> j & 1);
            found[1][j] = found[0][j] * d;
            set_value<T, count>(kept, j, found[0][j]);
          }
        });
        here.kept(here.g).template write<count>(row, column, kept, false);
      },
      [&](int c, const auto& sums) { dshift[c] = float(sums[0]), dscale[c] = float(sums[1]); });
  __syncthreads();

  const auto da = [&](int c) {
    return gates.argument_back(context_plane(k, n, here.first + c), gate[c], dscale[c], dshift[c]);
  };
  double means[2] = {0, 0};
  for (int c = int(threadIdx.x); c < here.channels; c += step)
    means[0] += double(da(c)), means[1] += double(da(c)) * standardized[c];
  mean_over_channels(k, team, n, means, here.room);
  for (int c = int(threadIdx.x); c < here.channels; c += step) {
    const auto inner = context_plane(k, n, here.first + c);
    const float dg = gates.back(standardized[c], da(c), float(means[0]), float(means[1]));
    dpooled[c] = inner.scale * dg;
    dscale[c] = gate[c] * dscale[c] + dg * context_pooled(k, inner, n, here.first + c);
    dshift[c] = gate[c] * dshift[c] + dg;
  }
  __syncthreads();

  // What a channel's own is, with dw = sum_s dt f(d) and slope = sum_s dt f'(d).
  const auto finish = [&](int c, float dw, float slope) {
    const auto inner = context_plane(k, n, here.first + c);
    float more = 0, dm;  // of scale, and of the plane mean
    inner.back(k.similarity, k.shape.C, dw, slope, more, dshift[c], dm);
    offset[c] = dm / float(S);
    if (k.dscale == nullptr) return;
    const int64_t plane = n * k.shape.C + here.first + c;
    k.dshift[plane] = dshift[c];  // around mu
    k.dscale[plane] = dscale[c] + more + (inner.center - k.mu[here.first + c]) * dshift[c];
  };
  if (k.similarity != Similarity::none) {
    here.template position_sums<1>(
        [&]<int count>(Count<count>, int c, int s, auto& found) {
          const auto x = here.template at<count>(here.x, c, s);
          const auto m = Here::template of_channels<count>(center, c);
          const auto d = Here::template of_channels<count>(dpooled, c);
#pragma unroll
          for (int j = 0; j < count; ++j) found[0][j] = d[j] * (value_of<T, count>(x, j) - m[j]);
        },
        [&](int s, const auto& sums) { dt_row[s] = sums[0]; });
    add_blocks(team, k.exchange, n, dt_row, S);
    weights_back(k, p_row, k.t + n * S, dt_row, S, here.room);
  }
  if (k.similarity == Similarity::none || (k.similarity == Similarity::mean_difference && k.dscale == nullptr)) {
    for (int c = int(threadIdx.x); c < here.channels; c += step) finish(c, 0, 0);
  } else {
    here.template plane_sums<2>(
        [&]<int count>(Count<count>, int c, int s, auto& found) {
          const auto x = here.template at<count>(here.x, c, s);
          const auto m = Here::template of_channels<count>(center, c);
          const auto dt = Here::template of_positions<count>(dt_row, s);
#pragma unroll
          for (int j = 0; j < count; ++j) {
            const float d = value_of<T, count>(x, j) - m[j];
            found[0][j] = dt[j] * kind_value(k.kind, d);
            found[1][j] = dt[j] * kind_slope(k.kind, d);
          }
        },
        [&](int c, const auto& sums) { finish(c, float(sums[0]), float(sums[1])); });
  }
  __syncthreads();

  here.template each<2>({here.kept(here.g), here.kept(here.x)}, {here.outside(k, k.y), here.outside(k, k.g)},
                        [&]<int count>(Count<count>, int c, int s, const auto& in, auto& out) {
                          const auto m = Here::template of_channels<count>(center, c);
                          const auto a = Here::template of_channels<count>(scale, c);
                          const auto w = Here::template of_channels<count>(weight, c);
                          const auto q = Here::template of_channels<count>(dpooled, c);
                          const auto b = Here::template of_channels<count>(offset, c);
                          const auto p = Here::template of_positions<count>(p_row, s);
                          const auto dt = Here::template of_positions<count>(dt_row, s);
#pragma unroll
                          for (int j = 0; j < count; ++j) {
                            const float d = value_of<T, count>(in[1], j) - m[j];
                            const float dx = a[j] * value_of<T, count>(in[0], j) + q[j] * p[j] + b[j];
                            set_value<T, count>(out[0], j, dx + w[j] * dt[j] * kind_slope(k.kind, d));
                          }
                          out[1] = in[0];
                        });
}

void context_backward(const ContextArgs& k, const Stream& s) {
  with_kept_kernel(k.shape, [&](auto type, auto channels_last) {
    using T = decltype(type);
    launch(kept_launch("context_backward", k, context_room(2)), s, context_backward_kernel<T, channels_last>, k);
  });
}

}  // namespace fusednorm
