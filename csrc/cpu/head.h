// head, head_grad: the N×C calculation between the passes, forward and backward; formulas in docs/engine.md.
//   standardization  mu, var over the batch, over a group of channels, or running;  r = 1/sqrt(var + eps)
//   recalibration    Gamma, Beta = weight, bias  or  lambda weight, lambda bias  with lambda = Act(A(s(m, v)))
//   scale = Gamma r,  shift = Beta + scale (m - mu)                       m: the plane mean rounded, the kernels' pivot
// Traffic: a few sweeps over N×C and K×C values, all in cache. Work: one item a sample, or a component for the weights'
// gradients. Included once per instruction set, inside that set's namespace.

inline float head_exp(float x) { return __builtin_expf(x); }
inline double head_exp(double x) { return __builtin_exp(x); }
inline float head_sqrt(float x) { return __builtin_sqrtf(x); }
inline double head_sqrt(double x) { return __builtin_sqrt(x); }

#include "../common/attention.h"
#include "../common/head_math.h"

template <class A>
inline const A* in(const void* p) {
  return static_cast<const A*>(p);
}
template <class A>
inline A* out(void* p) {
  return static_cast<A*>(p);
}

template <class A>
inline A dot(const A* a, const A* b, int64_t n) {
  constexpr int W = lanes<A>;
  Vec<A> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int j = 0; j < 4; ++j) sum[j] += load(a + i + j * W, Full{}) * load(b + i + j * W, Full{});
  for (; i + W <= n; i += W) sum[0] += load(a + i, Full{}) * load(b + i, Full{});
  if (i < n) sum[1] += load(a + i, Part{int(n - i)}) * load(b + i, Part{int(n - i)});
  return sum_lanes<A>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// to += factor * from
template <class A>
inline void add_scaled(A* to, A factor, const A* from, int64_t n) {
  sweep<A>(n,
           [&](int64_t i, auto width) { store(to + i, load(to + i, width) + factor * load(from + i, width), width); });
}

// mu and r = 1/sqrt(var + eps) as every sample sees them: one row of C values for all samples, or one for each.
template <class A>
struct Standardization {
  const HeadArgs& k;
  const int64_t rows;
  Scratch<double> mu_memory;
  Scratch<A> r_memory;
  double* mu;
  A* r;

  explicit Standardization(const HeadArgs& args)
      : k(args),
        rows(args.groups > 0 ? args.N : 1),
        mu_memory(rows * args.C),
        r_memory(rows * args.C),
        mu(mu_memory.data),
        r(r_memory.data) {
    if (k.groups > 0)
      over_groups();
    else if (k.groups == 0)
      over_batch();
    else
      running();
  }
  const double* mu_of(int64_t n) const { return mu + (rows == 1 ? 0 : n * k.C); }
  const A* r_of(int64_t n) const { return r + (rows == 1 ? 0 : n * k.C); }

 private:
  void over_batch() {
    const A* v = in<A>(k.v);
    const int64_t N = k.N, C = k.C;
    Scratch<double> sums(C, true);
    double* var = sums.data;
    memset(mu, 0, size_t(C) * sizeof(double));
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = 0; c < C; ++c) mu[c] += k.mean[n * C + c];
    for (int64_t c = 0; c < C; ++c) mu[c] /= double(N);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = 0; c < C; ++c) {
        const double d = k.mean[n * C + c] - mu[c];
        var[c] += double(v[n * C + c]) + d * d;
      }
    const double unbiased = unbiased_factor(double(N) * double(k.S));
    for (int64_t c = 0; c < C; ++c) {
      var[c] /= double(N);
      r[c] = inverse_deviation<A>(var[c], k.eps);
    }
    if (k.batch_mean)
      for (int64_t c = 0; c < C; ++c) {
        out<A>(k.batch_mean)[c] = A(mu[c]);
        out<A>(k.batch_var)[c] = A(var[c] * unbiased);
      }
  }

  void over_groups() {
    const int64_t C = k.C, size = C / k.groups;
    parallel_items(k.N * k.groups, size, [&](int64_t group) {
      const double* m = k.mean + group * size;
      const A* v = in<A>(k.v) + group * size;
      double mean = 0, var = 0;
      for (int64_t c = 0; c < size; ++c) mean += m[c];
      mean /= double(size);
      for (int64_t c = 0; c < size; ++c) {
        const double d = m[c] - mean;
        var += double(v[c]) + d * d;
      }
      const A inverse = inverse_deviation<A>(var / double(size), k.eps);
      for (int64_t c = 0; c < size; ++c) {
        mu[group * size + c] = mean;
        r[group * size + c] = inverse;
      }
    });
  }

  void running() {
    for (int64_t c = 0; c < k.C; ++c) {
      mu[c] = double(in<A>(k.running_mean)[c]);
      r[c] = running_inverse(in<A>(k.running_var)[c], k.eps);
    }
  }
};

