// The head of any pair of parts, forward: scale and shift of every plane.
#pragma once

#include "any_gates.cuh"

namespace fusednorm {

// What looks at no other plane: scale and shift. Else: mu and r, for the stage after it. A thread a plane.
template <class A>
__device__ __forceinline__ void any_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                         const Team& team) {
  visit_planes(unit, team, [&](int64_t n, int c) {
    const int64_t plane = n * k.C + c;
    const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
    const Standard<A> with = mixture(k, s, unit, n, c, p);
    if (k.recalibrate == Recalibrate::attentive || looks_beyond(k)) {
      s.mu[plane] = with.mu, s.r[plane] = with.r;
      return;
    }
    A gamma = affine_weight<A>(k, c), beta = affine_bias<A>(k, c);
    if (k.recalibrate == Recalibrate::scaling) gamma *= ScalingGate<A>(k, c, p, with).q;
    if (k.recalibrate == Recalibrate::gather_excite) {
      const A q = restricted(Restrict(k.gate), mean_of_z(k, c, standardized_mean(p.mean, with.mu, with.r)));
      gamma *= q, beta *= q;
    }
    write_map(k, plane, gamma, beta, with, A(p.mean));
  });
}

// Squeeze-excite: z = fc(u), u the plane means of weight x_hat + bias, and mu and r. A block takes a sample.
template <class A>
__device__ __forceinline__ void squeeze(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit, const Team& team,
                                        unsigned char* shared) {
  row_products<A>(
      int(k.C), int(k.K), unit, team, shared,
      [&](int64_t n, int c) {
        const int64_t plane = n * k.C + c;
        const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
        const Standard<A> with = mixture(k, s, unit, n, c, p);
        s.mu[plane] = with.mu, s.r[plane] = with.r;
        return mean_of_z(k, c, standardized_mean(p.mean, with.mu, with.r));
      },
      [&](int i, int c) { return in<A>(k.fc_weight)[i * k.C + c]; },
      [&](int64_t n, int i, double sum, bool first) {
        double& z = out<double>(k.z)[n * k.K + i];
        z = sum + (!first ? z : k.fc_bias ? double(in<A>(k.fc_bias)[i]) : 0);
      },
      [](int64_t, int) {});
}

// Squeeze-excite: Gamma = q weight, Beta = q bias with q = R(gate_weight relu(z) + gate_bias). A warp takes 32 channels of
// a sample.
template <class A>
__device__ __forceinline__ void excite(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit, const Team& team) {
  const Statistics<A> statistics(k, s);
  auto start = [](int64_t) { return 0; };
  auto plane = [&](int64_t n, int, HandRound<A>& hand_round, int c, bool real) {
    A a = k.gate_bias ? in<A>(k.gate_bias)[c] : A(0);
    hand_round(
        int(k.K), [&](int i) { return hidden<A>(k, n, i); },
        [&](int i, A h) { a += h * in<A>(k.gate_weight)[c * k.K + i]; });
    if (!real) return;
    const A q = restricted(Restrict(k.gate), a);
    write_map(k, n * k.C + c, q * affine_weight<A>(k, c), q * affine_bias<A>(k, c), statistics(n, c),
              A(k.mean[n * k.C + c]));
  };
  each_plane<A>(int(k.C), unit, team, start, plane);
}

// As head_forward, for any pair of parts. Units: everything for statistics of the batch or a BN over it (but whole
// channels do where one plane looks at no other channel), else one sample or more.
template <class A>
__device__ __forceinline__ void any_head_forward(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                                 const Team& team, unsigned char* shared) {
  const bool attentive = k.recalibrate == Recalibrate::attentive;
  scopes_of_unit(k, s, unit, team, shared);
  if (attentive) attention_logits<A>(k, unit, reversed(team), shared);
  team.sync();
  if (k.recalibrate == Recalibrate::squeeze_excite)
    squeeze(k, s, unit, team, shared);
  else
    any_maps(k, s, unit, team);
  if (k.K == 0 && !looks_beyond(k)) return;
  if (norm_over_batch(k)) attention_norm_statistics(k, s, reversed(team));
  team.sync();
  if (attentive)
    attentive_maps(k, s, unit, team);
  else if (k.recalibrate == Recalibrate::squeeze_excite)
    excite(k, s, unit, team);
  else
    gate_maps(k, s, unit, team, shared);
}

}  // namespace fusednorm
