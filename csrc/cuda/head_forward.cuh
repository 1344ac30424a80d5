// The head forward: scale and shift of every plane from the plane moments. docs/engine.md; csrc/cpu/head.h is the same
// for the CPU.
#pragma once

#include "head_parts.cuh"

namespace fusednorm {

// scale = gamma r,  shift = beta + scale (m - mu)
template <class A>
__device__ __forceinline__ void write_map(const HeadArgs& k, int64_t plane, A gamma, A beta, const Standard<A>& with,
                                          A m) {
  const A scale = gamma * with.r;
  out<A>(k.scale)[plane] = scale;
  out<A>(k.shift)[plane] = shift_at_pivot(beta, scale, m, with.mu);
}

// Batch statistics of the unit's channels; affine: scale and shift too. A band takes 32 channels and all samples.
// Traffic: mean two or three times, v once, N×C; writes N×C twice where affine, else 2 C.
template <class A>
__device__ __forceinline__ void batch_forward(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                              const Team& team, unsigned char* shared) {
  const Bands bands(k.N);
  bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
    const int c = int(unit.c0 + tile * 32) + lane_of_warp();
    active = active && c < unit.c1;
    double mu, var;
    batch_statistics<A>(k, bands, c, active, shared, mu, var);
    if (!active) return;
    const Standard<A> with = {mu, inverse_deviation<A>(var, k.eps)};
    if (k.batch_mean && bands.split == 0) {
      out<A>(k.batch_mean)[c] = A(mu);
      out<A>(k.batch_var)[c] = A(var * unbiased_factor(double(k.N) * double(k.S)));
    }
    if (k.K > 0) {
      if (bands.split == 0) s.mu[c] = with.mu, s.r[c] = with.r;
      return;
    }
    const A gamma = affine_weight<A>(k, c), beta = affine_bias<A>(k, c);
    in_flight<4>(
        bands.split, unsigned(k.N), bands.splits, [&](unsigned n) { return k.mean[n * k.C + c]; },
        [&](unsigned n, double m) { write_map(k, n * k.C + c, gamma, beta, with, A(m)); });
  });
}

// Statistics of the unit's groups of channels; affine: scale and shift too. A crew takes a group of a sample.
// Traffic: as above.
template <class A>
__device__ __forceinline__ void group_forward(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                              const Team& team, unsigned char* shared) {
  const int size = int(k.C / k.groups);
  const int64_t groups = (unit.c1 - unit.c0) / size;
  const Crew crew(size);
  crew.each(team, (unit.n1 - unit.n0) * groups, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + item / groups;
    const int first = int(unit.c0 + item % groups * size);
    const Standard<A> with = group_statistics<A>(k, crew, n * k.C + first, size, active, shared);
    if (!active) return;
    if (k.K > 0) {
      const int64_t i = n * k.groups + first / size;
      if (crew.member == 0) s.mu[i] = with.mu, s.r[i] = with.r;
      return;
    }
#pragma unroll 1
    for (int i = crew.member; i < size; i += crew.threads) {
      const int c = first + i;
      write_map(k, n * k.C + c, affine_weight<A>(k, c), affine_bias<A>(k, c), with, A(k.mean[n * k.C + c]));
    }
  });
}

// Running statistics or none, affine: nothing depends on the map; its pivots are the running means, or 0. A thread a
// plane.
template <class A>
__device__ __forceinline__ void running_forward(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                                const Team& team) {
  const Statistics<A> statistics(k, s);
  const int64_t channels = unit.c1 - unit.c0, planes = (unit.n1 - unit.n0) * channels;
#pragma unroll 1
  for (int64_t i = int64_t(team.rank) * blockDim.x + threadIdx.x; i < planes; i += int64_t(team.size) * blockDim.x) {
    const int64_t n = unit.n0 + i / channels;
    const int c = int(unit.c0 + i % channels);
    const Standard<A> with = statistics(n, c);
    out<double>(k.mean)[n * k.C + c] = with.mu;
    out<A>(k.v)[n * k.C + c] = A(0);
    write_map(k, n * k.C + c, affine_weight<A>(k, c), affine_bias<A>(k, c), with, A(with.mu));
  }
}

// z = fc(s(m, v)), a block a sample. Traffic: mean, v, N×C, and the weights from the caches; writes N×K.
template <class A>
__device__ __forceinline__ void attention_logits(const HeadArgs& k, const Unit& unit, const Team& team,
                                                 unsigned char* shared) {
  const AttentionSource<A> source(k);
  const int C = int(k.C), width = int(attention_width(k));
  row_products<A>(
      width, int(k.K), unit, team, shared,
      [&](int64_t n, int j) {
        const int c = j < C ? j : j - C;
        const PlaneMoments<A> p = plane_moments_at<A>(k, n * C + c);
        const A std = source.std(p.var);
        return j < C ? source.value(A(p.mean), std) : std;
      },
      [&](int i, int j) { return in<A>(k.fc_weight)[int64_t(i) * width + j]; },
      [&](int64_t n, int i, double sum, bool first) {
        double& z = out<double>(k.z)[n * k.K + i];
        z = sum + (!first ? z : k.fc_bias ? double(in<A>(k.fc_bias)[i]) : 0);
      },
      [](int64_t, int) {});
}

// scale and shift with Gamma = lambda weight, Beta = lambda bias. A warp takes 32 channels of a sample. Traffic: mean,
// N×C, and the weights from the caches; writes N×C twice.
template <class A>
__device__ __forceinline__ void attentive_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                               const Team& team) {
  const Statistics<A> statistics(k, s);
  const A *weight = in<A>(k.weight), *bias = in<A>(k.bias);
  auto start = [&](int64_t n) { return AttentionRow<A>(k, s, n); };
  auto plane = [&](int64_t n, const AttentionRow<A>& row, HandRound<A>& hand_round, int c, bool real) {
    A gamma = 0, beta = 0;
    hand_round(
        int(k.K), [&](int i) { return A(row.lambda(row.normed(i))); },
        [&](int i, A lambda) {
          gamma += lambda * weight[i * k.C + c];
          beta += lambda * bias[i * k.C + c];
        });
    if (real) write_map(k, n * k.C + c, gamma, beta, statistics(n, c), A(k.mean[n * k.C + c]));
  };
  each_plane<A>(int(k.C), unit, team, start, plane);
}

// All of it, for the unit's planes: everything for batch statistics or a BN over the batch (for batch statistics and an
// affine map whole channels do), else one sample or more (whole groups of one where affine). Callers sync before they
// read scale and shift.
template <class A>
__device__ __forceinline__ void head_forward(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                             const Team& team, unsigned char* shared) {
  if (over_batch(k))
    batch_forward(k, s, unit, team, shared);
  else if (over_groups(k))
    group_forward(k, s, unit, team, shared);
  else if (k.K == 0)
    running_forward(k, s, unit, team);
  if (k.K == 0) return;
  attention_logits<A>(k, unit, reversed(team), shared);
  team.sync();
  if (norm_over_batch(k)) {
    attention_norm_statistics(k, s, team);
    team.sync();
  }
  attentive_maps(k, s, unit, team);
}

}  // namespace fusednorm