// s(m, v) of a sample.
template <class A>
inline void attention_inputs(const AttentionSource<A>& source, int64_t C, const A* m, const A* v, A* s) {
  for (int64_t c = 0; c < C; ++c) {
    const A std = source.std(v[c]);
    s[c] = source.value(m[c], std);
    if (source.has_std()) s[C + c] = std;
  }
}

// From z = fc(s), N×K, to lambda = Act(z) or Act(BN(z)); keeps what the way back needs. All N×K, and all in
// double: BN takes out of the gradient most of what there is, and what stays would carry float32's noise.
template <class A>
struct Mixture {
  const HeadArgs& k;
  Scratch<double> memory;
  double *lambda, *normed, *z_hat, *r;  // r: K

  explicit Mixture(const HeadArgs& args)
      : k(args),
        memory(3 * args.N * args.K + args.K),
        lambda(memory.data),
        normed(lambda + args.N * args.K),
        z_hat(normed + args.N * args.K),
        r(z_hat + args.N * args.K) {
    const int64_t N = k.N, K = k.K;
    const double* z = in<double>(k.z);
    for (int64_t i = 0; i < K && k.attention_norm; ++i) standardize(z, i);
    if (!k.attention_norm) memcpy(normed, z, size_t(N * K) * sizeof(double));
    for (int64_t n = 0; n < N; ++n) activate(normed + n * K, lambda + n * K);
  }

  // dlambda -> dz, in place
  void gradient(double* d, const HeadGradArgs& to) const {
    const int64_t N = k.N, K = k.K;
    const AttentionAct act = AttentionAct(k.attention_act);
    for (int64_t n = 0; n < N; ++n) {
      double* row = d + n * K;
      const double *a = normed + n * K, *l = lambda + n * K;
      if (act == AttentionAct::softmax) {
        double inner = 0;
        for (int64_t i = 0; i < K; ++i) inner += l[i] * row[i];
        for (int64_t i = 0; i < K; ++i) row[i] = l[i] * (row[i] - inner);
      } else {
        for (int64_t i = 0; i < K; ++i) row[i] *= attention_act_slope(act, a[i], l[i]);
      }
    }
    for (int64_t i = 0; i < K; ++i) {
      double sum = 0, sum_hat = 0;
      for (int64_t n = 0; n < N; ++n) {
        sum += d[n * K + i];
        if (k.attention_norm) sum_hat += d[n * K + i] * z_hat[n * K + i];
      }
      if (!k.attention_norm) {
        if (to.dfc_bias) out<A>(to.dfc_bias)[i] = A(sum);
        continue;
      }
      out<A>(to.dnorm_weight)[i] = A(sum_hat);
      out<A>(to.dnorm_bias)[i] = A(sum);
      const double gain = double(in<A>(k.norm_weight)[i]) * r[i];
      // A BN over the batch takes a constant added to z out again: no gradient.
      if (to.dfc_bias) out<A>(to.dfc_bias)[i] = k.norm_mean ? A(gain * sum) : A(0);
      const double mean = k.norm_mean ? 0 : sum / double(N), mean_hat = k.norm_mean ? 0 : sum_hat / double(N);
      for (int64_t n = 0; n < N; ++n) d[n * K + i] = gain * (d[n * K + i] - mean - z_hat[n * K + i] * mean_hat);
    }
  }

