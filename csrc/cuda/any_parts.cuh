// The head of any pair of parts (docs/engine.md): every standardization as a mixture of scopes, and what both directions
// calculate of it. The parts are arrays over all planes in the scratch: more stages and more memory than in head_*.cuh,
// which serves what most layers are, but a part costs its formulas alone.
#pragma once

#include "head_parts.cuh"

namespace fusednorm {

// f(n, c) for the unit's planes; a warp has 32 channels of a sample at a time.
template <class F>
__device__ __forceinline__ void visit_planes(const Unit& unit, const Team& team, F f) {
  const unsigned tiles = unsigned(unit.c1 - unit.c0 + 31) / 32;
  each_warp_item(team, (unit.n1 - unit.n0) * tiles, [&](int64_t item) {
    const int64_t n = unit.n0 + unsigned(item) / tiles;
    const int c = int(unit.c0) + int(unsigned(item) % tiles) * 32 + lane_of_warp();
    if (c < unit.c1) f(n, c);
  });
}

// The ratios of channel c in this unit's table: of scope i [2 i] among the means, [2 i + 1] among the variances. Null
// where there are none: 1.
template <class A>
struct Ratios {
  const double* table = nullptr;

  __device__ __forceinline__ Ratios(const HeadScratch<A>& s, const Unit& unit, int c) {
    if (s.ratios) table = s.ratios + (unit.n0 * s.ratio_rows + unsigned(c) / s.ratio_channels) * s.scopes * 2;
  }
  __device__ __forceinline__ double mean(int i) const { return table ? table[2 * i] : 1.0; }
  __device__ __forceinline__ double var(int i) const { return table ? table[2 * i + 1] : 1.0; }
};

// Softmax of the control parameters; every unit has a table of its own. A thread a row.
template <class A>
__device__ __forceinline__ void ratios_of_unit(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team) {
  if (s.ratios == nullptr) return;
#pragma unroll 1
  for (int j = team.rank * int(blockDim.x) + int(threadIdx.x); j < 2 * s.ratio_rows; j += team.size * int(blockDim.x)) {
    const A* weight = in<A>(j % 2 ? k.var_weight : k.mean_weight) + j / 2 * s.scopes;
    double* ratio = s.ratios + (unit.n0 * s.ratio_rows + j / 2) * s.scopes * 2 + j % 2;
    double largest = weight[0], total = 0;
#pragma unroll 1
    for (int i = 1; i < s.scopes; ++i) largest = weight[i] > largest ? weight[i] : largest;
#pragma unroll 1
    for (int i = 0; i < s.scopes; ++i) total += ratio[2 * i] = head_exp(weight[i] - largest);
#pragma unroll 1
    for (int i = 0; i < s.scopes; ++i) ratio[2 * i] /= total;
  }
}

struct MeanVar {
  double mean, var;
};

// What representative centering adds to a plane.
template <class A>
__device__ __forceinline__ double moved(const HeadArgs& k, int c, const PlaneMoments<A>& p) {
  return k.center_weight ? centering(k.center_std, in<A>(k.center_weight)[c], p.mean, p.var) : 0.0;
}

__device__ __forceinline__ int64_t pair_of(const ScopeScratch& t, int64_t n, int c) {
  return n * t.per_sample + (t.channels == 1 ? unsigned(c) : unsigned(c) / unsigned(t.channels));
}

// mu and var of scope i for a plane.
template <class A>
__device__ __forceinline__ MeanVar scope_moments(const HeadArgs& k, const HeadScratch<A>& s, int i, int64_t n, int c,
                                                 const PlaneMoments<A>& p) {
  const ScopeScratch& t = s.scope[i];
  if (t.given) return {double(in<A>(k.running_mean)[c]), double(in<A>(k.running_var)[c])};
  if (t.mu == nullptr) return {p.mean, double(p.var) * s.plane_factor};
  const int64_t pair = pair_of(t, n, c);
  return {t.mu[pair], t.var[pair]};
}

// What a plane is standardized with, once the scratch has the scopes' moments.
template <class A>
__device__ __forceinline__ Standard<A> mixture(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit, int64_t n,
                                               int c, const PlaneMoments<A>& p) {
  if (k.standardize == Standardize::filter_response)
    return {0.0, inverse_deviation<A>(mean_square(p.mean, p.var), k.eps)};
  if (s.scopes == 0) return {0.0, A(1)};
  const Ratios<A> ratios(s, unit, c);
  double mu = p.mean, var = 0;
#pragma unroll 1
  for (int i = 0; i < s.scopes; ++i) {
    const MeanVar of = scope_moments(k, s, i, n, c, p);
    mu += mixed_mean(ratios.mean(i), of.mean, p.mean);
    var += ratios.var(i) * of.var;
  }
  return {mu - moved(k, c, p), inverse_deviation<A>(var, k.eps)};
}

// f(total, whether to write, pair, c) for each pair of moments of a scope: total(sums, load, add) calls add(c,
// load(plane), sums) for the planes that share it and adds the sums up. A band takes 32 channels of all samples, or a crew
// a group of channels of a sample; units have whole groups.
template <class F>
__device__ __forceinline__ void over_sharers(const HeadArgs& k, const ScopeScratch& t, const Unit& unit,
                                             const Team& team, unsigned char* shared, F f) {
  if (t.per_sample == 0) {
    const Bands bands(k.N);
    bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
      const int c = int(unit.c0 + tile * 32) + lane_of_warp();
      active = active && c < unit.c1;
      auto total = [&](auto& sums, auto load, auto add) {
        in_flight<4>(
            bands.split, active ? unsigned(k.N) : 0, bands.splits, [&](unsigned n) { return load(n * k.C + c); },
            [&](unsigned, const auto& v) { add(c, v, sums); });
        bands.sum(sums, shared);
      };
      f(total, active && bands.split == 0, int64_t(c), c);
    });
    return;
  }
  const Crew crew(t.channels);
  const unsigned groups = unsigned(t.per_sample);
  crew.each(team, (unit.n1 - unit.n0) * groups, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + unsigned(item) / groups;
    const int group = int(unsigned(item) % groups), first = group * t.channels;
    auto total = [&](auto& sums, auto load, auto add) {
      in_flight<2>(
          crew.member, active ? t.channels : 0, crew.threads, [&](unsigned i) { return load(n * k.C + first + i); },
          [&](unsigned i, const auto& v) { add(first + int(i), v, sums); });
#pragma unroll
      for (double& sum : sums) sum = crew.sum(sum, shared);
    };
    f(total, active && crew.member == 0, n * groups + group, first);
  });
}

