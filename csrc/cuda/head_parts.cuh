// The parts of the head that both directions calculate: the statistics that planes are standardized with, and the
// attention's way from z to lambda.
#pragma once

#include "head_work.cuh"

namespace fusednorm {

template <class A>
__device__ __forceinline__ const A* in(const void* p) {
  return static_cast<const A*>(p);
}
template <class A>
__device__ __forceinline__ A* out(const void* p) {
  return static_cast<A*>(const_cast<void*>(p));
}

template <class A>
__device__ __forceinline__ A affine_weight(const HeadArgs& k, int c) {
  return k.weight ? in<A>(k.weight)[c] : A(1);
}
template <class A>
__device__ __forceinline__ A affine_bias(const HeadArgs& k, int c) {
  return k.bias ? in<A>(k.bias)[c] : A(0);
}

template <class A>
struct Standard {
  double mu;
  A r;
};

// What plane (n, c) is standardized with, once the scratch has it.
template <class A>
struct Statistics {
  const HeadArgs& k;
  const HeadScratch<A>& s;

  __device__ __forceinline__ Statistics(const HeadArgs& args, const HeadScratch<A>& scratch) : k(args), s(scratch) {}

  __device__ __forceinline__ int64_t index(int64_t n, int c) const {
    return n * s.per_sample + (s.sharing == 1 ? unsigned(c) : unsigned(c) / s.sharing);
  }
  // the planes that share mu and var
  __device__ __forceinline__ int64_t sharers() const { return over_groups(k) ? int64_t(s.sharing) : k.N; }

  __device__ __forceinline__ Standard<A> operator()(int64_t n, int c) const {
    if (s.mu != nullptr) {
      const int64_t i = index(n, c);
      return {s.mu[i], s.r[i]};
    }
    if (!k.running()) return {0.0, A(1)};
    return {double(in<A>(k.running_mean)[c]), running_inverse(in<A>(k.running_var)[c], k.eps)};
  }
};

template <class A>
struct PlaneMoments {
  double mean;
  A var;
};

template <class A>
__device__ __forceinline__ PlaneMoments<A> plane_moments_at(const HeadArgs& k, int64_t plane) {
  return {k.mean[plane], in<A>(k.v)[plane]};
}

// mu and the biased variance of channel c over all samples, a band's work: mean of the means, then the mean of
// v + (m - mu)². Two sweeps over N values of mean, one of v.
template <class A>
__device__ __forceinline__ void batch_statistics(const HeadArgs& k, const Bands& bands, int c, bool active,
                                                 unsigned char* shared, double& mu, double& var) {
  const unsigned end = active ? unsigned(k.N) : 0;
  double sum[1] = {};
  in_flight<4>(
      bands.split, end, bands.splits, [&](unsigned n) { return k.mean[n * k.C + c]; },
      [&](unsigned, double m) { sum[0] += m; });
  bands.sum(sum, shared);
  mu = sum[0] / double(k.N);
  double squares[1] = {};
  in_flight<4>(
      bands.split, end, bands.splits, [&](unsigned n) { return plane_moments_at<A>(k, n * k.C + c); },
      [&](unsigned, PlaneMoments<A> p) { squares[0] += double(p.var) + (p.mean - mu) * (p.mean - mu); });
  bands.sum(squares, shared);
  var = squares[0] / double(k.N);
}

// mu and r of the `size` planes from `begin` on, a crew's work; likewise.
template <class A>
__device__ __forceinline__ Standard<A> group_statistics(const HeadArgs& k, const Crew& crew, int64_t begin, int size,
                                                        bool active, unsigned char* shared) {
  const int end = active ? size : 0;
  double sum = 0, squares = 0;
  in_flight<2>(
      crew.member, end, crew.threads, [&](unsigned i) { return k.mean[begin + i]; },
      [&](unsigned, double m) { sum += m; });
  const double mu = crew.sum(sum, shared) / double(size);
  in_flight<2>(
      crew.member, end, crew.threads, [&](unsigned i) { return plane_moments_at<A>(k, begin + i); },
      [&](unsigned, PlaneMoments<A> p) { squares += double(p.var) + (p.mean - mu) * (p.mean - mu); });
  const double var = crew.sum(squares, shared) / double(size);
  return {mu, inverse_deviation<A>(var, k.eps)};
}

// Mean and 1/deviation of z over the batch, a warp a component. Two sweeps over N×K.
template <class A>
__device__ __forceinline__ void attention_norm_statistics(const HeadArgs& k, const HeadScratch<A>& s,
                                                          const Team& team) {
  each_warp_item(team, k.K, [&](int64_t i) {
    const double* z = in<double>(k.z) + i;
    auto value = [&](unsigned n) { return z[n * k.K]; };
    double sum = 0, squares = 0;
    in_flight<4>(lane_of_warp(), unsigned(k.N), 32, value, [&](unsigned, double v) { sum += v; });
    const double mean = warp_sum(sum) / double(k.N);
    in_flight<4>(lane_of_warp(), unsigned(k.N), 32, value,
                 [&](unsigned, double v) { squares += (v - mean) * (v - mean); });
    const double var = warp_sum(squares) / double(k.N);
    if (lane_of_warp() != 0) return;
    s.norm_mean[i] = mean;
    s.norm_inverse[i] = inverse_deviation<double>(var, k.norm_eps);
    if (k.z_mean) {
      out<A>(k.z_mean)[i] = A(mean);
      out<A>(k.z_var)[i] = A(var * unbiased_factor(double(k.N)));
    }
  });
}

// BN of row n of z, as far as there is one. In double: BN takes out of the gradient most of what there is, and what
// stays would carry float32's noise.
template <class A>
struct AttentionNorm {
  const HeadArgs& k;
  const HeadScratch<A>& s;
  const double* z;

