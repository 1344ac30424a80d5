// The head's way back, in two parts: to the planes' moments (a and b of dx), then to the parameters, whose gradients
// are sums over all samples. docs/engine.md; csrc/cpu/head.h is the same for the CPU.
#pragma once

#include "head_parts.cuh"

namespace fusednorm {

// Planes that a thread loads side by side; with more, doubles would not fit into registers.
template <class A>
constexpr int kGradients = sizeof(A) == 4 ? 4 : 2;

template <class A>
struct MapGradient {
  double mean;
  A scale, dscale, dshift;

  __device__ __forceinline__ A dgamma(const Standard<A>& with) const {
    return gamma_gradient(with.r, dscale, dshift, A(mean), with.mu);
  }
};

template <class A>
__device__ __forceinline__ MapGradient<A> map_gradient_at(const HeadGradArgs& to, int64_t plane) {
  return {to.head.mean[plane], in<A>(to.head.scale)[plane], in<A>(to.dscale)[plane], in<A>(to.dshift)[plane]};
}

template <class A>
__device__ __forceinline__ void write_moment_gradients(const HeadGradArgs& to, int64_t plane, A dm, A dv) {
  out<A>(to.a)[plane] = a_of(dv, to.head.S);
  out<A>(to.b)[plane] = b_of(dm, to.head.S);
}

// Batch statistics of all channels, dmu and dvar; affine: a, b and the parameters' gradients too, sums over the same
// values. A band takes 32 channels and all samples. Traffic: mean three or four times, v, scale, dscale, dshift, N×C;
// writes N×C twice where affine.
template <class A>
__device__ __forceinline__ void batch_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const Bands bands(k.N);
  bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
    const int c = int(unit.c0 + tile * 32) + lane_of_warp();
    active = active && c < unit.c1;
    double mu, var;
    batch_statistics<A>(k, bands, c, active, shared, mu, var);
    const Standard<A> with = {mu, inverse_deviation<A>(var, k.eps)};
    double sums[4] = {};  // dmu, dvar, dweight, dbias
    in_flight<kGradients<A>>(
        bands.split, active ? unsigned(k.N) : 0, bands.splits,
        [&](unsigned n) { return map_gradient_at<A>(to, n * k.C + c); },
        [&](unsigned, const MapGradient<A>& g) {
          const A dgamma = g.dgamma(with);
          sums[0] += mu_gradient(g.scale, g.dshift);
          sums[1] += var_gradient(dgamma, g.scale, with.r);
          sums[2] += double(dgamma);
          sums[3] += double(g.dshift);
        });
    bands.sum(sums, shared);
    if (!active) return;
    const double dmu = sums[0], dvar = sums[1];
    if (k.K > 0) {
      if (bands.split == 0) s.mu[c] = mu, s.r[c] = with.r, s.dmu[c] = dmu, s.dvar[c] = dvar;
      return;
    }
    if (to.dweight && bands.split == 0) out<A>(to.dweight)[c] = A(sums[2]);
    if (to.dbias && bands.split == 0) out<A>(to.dbias)[c] = A(sums[3]);
    if (to.a == nullptr) return;
    const A dv = variance_gradient<A>(dvar, k.N);
    in_flight<4>(
        bands.split, unsigned(k.N), bands.splits, [&](unsigned n) { return k.mean[n * k.C + c]; },
        [&](unsigned n, double m) {
          write_moment_gradients(to, n * k.C + c, mean_gradient<A>(dmu, dvar, m, mu, k.N), dv);
        });
  });
}

// Statistics of the unit's groups of channels, dmu and dvar; affine: a and b too. A crew takes a group of a sample.
// Traffic: as above.
template <class A>
__device__ __forceinline__ void group_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const int size = int(k.C / k.groups);
  const int64_t groups = (unit.c1 - unit.c0) / size;
  const Crew crew(size);
  crew.each(team, (unit.n1 - unit.n0) * groups, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + item / groups, first = unit.c0 + item % groups * size, begin = n * k.C + first;
    const Standard<A> with = group_statistics<A>(k, crew, begin, size, active, shared);
    double dmu = 0, dvar = 0;
    in_flight<2>(
        crew.member, active ? size : 0, crew.threads, [&](unsigned i) { return map_gradient_at<A>(to, begin + i); },
        [&](unsigned, const MapGradient<A>& g) {
          dmu += mu_gradient(g.scale, g.dshift);
          dvar += var_gradient(g.dgamma(with), g.scale, with.r);
        });
    dmu = crew.sum(dmu, shared);
    dvar = crew.sum(dvar, shared);
    if (!active) return;
    const int64_t index = n * k.groups + first / size;
    if (crew.member == 0) {
      s.mu[index] = with.mu, s.r[index] = with.r;
      if (k.K > 0) s.dmu[index] = dmu, s.dvar[index] = dvar;
    }
    if (k.K > 0 || to.a == nullptr) return;
    const A dv = variance_gradient<A>(dvar, size);
#pragma unroll 1
    for (int64_t i = begin + crew.member; i < begin + size; i += crew.threads)
      write_moment_gradients(to, i, mean_gradient<A>(dmu, dvar, k.mean[i], with.mu, size), dv);
  });
}