 private:
  void standardize(const double* z, int64_t i) {
    const int64_t N = k.N, K = k.K;
    double mean = 0, var = 0;
    if (k.norm_mean) {
      mean = double(in<A>(k.norm_mean)[i]), var = double(in<A>(k.norm_var)[i]);
    } else {
      for (int64_t n = 0; n < N; ++n) mean += z[n * K + i];
      mean /= double(N);
      for (int64_t n = 0; n < N; ++n) var += (z[n * K + i] - mean) * (z[n * K + i] - mean);
      if (k.z_mean) {
        out<A>(k.z_mean)[i] = A(mean);
        out<A>(k.z_var)[i] = A(var / double(N > 1 ? N - 1 : 1));
      }
      var /= double(N);
    }
    const double inverse = inverse_deviation<double>(var, k.attention_norm_eps);
    r[i] = inverse;
    for (int64_t n = 0; n < N; ++n) {
      z_hat[n * K + i] = (z[n * K + i] - mean) * inverse;
      normed[n * K + i] = z_hat[n * K + i] * double(in<A>(k.norm_weight)[i]) + double(in<A>(k.norm_bias)[i]);
    }
  }

  void activate(const double* a, double* l) const {
    const AttentionAct act = AttentionAct(k.attention_act);
    if (act != AttentionAct::softmax) {
      for (int64_t i = 0; i < k.K; ++i) l[i] = attention_act(act, a[i]);
      return;
    }
    double largest = a[0], total = 0;
    for (int64_t i = 1; i < k.K; ++i) largest = a[i] > largest ? a[i] : largest;
    for (int64_t i = 0; i < k.K; ++i) total += l[i] = head_exp(a[i] - largest);
    for (int64_t i = 0; i < k.K; ++i) l[i] /= total;
  }
};

template <class A>
void head(const HeadArgs& k) {
  const int64_t N = k.N, C = k.C, K = k.K;
  const Standardization<A> standard(k);
  auto finish = [&](int64_t n, const A* gamma, const A* beta) {
    const A *m = in<A>(k.m) + n * C, *r = standard.r_of(n);
    const double* mu = standard.mu_of(n);
    A *scale = out<A>(k.scale) + n * C, *shift = out<A>(k.shift) + n * C;
    for (int64_t c = 0; c < C; ++c) {
      scale[c] = gamma ? gamma[c] * r[c] : r[c];
      shift[c] = shift_at_pivot(beta ? beta[c] : A(0), scale[c], m[c], mu[c]);
    }
  };
  if (K == 0) {
    for (int64_t n = 0; n < N; ++n) finish(n, in<A>(k.weight), in<A>(k.bias));
    return;
  }
  const AttentionSource<A> source(k);
  const int64_t width = source.has_std() ? 2 * C : C;
  parallel_items(N, width * K, [&](int64_t n) {
    Scratch<A> s(width);
    attention_inputs(source, C, in<A>(k.m) + n * C, in<A>(k.v) + n * C, s.data);
    for (int64_t i = 0; i < K; ++i)
      out<double>(k.z)[n * K + i] =
          double(dot(s.data, in<A>(k.fc_weight) + i * width, width)) + (k.fc_bias ? double(in<A>(k.fc_bias)[i]) : 0);
  });
  const Mixture<A> mixture(k);
  parallel_items(N, 2 * C * K, [&](int64_t n) {
    Scratch<A> affine(2 * C, true);
    A *gamma = affine.data, *beta = gamma + C;
    for (int64_t i = 0; i < K; ++i) {
      add_scaled(gamma, A(mixture.lambda[n * K + i]), in<A>(k.weight) + i * C, C);
      add_scaled(beta, A(mixture.lambda[n * K + i]), in<A>(k.bias) + i * C, C);
    }
    finish(n, gamma, beta);
  });
}