  __device__ __forceinline__ AttentionNorm(const HeadArgs& args, const HeadScratch<A>& scratch, int64_t n)
      : k(args), s(scratch), z(in<double>(args.z) + n * args.K) {}

  // 1/deviation of component i
  __device__ __forceinline__ double inverse(int i) const {
    return k.norm_mean ? inverse_deviation<double>(double(in<A>(k.norm_var)[i]), k.norm_eps) : s.norm_inverse[i];
  }
  __device__ __forceinline__ double gain(int i) const { return double(in<A>(k.norm_weight)[i]) * inverse(i); }
  __device__ __forceinline__ double z_mean(int i) const {
    return k.norm_mean ? double(in<A>(k.norm_mean)[i]) : s.norm_mean[i];
  }
  __device__ __forceinline__ double normed(int i) const {
    if (!k.attention_norm) return z[i];
    return (z[i] - z_mean(i)) * inverse(i) * double(in<A>(k.norm_weight)[i]) + double(in<A>(k.norm_bias)[i]);
  }
};

// From z to lambda = Act(z) or Act(BN(z)) of sample n; all lanes of a warp make one together.
template <class A>
struct AttentionRow : AttentionNorm<A> {
  AttentionAct act;
  double largest = 0, total = 1;  // softmax's

  __device__ __forceinline__ AttentionRow(const HeadArgs& k, const HeadScratch<A>& s, int64_t n)
      : AttentionNorm<A>(k, s, n), act(AttentionAct(k.gate)) {
    if (act != AttentionAct::softmax) return;
    double top = this->normed(0), sum = 0;
#pragma unroll 1
    for (int i = lane_of_warp(); i < k.K; i += 32) {
      const double a = this->normed(i);
      top = a > top ? a : top;
    }
    largest = warp_max(top);
#pragma unroll 1
    for (int i = lane_of_warp(); i < k.K; i += 32) sum += head_exp(this->normed(i) - largest);
    total = warp_sum(sum);
  }

  __device__ __forceinline__ double lambda(double a) const {
    return act == AttentionAct::softmax ? head_exp(a - largest) / total : attention_act(act, a);
  }
};

}  // namespace fusednorm