// dlambda = dGamma weight + dshift bias, summed over channels, and on through Act to da; without a BN over the batch on
// to dz. A block takes a sample. Keeps lambda, da and dGamma. Traffic: mean, dscale, dshift, N×C, the weights from the
// caches; writes N×C and N×K thrice.
template <class A>
__device__ __forceinline__ void attention_backward(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                   const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  const int C = int(k.C), K = int(k.K);
  auto through_act = [&](int64_t first, int count) {
    for (int64_t n = first + warp_of_block(); n < first + count; n += warps_of_block()) {
      const AttentionRow<A> row(k, s, n);
      double* d = s.da + n * K;
      const bool softmax = row.act == AttentionAct::softmax;
      double inner = 0;
#pragma unroll 1
      for (int i = lane_of_warp(); i < K && softmax; i += 32) inner += row.lambda(row.normed(i)) * d[i];
      inner = warp_sum(inner);
#pragma unroll 1
      for (int i = lane_of_warp(); i < K; i += 32) {
        const double a = row.normed(i), lambda = row.lambda(a);
        const double da = softmax ? lambda * (d[i] - inner) : d[i] * attention_act_slope(row.act, a, lambda);
        d[i] = da;
        s.lambda[n * K + i] = A(lambda);
        if (!norm_over_batch(k)) s.dz[n * K + i] = A(k.attention_norm ? row.gain(i) * da : da);
      }
    }
  };
  row_products<A>(
      2 * C, K, unit, team, shared,
      [&](int64_t n, int j) {
        if (j >= C) return in<A>(to.dshift)[n * C + j - C];
        return s.dgamma[n * C + j] = map_gradient_at<A>(to, n * C + j).dgamma(statistics(n, j));
      },
      [&](int i, int j) { return j < C ? in<A>(k.weight)[int64_t(i) * C + j] : in<A>(k.bias)[int64_t(i) * C + j - C]; },
      [&](int64_t n, int i, double sum, bool first) { s.da[n * K + i] = sum + (first ? 0 : s.da[n * K + i]); },
      through_act);
}

// Component i of da over all samples, a warp's work: its sum, and that of da z_hat. One sweep over N×K twice.
template <class A>
struct ComponentGradient {
  struct Sample {
    double da, z;
  };
  const double *da, *z;
  const int64_t N, K;
  double mean = 0, inverse = 0;  // BN's
  double sum = 0, sum_hat = 0;

  __device__ __forceinline__ ComponentGradient(const HeadArgs& k, const HeadScratch<A>& s, int i)
      : da(s.da + i), z(in<double>(k.z) + i), N(k.N), K(k.K) {
    const AttentionNorm<A> norm(k, s, 0);
    if (k.attention_norm) mean = norm.z_mean(i), inverse = norm.inverse(i);
    each([&](unsigned, const Sample& v) {
      sum += v.da;
      sum_hat += v.da * z_hat(v);
    });
    sum = warp_sum(sum);
    sum_hat = warp_sum(sum_hat);
  }
  __device__ __forceinline__ double z_hat(const Sample& v) const { return (v.z - mean) * inverse; }

  template <class Use>
  __device__ __forceinline__ void each(Use use) const {
    in_flight<4>(lane_of_warp(), unsigned(N), 32, [&](unsigned n) { return Sample{da[n * K], z[n * K]}; }, use);
  }
};

// Through the BN over the batch: dz = gain (da - mean(da) - z_hat mean(da z_hat)). A warp a component.
template <class A>
__device__ __forceinline__ void attention_norm_backward(const HeadArgs& k, const HeadScratch<A>& s, const Team& team) {
  each_warp_item(team, k.K, [&](int64_t i) {
    const ComponentGradient<A> g(k, s, int(i));
    const double mean = g.sum / double(k.N), mean_hat = g.sum_hat / double(k.N);
    const double gain = double(in<A>(k.norm_weight)[i]) * g.inverse;
    g.each([&](unsigned n, const auto& v) { s.dz[n * k.K + i] = A(gain * (v.da - mean - g.z_hat(v) * mean_hat)); });
  });
}

