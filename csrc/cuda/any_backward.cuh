// The head of any pair of parts, back, in two parts as head_backward.cuh: to the planes' moments, then to the
// parameters. First the recalibration, which leaves what each plane adds to its own moments and to mu and var; then the
// standardization, which hands what mu and var got on to the planes that they are made of.
#pragma once

#include "any_gates_backward.cuh"

namespace fusednorm {

// What looks at no other plane; attentive: what does not come through the attention, and mu and r. A thread a plane.
// Traffic: mean, v, scale, dscale, dshift, N×C; writes N×C five to seven times.
template <class A>
__device__ __forceinline__ void recalibration_backward(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                       const Unit& unit, const Team& team) {
  const HeadArgs& k = to.head;
  visit_planes(unit, team, [&](int64_t n, int c) {
    const int64_t plane = n * k.C + c;
    const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
    const Standard<A> with = mixture(k, s, unit, n, c, p);
    const MapGradient<A> g = map_gradient_at<A>(to, plane);
    const A dgamma = g.dgamma(with);
    PlaneGradient<A> d(k, plane, g, dgamma, with.r);
    if (k.recalibrate == Recalibrate::attentive) {
      s.mu[plane] = with.mu, s.r[plane] = with.r;
    } else if (k.recalibrate == Recalibrate::scaling) {
      const ScalingGate<A> gate(k, c, p, with);
      const A da = affine_weight<A>(k, c) * dgamma * gate.slope;
      scaling_statistic_gradient(gate.source, da * gate.weight, p.mean, p.var, with.mu, with.r, d.dm, d.dv, d.dmu,
                                 d.dvar);
      s.weight_part[plane] = gate.q * dgamma;
      s.gate_part[plane] = da;
      s.statistic_part[plane] = gate.statistic;
    } else if (k.recalibrate == Recalibrate::gather_excite) {
      const A k_hat = standardized_mean(p.mean, with.mu, with.r), u = mean_of_z(k, c, k_hat);
      const A q = restricted(Restrict(k.gate), u), weight = affine_weight<A>(k, c);
      const A du = (weight * dgamma + affine_bias<A>(k, c) * g.dshift) * restricted_slope(Restrict(k.gate), u, q);
      standardized_mean_gradient(du * weight, p.mean, with.mu, with.r, d.dm, d.dmu, d.dvar);
      s.weight_part[plane] = q * dgamma + du * k_hat;
      s.bias_part[plane] = q * g.dshift + du;
    } else {
      s.weight_part[plane] = dgamma;
    }
    d.keep(s, plane);
  });
}

// Squeeze-excite, from q back to z: dq = weight dGamma + bias dshift, through R to da, through the second layer and the
// relu to dz. Keeps da, relu(z), dz, u, mu and r. A block takes a sample. Traffic: mean, v, dscale, dshift, N×C; writes
// N×C six times.
template <class A>
__device__ __forceinline__ void excite_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const int K = int(k.K);
  row_products<A>(
      int(k.C), K, unit, team, shared,
      [&](int64_t n, int c) {
        const int64_t plane = n * k.C + c;
        const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
        const Standard<A> with = mixture(k, s, unit, n, c, p);
        s.mu[plane] = with.mu, s.r[plane] = with.r;
        s.s[plane] = mean_of_z(k, c, standardized_mean(p.mean, with.mu, with.r));
        A a = k.gate_bias ? in<A>(k.gate_bias)[c] : A(0);
#pragma unroll 4
        for (int i = 0; i < K; ++i) a += hidden<A>(k, n, i) * in<A>(k.gate_weight)[c * k.K + i];
        const A q = restricted(Restrict(k.gate), a);
        const MapGradient<A> g = map_gradient_at<A>(to, plane);
        const A dgamma = g.dgamma(with);
        s.weight_part[plane] = q * dgamma;
        s.bias_part[plane] = q * g.dshift;
        const A dq = affine_weight<A>(k, c) * dgamma + affine_bias<A>(k, c) * g.dshift;
        return s.gate_part[plane] = dq * restricted_slope(Restrict(k.gate), a, q);
      },
      [&](int i, int c) { return in<A>(k.gate_weight)[c * k.K + i]; },
      [&](int64_t n, int i, double sum, bool first) { s.da[n * K + i] = sum + (first ? 0 : s.da[n * K + i]); },
      [&](int64_t first, int count) {
#pragma unroll 1
        for (int j = int(threadIdx.x); j < count * K; j += int(blockDim.x)) {
          const int64_t at = first * K + j;
          s.lambda[at] = hidden<A>(k, first, j);
          s.dz[at] = in<double>(k.z)[at] > 0 ? A(s.da[at]) : A(0);
        }
      });
}

// Squeeze-excite, from z back to the planes: du = dz fc_weight, and with u = weight k_hat + bias to the moments. A warp
// takes 32 channels of a sample.
template <class A>
__device__ __forceinline__ void squeeze_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                 const Team& team) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  auto start = [&](int64_t n) { return s.dz + n * k.K; };
  auto plane = [&](int64_t n, const A* dz, HandRound<A>& hand_round, int c, bool real) {
    A du = 0;
    hand_round(int(k.K), [&](int i) { return dz[i]; }, [&](int i, A d) { du += d * in<A>(k.fc_weight)[i * k.C + c]; });
    if (real) mean_of_z_backward(to, s, n * k.C + c, c, statistics(n, c), du);
  };
  each_plane<A>(int(k.C), unit, team, start, plane);
}

template <class A>
__device__ __forceinline__ MeanVar plane_gradient_at(const HeadScratch<A>& s, int64_t plane) {
  return {double(s.plane_dmu[plane]), double(s.plane_dvar[plane])};
}