// dGamma = r (dscale + (m - mu) dshift);  dBeta = dshift;  dvar = -1/2 sum dGamma scale r;  dmu = -sum scale dshift
template <class A>
void head_grad(const HeadGradArgs& to) {
  const HeadArgs& k = to.head;
  const int64_t N = k.N, C = k.C, K = k.K;
  const A *dshift = in<A>(to.dshift), *m = in<A>(k.m), *v = in<A>(k.v), *scale = in<A>(k.scale);
  const Standardization<A> standard(k);
  Scratch<A> gammas(N * C);
  for (int64_t n = 0; n < N; ++n) {
    const double* mu = standard.mu_of(n);
    const A* r = standard.r_of(n);
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
      gammas.data[i] = gamma_gradient(r[c], in<A>(to.dscale)[i], dshift[i], m[i], mu[c]);
  }
  const A* dgamma = gammas.data;

  Scratch<A> moments(2 * N * C, true);
  A *dm = moments.data, *dv = dm + N * C;
  if (k.groups == 0) {
    Scratch<double> sums(2 * C, true);
    double *dmu = sums.data, *dvar = dmu + C;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
        dmu[c] += mu_gradient(scale[i], dshift[i]);
        dvar[c] += var_gradient(dgamma[i], scale[i], standard.r[c]);
      }
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
        dm[i] = mean_gradient<A>(dmu[c], dvar[c], k.mean[i], standard.mu[c], N);
        dv[i] = variance_gradient<A>(dvar[c], N);
      }
  } else if (k.groups > 0) {
    const int64_t size = C / k.groups;
    parallel_items(N * k.groups, size, [&](int64_t group) {
      const int64_t begin = group * size, end = begin + size;
      double dmu = 0, dvar = 0;
      for (int64_t i = begin; i < end; ++i) {
        dmu += mu_gradient(scale[i], dshift[i]);
        dvar += var_gradient(dgamma[i], scale[i], standard.r[i]);
      }
      for (int64_t i = begin; i < end; ++i) {
        dm[i] = mean_gradient<A>(dmu, dvar, k.mean[i], standard.mu[i], size);
        dv[i] = variance_gradient<A>(dvar, size);
      }
    });
  }

  if (K == 0) {
    Scratch<double> sums(2 * C, true);  // there may be many samples
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = 0; c < C; ++c) {
        sums.data[c] += double(dgamma[n * C + c]);
        sums.data[C + c] += double(dshift[n * C + c]);
      }
    for (int64_t c = 0; c < C; ++c) {
      if (to.dweight) out<A>(to.dweight)[c] = A(sums.data[c]);
      if (to.dbias) out<A>(to.dbias)[c] = A(sums.data[C + c]);
    }
  } else {
    const AttentionSource<A> source(k);
    const int64_t width = source.has_std() ? 2 * C : C;
    const Mixture<A> mixture(k);
    Scratch<double> dz_memory(N * K);
    Scratch<A> s_memory(N * width);
    double* dz = dz_memory.data;
    A* s = s_memory.data;
    parallel_items(N, 2 * C * K, [&](int64_t n) {
      attention_inputs(source, C, m + n * C, v + n * C, s + n * width);
      for (int64_t i = 0; i < K; ++i)
        dz[n * K + i] = double(dot(dgamma + n * C, in<A>(k.weight) + i * C, C)) +
                        double(dot(dshift + n * C, in<A>(k.bias) + i * C, C));
    });
    mixture.gradient(dz, to);
    parallel_items(K, N * (2 * C + width), [&](int64_t i) {
      for (int64_t n = 0; n < N; ++n) {
        add_scaled(out<A>(to.dweight) + i * C, A(mixture.lambda[n * K + i]), dgamma + n * C, C);
        add_scaled(out<A>(to.dbias) + i * C, A(mixture.lambda[n * K + i]), dshift + n * C, C);
        add_scaled(out<A>(to.dfc_weight) + i * width, A(dz[n * K + i]), s + n * width, width);
      }
    });
    parallel_items(N, C * K, [&](int64_t n) {
      Scratch<A> ds(width, true);
      for (int64_t i = 0; i < K; ++i) add_scaled(ds.data, A(dz[n * K + i]), in<A>(k.fc_weight) + i * width, width);
      for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
        source.gradient(m[i], v[i], ds.data[c], source.has_std() ? ds.data[C + c] : A(0), dm[i], dv[i]);
    });
  }
  if (to.a == nullptr) return;
  for (int64_t i = 0; i < N * C; ++i) {
    out<A>(to.a)[i] = a_of(dv[i], k.S);
    out<A>(to.b)[i] = b_of(dm[i], k.S);
  }
}
