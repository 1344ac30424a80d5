// Gates that look beyond their plane (any_gates.cuh), back: to what each plane adds to its own moments and to mu and var,
// and to the parameters. They start by keeping mu and r of the unit's planes.
#pragma once

#include "any_gates.cuh"
#include "any_plane_gradient.cuh"

namespace fusednorm {

// dq of a gate of the whole of z.
template <class A>
__device__ __forceinline__ A gate_gradient(const HeadArgs& k, int c, A dgamma, A dshift) {
  return affine_weight<A>(k, c) * dgamma + affine_bias<A>(k, c) * dshift;
}

// Channel attention, from q back to a. Keeps da. A thread a plane. Traffic: mean, mu, r window times, scale, dscale,
// dshift; writes N×C thrice.
template <class A>
__device__ __forceinline__ void window_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                const Team& team) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  visit_planes(unit, team, [&](int64_t n, int c) {
    const int64_t plane = n * k.C + c;
    const WindowGate<A> gate(k, statistics, n, c);
    const MapGradient<A> g = map_gradient_at<A>(to, plane);
    const A dgamma = g.dgamma(statistics(n, c));
    s.weight_part[plane] = gate.q * dgamma;
    s.bias_part[plane] = gate.q * g.dshift;
    s.gate_part[plane] = gate_gradient(k, c, dgamma, g.dshift) * gate.slope;
  });
}

// And from a to the planes, du[c] = sum_j gate_weight[j] da[c - j + window/2]; dgate_weight, a warp for a place of a
// sample's window. Traffic: da window times; mean, mu, r, scale, dscale, dshift, N×C; writes N×C six times.
template <class A>
__device__ __forceinline__ void window_moments_backward(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                        const Unit& unit, const Team& team) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  const int C = int(k.C), window = int(k.window);
  visit_planes(unit, team, [&](int64_t n, int c) {
    A du = 0;
#pragma unroll 1
    for (int j = 0; j < window; ++j) {
      const int from = c - j + window / 2;
      if (from >= 0 && from < C) du += in<A>(k.gate_weight)[j] * s.gate_part[n * k.C + from];
    }
    mean_of_z_backward(to, s, n * k.C + c, c, statistics(n, c), du);
  });
  each_warp_item(reversed(team), (unit.n1 - unit.n0) * window, [&](int64_t item) {
    const int64_t n = unit.n0 + item / window;
    const int j = int(item % window), offset = j - window / 2;
    double sum = 0;
#pragma unroll 1
    for (int c = lane_of_warp(); c < C; c += 32)
      if (c + offset >= 0 && c + offset < C)
        sum += double(s.gate_part[n * k.C + c] * plane_mean(k, statistics, n, c + offset));
    sum = warp_sum(sum);
    if (lane_of_warp() == 0) s.window_part[n * window + j] = sum;
  });
}

// From du and dspread, by the plane's mean and variance in z, to its moments.
template <class A>
__device__ __forceinline__ void style_to_plane(const HeadGradArgs& to, const HeadScratch<A>& s, int64_t plane, int c,
                                               const Standard<A>& with, A du, A dspread) {
  const HeadArgs& k = to.head;
  const A v = in<A>(k.v)[plane], weight = affine_weight<A>(k, c);
  const MapGradient<A> g = map_gradient_at<A>(to, plane);
  s.weight_part[plane] +=
      du * standardized_mean(g.mean, with.mu, with.r) + A(2) * dspread * weight * standardized_var(v, with.r);
  s.bias_part[plane] += du;
  PlaneGradient<A> d(k, plane, g, g.dgamma(with), with.r);
  standardized_mean_gradient(du * weight, g.mean, with.mu, with.r, d.dm, d.dmu, d.dvar);
  standardized_var_gradient(dspread * weight * weight, v, with.r, d.dv, d.dvar);
  d.keep(s, plane);
}

