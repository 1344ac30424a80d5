// What plane_affine_grad does with an item, for the streaming and the resident kernels.
//   dx = scale*g + a*(x - center) + b,  g = dy*act'(z); where there is a place for it, g too           docs/engine.md
#pragma once

#include "plane_affine_reduce.cuh"

namespace fusednorm {

// kept: dy and x as reduce_item left them, where `resident`.
template <Acts acts, bool resident, class T, bool channels_last, bool vectorized>
__device__ __forceinline__ void grad_item(const AffineArgs& k, Item<T, channels_last, vectorized> item,
                                          const uint4* kept, int ragged_slot) {
  using A = Compute<T>;
  constexpr int V = Item<T, channels_last, vectorized>::V, U = resident ? 1 : tuning::kGradientSteps<acts>;
  if (!item.real) return;
  const Shape& shape = k.shape;
  const GradientOf<T, channels_last, vectorized, acts> gradient(k, item);
  const Track<T> tdx = item.track(k.y), tg = item.track(k.g);
  if constexpr (!resident) item.align(gradient.tx, gradient.tdy, gradient.tr, tdx, tg);
  const bool moments = k.a.data != nullptr, add_residual = gradient.tr.first && gradient.needs_z();
  const bool needs_x = moments || gradient.needs_z();
  const auto a = coefficient<A, V, channels_last>(k.a, item.n, item.c, true);
  const auto b = coefficient<A, V, channels_last>(k.b, item.n, item.c, true);
  auto dx_of = [&](int j, A g, A centred) {
    const A through_scale = gradient.coefficients.scale[j] * g;
    return moments ? through_scale + a[j] * centred + b[j] : through_scale;
  };
  int place = 0;
  for (int i = item.lane; i < item.steps; i += item.lanes * U, place += U) {
    Raw<T, V> dy[U], x[U], residual[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int step = i + u * item.lanes;
      if (step < item.steps) {
        if constexpr (resident) {
          dy[u].bits = kept[2 * (place + u) * blockDim.x];
          x[u].bits = kept[(2 * (place + u) + 1) * blockDim.x];
        } else {
          dy[u] = load<T, V>(item.at(gradient.tdy, k.dy, shape, step));
          if (needs_x) x[u] = load<T, V>(item.at(gradient.tx, k.x, shape, step));
        }
        if (add_residual) residual[u] = load<T, V>(item.at(gradient.tr, k.residual, shape, step));
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int step = i + u * item.lanes;
      if (step >= item.steps) break;
      Raw<T, V> g_out, dx;
      const int position = channels_last ? step : item.head + step * V;
      gradient.template each<V>(position, dy[u], x[u], residual[u], add_residual, [&](int j, A g, A centred) {
        if (tg.first) set_value<T, V>(g_out, j, g);
        set_value<T, V>(dx, j, dx_of(j, g, centred));
      });
      if (tg.first) store<T, V>(item.at(tg, k.g, shape, step), g_out, shape.stream);
      store<T, V>(item.at(tdx, k.y, shape, step), dx, shape.stream);
    }
  }
  if constexpr (!channels_last && V > 1) {
    const T* slot = resident ? reinterpret_cast<const T*>(kept + ragged_slot * blockDim.x) : nullptr;
    const T* slot_x = resident ? reinterpret_cast<const T*>(kept + (ragged_slot + 1) * blockDim.x) : nullptr;
    for (int e = item.lane; e < item.ragged(); e += item.lanes) {
      const int position = item.ragged_position(e);
      Raw<T, 1> dy = {resident ? *slot++ : gradient.tdy.first[position]}, x = dy, residual = dy;
      if (needs_x) x = {resident ? *slot_x++ : gradient.tx.first[position]};
      if (add_residual) residual = {gradient.tr.first[position]};
      gradient.template each<1>(position, dy, x, residual, add_residual, [&](int, A g, A centred) {
        if (tg.first) tg.first[position] = detail::from_compute<T>(g);
        tdx.first[position] = detail::from_compute<T>(dx_of(0, g, centred));
      });
    }
  }
}

}  // namespace fusednorm