// The moments of all scopes that are not given: mean of the means, then the mean of v + (m - mu)². And the ratios.
// Traffic: mean and v, N×C twice a scope.
template <class A>
__device__ __forceinline__ void scopes_of_unit(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team, unsigned char* shared) {
  ratios_of_unit(k, s, unit, team);
#pragma unroll 1
  for (int i = 0; i < s.scopes; ++i) {
    const ScopeScratch& t = s.scope[i];
    if (t.mu == nullptr) continue;
    over_sharers(k, t, unit, team, shared, [&](auto total, bool writes, int64_t pair, int c) {
      auto load = [&](int64_t plane) { return plane_moments_at<A>(k, plane); };
      double sum[1] = {}, squares[1] = {};
      total(sum, load, [&](int c, const auto& p, auto& sum) { sum[0] += p.mean + moved(k, c, p); });
      const double mu = sum[0] * t.share;
      total(squares, load, [&](int c, const auto& p, auto& sum) {
        const double d = p.mean + moved(k, c, p) - mu;
        sum[0] += double(p.var) * s.plane_factor + d * d;
      });
      const double var = squares[0] * t.share * t.factor;
      if (!writes) return;
      t.mu[pair] = mu, t.var[pair] = var;
      if (t.per_sample != 0 || k.batch_mean == nullptr) return;
      const bool switchable = k.standardize == Standardize::switchable;
      out<A>(k.batch_mean)[c] = A(mu);
      out<A>(k.batch_var)[c] = A(switchable ? var : var * unbiased_factor(double(k.N) * double(k.S)));
    });
  }
}

// Scaling's gate q = R(weight K + bias) of a plane.
template <class A>
struct ScalingGate {
  ScalingSource source;
  A statistic, weight, q, slope;  // slope: dR

  __device__ __forceinline__ ScalingGate(const HeadArgs& k, int c, const PlaneMoments<A>& p, const Standard<A>& with)
      : source(ScalingSource(k.source)),
        statistic(scaling_statistic(source, p.mean, p.var, with.mu, with.r)),
        weight(in<A>(k.gate_weight)[c]) {
    const A a = weight * statistic + in<A>(k.gate_bias)[c];
    q = restricted(Restrict(k.gate), a);
    slope = restricted_slope(Restrict(k.gate), a, q);
  }
};

// Squeeze-excite's hidden layer, relu(z); NaN passes.
template <class A>
__device__ __forceinline__ A hidden(const HeadArgs& k, int64_t n, int i) {
  const double z = in<double>(k.z)[n * k.K + i];
  return z < 0 ? A(0) : A(z);
}

// The plane mean of z = weight x_hat + bias, what gates look at.
template <class A>
__device__ __forceinline__ A mean_of_z(const HeadArgs& k, int c, A mean) {
  return affine_weight<A>(k, c) * mean + affine_bias<A>(k, c);
}

}  // namespace fusednorm