// Style, through the BN over samples and its parameters. Keeps da. A band takes 32 channels and all the unit's samples,
// which are all there are. Traffic: mean, v, mu, r, N×C, four times, or two; scale, dscale, dshift twice; writes N×C nine
// times.
template <class A>
__device__ __forceinline__ void style_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const Bands bands(unit.n1 - unit.n0);
  bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
    const int c = int(unit.c0 + tile * 32) + lane_of_warp();
    active = active && c < unit.c1;
    const StyleNorm<A> norm(k, s, unit, bands, c, active, shared);
    double sums[2] = {};  // of da, of da z_hat
    norm.each(bands, active, [&](int64_t n) {
      const int64_t plane = n * k.C + c;
      const MapGradient<A> g = map_gradient_at<A>(to, plane);
      const A dgamma = g.dgamma(norm.statistics(n, c));
      const double z_hat = norm.z_hat(norm.look(n));
      const A a = norm.before(z_hat), q = restricted(Restrict(k.gate), a);
      const A da = gate_gradient(k, c, dgamma, g.dshift) * restricted_slope(Restrict(k.gate), a, q);
      s.weight_part[plane] = q * dgamma;
      s.bias_part[plane] = q * g.dshift;
      s.gate_part[plane] = da;
      sums[0] += double(da), sums[1] += double(da) * z_hat;
    });
    bands.sum(sums, shared);
    if (active && bands.split == 0) {
      if (to.dnorm_weight) out<A>(to.dnorm_weight)[c] = A(sums[1]);
      if (to.dnorm_bias) out<A>(to.dnorm_bias)[c] = A(sums[0]);
    }
    sums[0] /= double(k.N), sums[1] /= double(k.N);
    const double gain = double(in<A>(k.norm_weight)[norm.c]) * norm.inverse;
    double style[2] = {};  // dgate_weight; over the batch d adds up to 0: any constant may be taken off the mean
    norm.each(bands, active, [&](int64_t n) {
      const int64_t plane = n * k.C + c;
      const auto at = norm.look(n);
      double d = double(s.gate_part[plane]);
      if (!k.norm_mean) d -= sums[0] + norm.z_hat(at) * sums[1];
      d *= gain;
      style[0] += d * (at.mean - (k.norm_mean ? 0 : norm.look(0).mean)), style[1] += d * at.std;
      style_to_plane(to, s, plane, c, norm.statistics(n, c), A(norm.of_mean * d), A(norm.of_std * d / (2 * at.std)));
    });
    bands.sum(style, shared);
    if (to.dgate_weight == nullptr || !active || bands.split != 0) return;
    out<A>(to.dgate_weight)[2 * c] = A(style[0]);
    out<A>(to.dgate_weight)[2 * c + 1] = A(style[1]);
  });
}

// Global response: with D = mean_c G + eps and d = weight dGamma, dG = (d - sum_c d G / (C D)) / D. A crew takes a sample.
// Traffic: mean, v, mu, r, N×C, three times, scale, dscale, dshift twice; writes N×C five times.
template <class A>
__device__ __forceinline__ void response_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                  const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  const Crew crew(int(k.C));
  crew.each(team, unit.n1 - unit.n0, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + item;
    const A level = response_level(k, statistics, crew, n, active, shared);
    double inner = 0;
#pragma unroll 1
    for (int c = crew.member; c < int(k.C) && active; c += crew.threads) {
      const A dgamma = map_gradient_at<A>(to, n * k.C + c).dgamma(statistics(n, c));
      inner += double(affine_weight<A>(k, c) * dgamma) * double(norm_of_plane(k, statistics, n, c) / level);
    }
    const A share = A(crew.sum(inner, shared) / double(k.C));
#pragma unroll 1
    for (int c = crew.member; c < int(k.C) && active; c += crew.threads) {
      const int64_t plane = n * k.C + c;
      const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
      const Standard<A> with = statistics(n, c);
      const MapGradient<A> g = map_gradient_at<A>(to, plane);
      const A dgamma = g.dgamma(with), G = norm_of_plane(k, statistics, n, c);
      PlaneGradient<A> d(k, plane, g, dgamma, with.r);
      plane_norm_gradient((affine_weight<A>(k, c) * dgamma - share) / level, G, k.S, p.mean, p.var, with.mu, with.r,
                          d.dm, d.dv, d.dmu, d.dvar);
      s.weight_part[plane] = dgamma * (G / level);
      d.keep(s, plane);
    }
  });
}

template <class A>
__device__ __forceinline__ void gate_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                              const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  visit_planes(unit, team, [&](int64_t n, int c) {
    const int64_t plane = n * k.C + c;
    const Standard<A> with = mixture(k, s, unit, n, c, plane_moments_at<A>(k, plane));
    s.mu[plane] = with.mu, s.r[plane] = with.r;
  });
  team.sync();
  if (k.recalibrate == Recalibrate::style) return style_backward(to, s, unit, team, shared);
  if (k.recalibrate == Recalibrate::global_response) return response_backward(to, s, unit, team, shared);
  window_backward(to, s, unit, team);
  team.sync();
  window_moments_backward(to, s, unit, team);
}

}  // namespace fusednorm
