// What plane_affine_reduce does with an item, for the streaming and the resident kernels.
//   g = dy*act'(z);  dshift = sum_s g;  dscale = sum_s g*(x - center)                                 docs/engine.md
// Every thread keeps V pairs of sums in the compute type; lanes, warps and segments are added in double, in an order that the
// launch alone decides.
#pragma once

#include "affine.cuh"
#include "lanes.cuh"
#include "partials.cuh"
#include "tuning.h"

namespace fusednorm {

template <int M>
struct Sums {
  double g[M], gx[M];

  __device__ __forceinline__ void merge(const Sums& other) {
#pragma unroll
    for (int j = 0; j < M; ++j) g[j] += other.g[j], gx[j] += other.gx[j];
  }

  __device__ __forceinline__ Sums shuffled(int offset) const {
    Sums other;
#pragma unroll
    for (int j = 0; j < M; ++j) {
      other.g[j] = __shfl_xor_sync(0xffffffffu, g[j], offset);
      other.gx[j] = __shfl_xor_sync(0xffffffffu, gx[j], offset);
    }
    return other;
  }
};

// dy and x of one step, where they come from and what is made of them; shared with plane_affine_grad.
template <class T, bool channels_last, bool vectorized, Acts acts>
struct GradientOf {
  using A = Compute<T>;
  static constexpr int V = kValues<T, vectorized>;
  const AffineArgs& k;
  const Item<T, channels_last, vectorized>& item;
  const Track<T> tx, tdy, tr;
  const Coefficients<A, V, channels_last> coefficients;
  const int64_t mask_row;

  __device__ __forceinline__ GradientOf(const AffineArgs& args, const Item<T, channels_last, vectorized>& at)
      : k(args),
        item(at),
        tx(at.track(args.x)),
        tdy(at.track(args.dy)),
        tr(at.track(args.residual)),
        coefficients(args, at.n, at.c, at.real),
        mask_row(((channels_last ? args.shape.C : args.shape.positions()) + 7) / 8) {}

  // z matters, and is to be had from x and the residual: there is no mask.
  __device__ __forceinline__ bool needs_z() const { return k.act != Act::identity && !k.mask; }

  __device__ __forceinline__ unsigned bits_of(int position, int count) const {
    if (!k.mask) return 0;
    const int64_t row =
        channels_last ? item.n * k.shape.positions() + item.begin + position : item.n * k.shape.C + item.c;
    return read_bits(k.mask + row * mask_row, channels_last ? item.c : item.begin + position, count);
  }

  // f(j, g, x - center) for the values of a step.
  template <int count, class F>
  __device__ __forceinline__ void each(int position, const Raw<T, count>& dy, const Raw<T, count>& x,
                                       const Raw<T, count>& residual, bool add_residual, F&& f) const {
    const unsigned bits = bits_of(position, count);
    with_gradient<acts, A>(k.act, k.mask != nullptr, [&](auto gradient) {
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const A centred = value_of<T, count>(x, j) - coefficients.center[j];
        A z = coefficients.scale[j] * centred + coefficients.shift[j];
        if (add_residual) z += value_of<T, count>(residual, j);
        f(j, gradient(value_of<T, count>(dy, j), z, bits >> j & 1), centred);
      }
    });
  }
};

