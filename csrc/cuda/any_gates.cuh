// Gates that look beyond their plane, forward: at planes of other channels (channel attention, global response) or of
// other samples (style). csrc/cpu/head_plane_gates.h and head_response.h are the same for the CPU. All take mu and r
// from the scratch.
#pragma once

#include "any_parts.cuh"
#include "head_forward.cuh"

namespace fusednorm {

template <class A>
__device__ __forceinline__ A plane_mean(const HeadArgs& k, const Statistics<A>& statistics, int64_t n, int c) {
  const Standard<A> with = statistics(n, c);
  return mean_of_z(k, c, standardized_mean(k.mean[n * k.C + c], with.mu, with.r));
}

// Channel attention's q = R(sum_j gate_weight[j] u[c + j - window/2]), u the plane means of z.
template <class A>
struct WindowGate {
  A q, slope;

  __device__ __forceinline__ WindowGate(const HeadArgs& k, const Statistics<A>& statistics, int64_t n, int c) {
    A a = 0;
#pragma unroll 1
    for (int j = 0; j < int(k.window); ++j) {
      const int from = c + j - int(k.window) / 2;
      if (from >= 0 && from < int(k.C)) a += in<A>(k.gate_weight)[j] * plane_mean(k, statistics, n, from);
    }
    q = restricted(Restrict(k.gate), a);
    slope = restricted_slope(Restrict(k.gate), a, q);
  }
};

// Traffic: mean, mu, r, N×C, window times from the caches; writes N×C twice. A thread a plane.
template <class A>
__device__ __forceinline__ void window_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                            const Team& team) {
  const Statistics<A> statistics(k, s);
  visit_planes(unit, team, [&](int64_t n, int c) {
    const A q = WindowGate<A>(k, statistics, n, c).q;
    write_map(k, n * k.C + c, q * affine_weight<A>(k, c), q * affine_bias<A>(k, c), statistics(n, c),
              A(k.mean[n * k.C + c]));
  });
}

// Style's BN over samples of gate_weight . (mean, std of the plane of z), a band's work for 32 channels. In double, for it
// takes a large mean out again.
template <class A>
struct StyleNorm {
  struct Look {
    double mean, std;
  };
  const HeadArgs& k;
  const Statistics<A> statistics;
  const Unit& unit;
  const int c;
  double weight, bias, of_mean, of_std;
  double mean = 0, inverse = 0;  // BN's

  __device__ __forceinline__ StyleNorm(const HeadArgs& args, const HeadScratch<A>& s, const Unit& of,
                                       const Bands& bands, int channel, bool active, unsigned char* shared)
      : k(args), statistics(args, s), unit(of), c(active ? channel : 0) {
    weight = affine_weight<A>(k, c), bias = affine_bias<A>(k, c);
    of_mean = in<A>(k.gate_weight)[2 * c], of_std = in<A>(k.gate_weight)[2 * c + 1];
    if (k.norm_mean) {
      mean = in<A>(k.norm_mean)[c];
      inverse = inverse_deviation<double>(double(in<A>(k.norm_var)[c]), k.norm_eps);
      return;
    }
    double sum[1] = {}, squares[1] = {};
    each(bands, active, [&](int64_t n) { sum[0] += value(look(n)); });
    bands.sum(sum, shared);
    mean = sum[0] / double(k.N);
    each(bands, active, [&](int64_t n) {
      const double d = value(look(n)) - mean;
      squares[0] += d * d;
    });
    bands.sum(squares, shared);
    const double var = squares[0] / double(k.N);
    inverse = inverse_deviation<double>(var, k.norm_eps);
    if (k.z_mean == nullptr || !active || bands.split != 0) return;
    out<A>(k.z_mean)[c] = A(mean);
    out<A>(k.z_var)[c] = A(var * unbiased_factor(double(k.N)));
  }

