// The head of any pair of parts: the parameters' gradients, sums over samples of what any_backward.cuh left.
#pragma once

#include "any_backward.cuh"

namespace fusednorm {

// What there is a sum of for every channel.
constexpr int kColumns = 5;

// Sums over samples, of the unit's channels: dweight, dbias, scaling's and squeeze-excite's dgate_bias, scaling's
// dgate_weight, and dcenter_weight = sum K (dmc - dmu). A band takes 32 channels of one of them. Traffic: N×C each.
template <class A>
__device__ __forceinline__ void column_sums(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                            const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const bool attentive = k.recalibrate == Recalibrate::attentive;
  const unsigned tiles = unsigned(unit.c1 - unit.c0 + 31) / 32;
  const Bands bands(k.N);
  bands.each(team, int64_t(tiles) * kColumns, [&](int64_t item, bool active) {
    const unsigned which = unsigned(item) / tiles;
    const int c = int(unit.c0) + int(unsigned(item) % tiles) * 32 + lane_of_warp();
    const void* from = nullptr;
    void* sum = nullptr;
    if (which == 0 && !attentive) from = s.weight_part, sum = to.dweight;
    if (which == 1 && !attentive) from = s.bias_part ? s.bias_part : to.dshift, sum = to.dbias;
    if (which == 2) from = s.gate_part, sum = to.dgate_bias;  // channel attention and style have none
    if (which == 3 && k.recalibrate == Recalibrate::scaling) from = s.statistic_part, sum = to.dgate_weight;
    if (which == 4) sum = to.dcenter_weight;
    active = active && c < unit.c1 && sum != nullptr;
    const A* factor = which == 3 ? s.gate_part : nullptr;
    double sums[1] = {};
    if (which < 4) {
      in_flight<4>(
          bands.split, active ? unsigned(k.N) : 0, bands.splits,
          [&](unsigned n) {
            const int64_t plane = n * k.C + c;
            return double(in<A>(from)[plane]) * (factor ? double(factor[plane]) : 1.0);
          },
          [&](unsigned, double value) { sums[0] += value; });
    } else if (active) {
      // Over the batch dmc - dmu adds up to 0: K less the first sample's leaves no more of a large mean than there is.
      const PlaneMoments<A> first = plane_moments_at<A>(k, c);
      const double base = s.scope[0].given ? 0.0 : centering_statistic(k.center_std, first.mean, first.var);
#pragma unroll 1
      for (unsigned n = bands.split; n < unsigned(k.N); n += bands.splits) {
        const int64_t plane = n * k.C + c;
        const PlaneMoments<A> p = plane_moments_at<A>(k, plane);
        sums[0] += (centering_statistic(k.center_std, p.mean, p.var) - base) *
                   (centred_gradient(k, s, c, p) - double(s.plane_dmu[plane]));
      }
    }
    bands.sum(sums, shared);
    if (active && bands.split == 0) out<A>(sum)[c] = A(sums[0]);
  });
}

// Control parameters' gradients from what each sample adds: through the softmax. A warp a row of one of the two.
template <class A>
__device__ __forceinline__ void ratio_gradients(const HeadGradArgs& to, const HeadScratch<A>& s, const Team& team) {
  const HeadArgs& k = to.head;
  each_warp_item(team, 2 * k.ratio_groups, [&](int64_t item) {
    const int which = int(item % 2);
    const int64_t row = item / 2;
    const double* ratio = s.ratios + row * s.scopes * 2 + which;  // the first unit's
    A* gradient = out<A>(which ? to.dvar_weight : to.dmean_weight) + row * s.scopes;
    double inner = 0;
#pragma unroll 1
    for (int j = 0; j < 2 * s.scopes; ++j) {
      const int i = j % s.scopes;
      double d = 0;
#pragma unroll 1
      for (int64_t n = lane_of_warp(); n < k.N; n += 32)
        d += s.ratio_part[((n * k.ratio_groups + row) * s.scopes + i) * 2 + which];
      d = warp_sum(d);
      if (j < s.scopes)
        inner += ratio[2 * i] * d;
      else if (lane_of_warp() == 0)
        gradient[i] = A(ratio[2 * i] * (d - inner));
    }
  });
}

// Channel attention's dgate_weight from what each sample adds. A warp a place of the window.
template <class A>
__device__ __forceinline__ void window_parameters(const HeadGradArgs& to, const HeadScratch<A>& s, const Team& team) {
  const HeadArgs& k = to.head;
  if (to.dgate_weight == nullptr) return;
  each_warp_item(team, k.window, [&](int64_t j) {
    double sum = 0;
#pragma unroll 1
    for (int64_t n = lane_of_warp(); n < k.N; n += 32) sum += s.window_part[n * k.window + j];
    sum = warp_sum(sum);
    if (lane_of_warp() == 0) out<A>(to.dgate_weight)[j] = A(sum);
  });
}

template <class A, int G>
struct HiddenValues {
  A da, u, h[G], dz[G];
};

// Squeeze-excite's layers: dgate_weight = da' relu(z), dfc_weight = dz' u. A band takes 32 channels and G components.
// dfc_bias = sum dz, a warp a component.
template <class A>
__device__ __forceinline__ void excite_parameters(const HeadGradArgs& to, const HeadScratch<A>& s, const Team& team,
                                                  unsigned char* shared) {
  constexpr int G = 4;
  const HeadArgs& k = to.head;
  const Bands bands(k.N);
  const int C = int(k.C), K = int(k.K), tiles = (C + 31) / 32;
  bands.each(team, int64_t(tiles) * ((K + G - 1) / G), [&](int64_t item, bool active) {
    const int c = int(item % tiles) * 32 + lane_of_warp(), first = int(item / tiles) * G;
    active = active && c < C;
    A gate[G] = {}, fc[G] = {};
    in_flight<kGradients<A> / 2>(
        bands.split, active ? unsigned(k.N) : 0, bands.splits,
        [&](unsigned n) {
          HiddenValues<A, G> v;
          v.da = s.gate_part[n * k.C + c];
          v.u = s.s[n * k.C + c];
#pragma unroll
          for (int j = 0; j < G; ++j) {
            const int64_t i = n * k.K + (first + j < K ? first + j : K - 1);
            v.h[j] = s.lambda[i];
            v.dz[j] = s.dz[i];
          }
          return v;
        },
        [&](unsigned, const HiddenValues<A, G>& v) {
#pragma unroll
          for (int j = 0; j < G; ++j) gate[j] += v.da * v.h[j], fc[j] += v.dz[j] * v.u;
        });
    bands.sum(gate, shared);
    bands.sum(fc, shared);
    if (!active || bands.split != 0) return;
#pragma unroll
    for (int j = 0; j < G; ++j) {
      if (first + j >= K) break;
      if (to.dgate_weight) out<A>(to.dgate_weight)[c * k.K + first + j] = gate[j];
      if (to.dfc_weight) out<A>(to.dfc_weight)[(first + j) * k.C + c] = fc[j];
    }
  });
  if (to.dfc_bias == nullptr) return;
  each_warp_item(reversed(team), k.K, [&](int64_t i) {
    double sum = 0;
#pragma unroll 1
    for (int64_t n = lane_of_warp(); n < k.N; n += 32) sum += double(s.dz[n * k.K + i]);
    sum = warp_sum(sum);
    if (lane_of_warp() == 0) out<A>(to.dfc_bias)[i] = A(sum);
  });
}

// As head_backward_parameters, for any pair of parts; of the unit's channels, where one plane looks at no other channel.
template <class A>
__device__ __forceinline__ void any_head_backward_parameters(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                             const Unit& unit, const Team& team,
                                                             unsigned char* shared) {
  const HeadArgs& k = to.head;
  column_sums(to, s, unit, team, shared);
  if (s.ratios) ratio_gradients(to, s, reversed(team));
  if (k.window > 0) window_parameters(to, s, reversed(team));
  if (k.recalibrate == Recalibrate::squeeze_excite) {
    excite_parameters(to, s, team, shared);
  } else if (k.recalibrate == Recalibrate::attentive) {
    attention_vectors(to, s, reversed(team));
    attentive_parameters(to, s, team, shared);
  }
}

}  // namespace fusednorm