// Where the sums go: `dscale` and `dshift`, or, of a segment, the partials.
// kept: with `resident`, dy and x are left there for a second pass: dy at even places, x at odd ones.
template <Acts acts, bool resident, class T, bool channels_last, bool vectorized>
__device__ __forceinline__ void reduce_item(const Walk& w, const AffineArgs& k, const Partials& partials,
                                            Item<T, channels_last, vectorized> item, unsigned char* shared, uint4* kept,
                                            int ragged_slot) {
  using A = Compute<T>;
  constexpr int V = Item<T, channels_last, vectorized>::V, M = channels_last ? V : 1;
  // Resident blocks of 256 are alone on their SM: more loads each.
  constexpr int U = resident && V == 8 && acts == Acts::relu_like ? 3 : tuning::kGradientSteps<acts>;
  const Shape& shape = k.shape;
  const GradientOf<T, channels_last, vectorized, acts> gradient(k, item);
  const Track<T> tg = resident ? Track<T>{} : item.track(k.y);
  if constexpr (!resident) item.align(gradient.tx, gradient.tdy, gradient.tr, tg);
  const bool add_residual = gradient.tr.first && gradient.needs_z();
  A g_sum[V], gx_sum[V];
#pragma unroll
  for (int j = 0; j < V; ++j) g_sum[j] = gx_sum[j] = 0;
  A g_ends = 0, gx_ends = 0;
  if (item.real) {
    int place = 0;
    for (int i = item.lane; i < item.steps; i += item.lanes * U, place += U) {
      Raw<T, V> dy[U], x[U], residual[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
        if (step < item.steps) {
          dy[u] = load<T, V>(item.at(gradient.tdy, k.dy, shape, step));
          x[u] = load<T, V>(item.at(gradient.tx, k.x, shape, step));
          if (add_residual) residual[u] = load<T, V>(item.at(gradient.tr, k.residual, shape, step));
        }
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int step = i + u * item.lanes;
        if (step >= item.steps) break;
        if constexpr (resident) {
          kept[2 * (place + u) * blockDim.x] = dy[u].bits;
          kept[(2 * (place + u) + 1) * blockDim.x] = x[u].bits;
        }
        Raw<T, V> out;
        const int position = channels_last ? step : item.head + step * V;
        gradient.template each<V>(position, dy[u], x[u], residual[u], add_residual, [&](int j, A g, A centred) {
          g_sum[j] += g, gx_sum[j] += g * centred;
          if (tg.first) set_value<T, V>(out, j, g);
        });
        if (tg.first) store<T, V>(item.at(tg, k.y, shape, step), out, false);  // plane_affine_grad reads it back
      }
    }
    if constexpr (!channels_last && V > 1) {
      T* slot = resident ? reinterpret_cast<T*>(kept + ragged_slot * blockDim.x) : nullptr;
      T* slot_x = resident ? reinterpret_cast<T*>(kept + (ragged_slot + 1) * blockDim.x) : nullptr;
      for (int e = item.lane; e < item.ragged(); e += item.lanes) {
        const int position = item.ragged_position(e);
        Raw<T, 1> dy = {gradient.tdy.first[position]}, x = {gradient.tx.first[position]}, residual = dy;
        if (add_residual) residual = {gradient.tr.first[position]};
        if constexpr (resident) *slot++ = dy.bits, *slot_x++ = x.bits;
        gradient.template each<1>(position, dy, x, residual, add_residual, [&](int, A g, A centred) {
          g_ends += g, gx_ends += g * centred;
          if (tg.first) tg.first[position] = detail::from_compute<T>(g);
        });
      }
    }
  }

  Sums<M> mine;
  if constexpr (channels_last) {
#pragma unroll
    for (int j = 0; j < V; ++j) mine.g[j] = g_sum[j], mine.gx[j] = gx_sum[j];
  } else {
    mine.g[0] = g_ends, mine.gx[0] = gx_ends;
#pragma unroll
    for (int j = 0; j < V; ++j) mine.g[0] += double(g_sum[j]), mine.gx[0] += double(gx_sum[j]);
  }
  merge_lanes(mine, w, shared);
  if (item.lane != 0 || !item.real) return;
#pragma unroll
  for (int j = 0; j < M; ++j) {
    const int64_t c = item.c + j;
    if (partials.segments > 1) {
      keep_segment(partials, item.segment, item.n, c, mine.g[j], mine.gx[j]);
    } else {
      static_cast<A*>(k.dshift.data)[item.n * k.dshift.n + c * k.dshift.c] = A(mine.g[j]);
      static_cast<A*>(k.dscale.data)[item.n * k.dscale.n + c * k.dscale.c] = A(mine.gx[j]);
    }
  }
}

}  // namespace fusednorm