// dmu = sum w dmu, dvar = sum w' dvar of each scope's pairs; and of each sample, for the control parameters,
// dw = sum dmu (mu - m), dw' = sum dvar var over the channels that share them. Traffic: dmu, dvar, N×C twice a scope.
template <class A>
__device__ __forceinline__ void scopes_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  auto load = [&](int64_t plane) { return plane_gradient_at(s, plane); };
#pragma unroll 1
  for (int i = 0; i < s.scopes; ++i) {
    const ScopeScratch& t = s.scope[i];
    if (t.mu == nullptr) continue;
    over_sharers(k, t, unit, team, shared, [&](auto total, bool writes, int64_t pair, int) {
      double sums[2] = {};
      total(sums, load, [&](int c, const MeanVar& d, auto& sums) {
        const Ratios<A> ratios(s, unit, c);
        sums[0] += d.mean * ratios.mean(i);
        sums[1] += d.var * ratios.var(i);
      });
      if (writes) t.dmu[pair] = sums[0], t.dvar[pair] = sums[1] * t.factor;
    });
  }
  if (k.mean_weight == nullptr) return;
  const int channels = int(s.ratio_channels);
  const unsigned groups = unsigned(k.ratio_groups);
  const Crew crew(channels);
  crew.each(team, (unit.n1 - unit.n0) * groups, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + unsigned(item) / groups, row = n * groups + unsigned(item) % groups;
    const int first = int(unsigned(item) % groups) * channels;
#pragma unroll 1
    for (int i = 0; i < s.scopes; ++i) {
      MeanVar sums = {0, 0};
#pragma unroll 1
      for (int c = first + crew.member; c < first + channels && active; c += crew.threads) {
        const PlaneMoments<A> p = plane_moments_at<A>(k, n * k.C + c);
        const MeanVar of = scope_moments(k, s, i, n, c, p), d = load(n * k.C + c);
        sums.mean += d.mean * (of.mean - p.mean);
        sums.var += d.var * of.var;
      }
      sums.mean = crew.sum(sums.mean, shared), sums.var = crew.sum(sums.var, shared);
      double* part = s.ratio_part + (row * s.scopes + i) * 2;
      if (active && crew.member == 0) part[0] = sums.mean, part[1] = sums.var;
    }
  });
}

// d(mean of the centred map's plane), for a plane's share in mu and var over the batch.
template <class A>
__device__ __forceinline__ double centred_gradient(const HeadArgs& k, const HeadScratch<A>& s, int c,
                                                   const PlaneMoments<A>& p) {
  const ScopeScratch& t = s.scope[0];
  return t.given ? 0.0 : t.share * (t.dmu[c] + 2 * t.dvar[c] * (p.mean + moved(k, c, p) - t.mu[c]));
}

// dm and dv of every plane, with what the scopes got: to a and b, or, where attention adds to them, to the scratch.
template <class A>
__device__ __forceinline__ void standardization_backward(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                         const Unit& unit, const Team& team) {
  const HeadArgs& k = to.head;
  visit_planes(unit, team, [&](int64_t n, int c) {
    const int64_t plane = n * k.C + c;
    const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
    const MeanVar d = plane_gradient_at(s, plane);
    A dm = s.dm[plane], dv = s.dv[plane];
    if (k.center_weight) {
      const double dmc = centred_gradient(k, s, c, p);
      if (!s.scope[0].given) dv += A(s.scope[0].dvar[c] * s.scope[0].share);
      centering_gradient(k.center_std, in<A>(k.center_weight)[c], dmc, d.mean, p.var, dm, dv);
    } else if (k.standardize == Standardize::filter_response) {
      dm += A(2 * p.mean * d.var), dv += A(d.var);
    } else {
      const Ratios<A> ratios(s, unit, c);
      double mean = 0, var = 0;
#pragma unroll 1
      for (int i = 0; i < s.scopes; ++i) {
        const ScopeScratch& t = s.scope[i];
        if (t.given) continue;
        if (t.mu == nullptr) {
          mean += d.mean * ratios.mean(i);
          var += d.var * ratios.var(i);
        } else {
          const int64_t pair = pair_of(t, n, c);
          mean += t.share * (t.dmu[pair] + 2 * t.dvar[pair] * (p.mean - t.mu[pair]));
          var += t.share * t.dvar[pair];
        }
      }
      dm += A(mean), dv += A(var * s.plane_factor);
    }
    if (k.recalibrate == Recalibrate::attentive)
      s.dm[plane] = dm, s.dv[plane] = dv;
    else if (to.a)
      write_moment_gradients(to, plane, dm, dv);
  });
}

// As head_backward_maps, for any pair of parts. Units as in any_head_forward.
template <class A>
__device__ __forceinline__ void any_head_backward_maps(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                       const Unit& unit, const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  scopes_of_unit(k, s, unit, team, shared);
  team.sync();
  if (k.recalibrate == Recalibrate::squeeze_excite) {
    excite_backward(to, s, unit, team, shared);
    team.sync();
    squeeze_backward(to, s, unit, team);
  } else if (looks_beyond(k)) {
    gate_backward(to, s, unit, team, shared);
  } else {
    recalibration_backward(to, s, unit, team);
  }
  team.sync();
  scopes_backward(to, s, unit, team, shared);
  if (norm_over_batch(k)) attention_norm_statistics(k, s, reversed(team));
  team.sync();
  standardization_backward(to, s, unit, team);
  if (k.recalibrate != Recalibrate::attentive) return;
  attention_backward(to, s, unit, team, shared);
  team.sync();
  if (norm_over_batch(k)) {
    attention_norm_backward(k, s, team);
    team.sync();
  }
  attentive_moments_backward<true>(to, s, unit, team);
}

}  // namespace fusednorm