  // f(sample) for this warp's samples of the unit, which has all of them where their statistics are taken.
  template <class F>
  __device__ __forceinline__ void each(const Bands& bands, bool active, F f) const {
#pragma unroll 1
    for (int64_t n = unit.n0 + bands.split; n < unit.n1 && active; n += bands.splits) f(n);
  }
  __device__ __forceinline__ Look look(int64_t n) const {
    const PlaneMoments<A> p = plane_moments_at<A>(k, n * k.C + c);
    const Standard<A> with = statistics(n, c);
    return {weight * standardized_mean<double>(p.mean, with.mu, with.r) + bias,
            head_sqrt(weight * weight * standardized_var<double>(p.var, with.r) + k.source_eps)};
  }
  __device__ __forceinline__ double value(const Look& at) const { return of_mean * at.mean + of_std * at.std; }
  __device__ __forceinline__ double z_hat(const Look& at) const { return (value(at) - mean) * inverse; }
  // What R is taken of.
  __device__ __forceinline__ A before(double z_hat) const {
    return A(z_hat * double(in<A>(k.norm_weight)[c]) + double(in<A>(k.norm_bias)[c]));
  }
};

// Traffic: mean, v, mu, r, N×C, once, or three times for the batch's statistics; writes N×C twice. A band takes 32
// channels and all the unit's samples.
template <class A>
__device__ __forceinline__ void style_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                           const Team& team, unsigned char* shared) {
  const Bands bands(unit.n1 - unit.n0);
  bands.each(team, (unit.c1 - unit.c0 + 31) / 32, [&](int64_t tile, bool active) {
    const int c = int(unit.c0 + tile * 32) + lane_of_warp();
    active = active && c < unit.c1;
    const StyleNorm<A> norm(k, s, unit, bands, c, active, shared);
    norm.each(bands, active, [&](int64_t n) {
      const A q = restricted(Restrict(k.gate), norm.before(norm.z_hat(norm.look(n))));
      write_map(k, n * k.C + c, q * A(norm.weight), q * A(norm.bias), norm.statistics(n, c), A(k.mean[n * k.C + c]));
    });
  });
}

// G of a plane, and mean_c G + eps of its sample, a crew's work.
template <class A>
__device__ __forceinline__ A norm_of_plane(const HeadArgs& k, const Statistics<A>& statistics, int64_t n, int c) {
  const PlaneMoments<A> p = plane_moments_at<A>(k, n * k.C + c);
  const Standard<A> with = statistics(n, c);
  return plane_norm(k.S, p.mean, p.var, with.mu, with.r);
}
template <class A>
__device__ __forceinline__ A response_level(const HeadArgs& k, const Statistics<A>& statistics, const Crew& crew,
                                            int64_t n, bool active, unsigned char* shared) {
  double sum = 0;
#pragma unroll 1
  for (int c = crew.member; c < int(k.C) && active; c += crew.threads)
    sum += double(norm_of_plane(k, statistics, n, c));
  return A(crew.sum(sum, shared) / double(k.C)) + A(k.source_eps);
}

// Traffic: mean, v, mu, r, N×C twice; writes N×C twice. A crew takes a sample.
template <class A>
__device__ __forceinline__ void response_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                              const Team& team, unsigned char* shared) {
  const Statistics<A> statistics(k, s);
  const Crew crew(int(k.C));
  crew.each(team, unit.n1 - unit.n0, [&](int64_t item, bool active) {
    const int64_t n = unit.n0 + item;
    const A level = response_level(k, statistics, crew, n, active, shared);
#pragma unroll 1
    for (int c = crew.member; c < int(k.C) && active; c += crew.threads) {
      const A gamma = affine_weight<A>(k, c) * (norm_of_plane(k, statistics, n, c) / level) + A(1);
      write_map(k, n * k.C + c, gamma, affine_bias<A>(k, c), statistics(n, c), A(k.mean[n * k.C + c]));
    }
  });
}

template <class A>
__device__ __forceinline__ void gate_maps(const HeadArgs& k, const HeadScratch<A>& s, const Unit& unit,
                                          const Team& team, unsigned char* shared) {
  if (k.recalibrate == Recalibrate::channel_attention)
    window_maps(k, s, unit, team);
  else if (k.recalibrate == Recalibrate::style)
    style_maps(k, s, unit, team, shared);
  else
    response_maps(k, s, unit, team, shared);
}

}  // namespace fusednorm