// ds = dz fc_weight, and with what came through mu and var (any: s.dm, s.dv) to a and b. Keeps s, for the fc's gradient. A warp takes 32
// channels of a sample. Traffic: mean, v, N×C, the weights from the caches; writes N×C three times, or four.
template <bool any, class A>
__device__ __forceinline__ void attentive_moments_backward(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                           const Unit& unit, const Team& team) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  const AttentionSource<A> source(k);
  const int64_t width = attention_width(k);
  const bool has_std = source.has_std();
  auto start = [&](int64_t n) { return s.dz + n * k.K; };
  auto plane = [&](int64_t n, const A* dz, HandRound<A>& hand_round, int c, bool real) {
    const PlaneMoments<A> p = plane_moments_at<A>(k, n * k.C + c);
    const A m = A(p.mean), std = source.std(p.var);
    if (real) s.s[n * width + c] = source.value(m, std);
    if (real && has_std) s.s[n * width + k.C + c] = std;
    if (to.a == nullptr) return;
    A ds = 0, ds_std = 0, dm = 0, dv = 0;
    hand_round(
        int(k.K), [&](int i) { return dz[i]; },
        [&](int i, A d) {
          const A* weight = in<A>(k.fc_weight) + i * width + c;
          ds += d * weight[0];
          if (has_std) ds_std += d * weight[k.C];
        });
    if (!real) return;
    if constexpr (any) {
      dm = s.dm[n * k.C + c], dv = s.dv[n * k.C + c];
    } else if (over_batch(k) || over_groups(k)) {
      const int64_t i = statistics.index(n, c), count = statistics.sharers();
      dm = mean_gradient<A>(s.dmu[i], s.dvar[i], p.mean, s.mu[i], count);
      dv = variance_gradient<A>(s.dvar[i], count);
    }
    source.gradient(m, p.var, ds, ds_std, dm, dv);
    write_moment_gradients(to, n * k.C + c, dm, dv);
  };
  each_plane<A>(int(k.C), unit, team, start, plane);
}

// dweight = sum dGamma, dbias = sum dshift over all samples, affine, for the unit's channels. A band takes 32 channels.
// Traffic: mean, scale, dscale, dshift, N×C.
template <class A>
__device__ __forceinline__ void affine_parameters(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                  const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  const Statistics<A> statistics(k, s);
  const Bands bands(k.N);
  bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
    const int c = int(unit.c0 + tile * 32) + lane_of_warp();
    active = active && c < unit.c1;
    double sums[2] = {};
    in_flight<kGradients<A>>(
        bands.split, active ? unsigned(k.N) : 0, bands.splits,
        [&](unsigned n) { return map_gradient_at<A>(to, n * k.C + c); },
        [&](unsigned n, const MapGradient<A>& g) {
          sums[0] += double(g.dgamma(statistics(n, c)));
          sums[1] += double(g.dshift);
        });
    bands.sum(sums, shared);
    if (!active || bands.split != 0) return;
    if (to.dweight) out<A>(to.dweight)[c] = A(sums[0]);
    if (to.dbias) out<A>(to.dbias)[c] = A(sums[1]);
  });
}

template <class A, int G>
struct ComponentValues {
  A dgamma, dshift, s, std, lambda[G], dz[G];
};

// dweight = lambda' dGamma, dbias = lambda' dshift, dfc_weight = dz' s. A band takes 32 channels and G components.
// Traffic: dGamma, dshift, s, N×C each, K/G times, from the caches; writes K×C three or four times.
template <class A>
__device__ __forceinline__ void attentive_parameters(const HeadGradArgs& to, const HeadScratch<A>& s, const Team& team,
                                                     unsigned char* shared) {
  constexpr int G = 4;
  const HeadArgs& k = to.head;
  const Bands bands(k.N);
  const int C = int(k.C), K = int(k.K), tiles = (C + 31) / 32;
  const int64_t width = attention_width(k);
  const bool has_std = width > C;
  bands.each(team, int64_t(tiles) * ((K + G - 1) / G), [&](int64_t item, bool active) {
    const int c = int(item % tiles) * 32 + lane_of_warp(), first = int(item / tiles) * G;
    active = active && c < C;
    A weight[G] = {}, bias[G] = {}, fc[G] = {}, fc_std[G] = {};
    in_flight<kGradients<A> / 2>(
        bands.split, active ? unsigned(k.N) : 0, bands.splits,
        [&](unsigned n) {
          ComponentValues<A, G> v;
          v.dgamma = s.dgamma[n * C + c];
          v.dshift = in<A>(to.dshift)[n * C + c];
          v.s = s.s[n * width + c];
          v.std = has_std ? s.s[n * width + C + c] : A(0);
#pragma unroll
          for (int j = 0; j < G; ++j) {
            const int64_t i = n * K + (first + j < K ? first + j : K - 1);
            v.lambda[j] = s.lambda[i];
            v.dz[j] = s.dz[i];
          }
          return v;
        },
        [&](unsigned, const ComponentValues<A, G>& v) {
#pragma unroll
          for (int j = 0; j < G; ++j) {
            weight[j] += v.lambda[j] * v.dgamma;
            bias[j] += v.lambda[j] * v.dshift;
            fc[j] += v.dz[j] * v.s;
            fc_std[j] += v.dz[j] * v.std;
          }
        });
    bands.sum(weight, shared);
    bands.sum(bias, shared);
    bands.sum(fc, shared);
    if (has_std) bands.sum(fc_std, shared);
    if (!active || bands.split != 0) return;
#pragma unroll
    for (int j = 0; j < G; ++j) {
      const int64_t i = first + j;
      if (i >= K) break;
      if (to.dweight) out<A>(to.dweight)[i * C + c] = weight[j];
      if (to.dbias) out<A>(to.dbias)[i * C + c] = bias[j];
      if (to.dfc_weight) out<A>(to.dfc_weight)[i * width + c] = fc[j];
      if (to.dfc_weight && has_std) out<A>(to.dfc_weight)[i * width + C + c] = fc_std[j];
    }
  });
}

// dnorm_weight = sum da z_hat, dnorm_bias = sum da, dfc_bias = sum dz over samples, a warp a component. A BN over the
// batch takes a constant added to z out again: no gradient.
template <class A>
__device__ __forceinline__ void attention_vectors(const HeadGradArgs& to, const HeadScratch<A>& s, const Team& team) {
  const HeadArgs& k = to.head;
  each_warp_item(team, k.K, [&](int64_t i) {
    const ComponentGradient<A> g(k, s, int(i));
    if (lane_of_warp() != 0) return;
    if (to.dnorm_weight) out<A>(to.dnorm_weight)[i] = A(g.sum_hat);
    if (to.dnorm_bias) out<A>(to.dnorm_bias)[i] = A(g.sum);
    if (to.dfc_bias == nullptr) return;
    const double gain = !k.attention_norm ? 1 : norm_over_batch(k) ? 0 : double(in<A>(k.norm_weight)[i]) * g.inverse;
    out<A>(to.dfc_bias)[i] = A(gain * g.sum);
  });
}

// a and b of the unit's planes (units as in head_forward), and what head_backward_parameters needs of them; for batch
// statistics and an affine map the parameters' gradients themselves. Callers sync before they read any of it.
template <class A>
__device__ __forceinline__ void head_backward_maps(const HeadGradArgs& to, const HeadScratch<A>& s, const Unit& unit,
                                                   const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  if (over_batch(k))
    batch_backward(to, s, unit, team, shared);
  else if (over_groups(k))
    group_backward(to, s, unit, team, shared);
  if (k.K == 0) return;
  if (norm_over_batch(k)) attention_norm_statistics(k, s, reversed(team));
  team.sync();
  attention_backward(to, s, unit, team, shared);
  team.sync();
  if (norm_over_batch(k)) {
    attention_norm_backward(k, s, team);
    team.sync();
  }
  attentive_moments_backward<false>(to, s, unit, team);
}

// The parameters' gradients (written, not added to), sums over all samples of what head_backward_maps left; after a
// sync, or in a kernel of its own. Never syncs the team: the blocks of any grid will do.
template <class A>
__device__ __forceinline__ void head_backward_parameters(const HeadGradArgs& to, const HeadScratch<A>& s,
                                                         const Team& team, unsigned char* shared) {
  const HeadArgs& k = to.head;
  if (!head_has_parameters(to)) return;
  if (k.K == 0) return affine_parameters(to, s, {0, k.N, 0, k.C}, team, shared);
  attention_vectors(to, s, reversed(team));
  attentive_parameters(to, s, team, shared);
}

}  // namespace fusednorm
