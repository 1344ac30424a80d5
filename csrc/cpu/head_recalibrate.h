// The recalibrations of Attentive Normalization and, without attention, a plain affine map (docs/engine.md): forward to
// Gamma and Beta, finish(sample, gamma, beta), and back from dGamma and dBeta. Included once per instruction set, inside
// that set's namespace.

template <class A, class Finish>
inline void affine_maps(const HeadArgs& k, Finish finish) {
  parallel_items(k.N, k.C, [&](int64_t n) { finish(n, in<A>(k.weight), in<A>(k.bias)); });
}

template <class A>
inline void affine_grad(const WayBack<A>& way) {
  const int64_t N = way.k.N, C = way.k.C;
  Scratch<double> sums(2 * C, true);  // there may be many samples
  parallel_channels(N, C, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin; c < end; ++c) {
        sums.data[c] += double(way.dgamma[n * C + c]);
        sums.data[C + c] += double(way.dshift[n * C + c]);
      }
  });
  round_to<A>(way.to.dweight, sums.data, C);
  round_to<A>(way.to.dbias, sums.data + C, C);
}

// s(m, v) of a sample.
template <class A>
inline void attention_inputs(const AttentionSource<A>& source, int64_t C, const A* m, const A* v, A* s) {
  for (int64_t c = 0; c < C; ++c) {
    const A std = source.std(v[c]);
    s[c] = source.value(m[c], std);
    if (source.has_std()) s[C + c] = std;
  }
}

// From z = fc(s), N×K, to lambda = Act(z) or Act(BN(z)); keeps what the way back needs. All N×K and in double, as
// SampleNorm has it.
template <class A>
struct Mixture {
  const HeadArgs& k;
  Scratch<double> memory;
  double *lambda, *normed;
  SampleNorm<A> norm;

  explicit Mixture(const HeadArgs& args)
      : k(args),
        memory(2 * args.N * args.K),
        lambda(memory.data),
        normed(lambda + args.N * args.K),
        norm(args, args.attention_norm ? args.K : 0) {
    const int64_t N = k.N, K = k.K;
    const double* z = in<double>(k.z);
    if (k.attention_norm)
      norm.forward(z, normed);
    else
      memcpy(normed, z, size_t(N * K) * sizeof(double));
    for (int64_t n = 0; n < N; ++n) activate(normed + n * K, lambda + n * K);
  }

  // dlambda -> dz, in place
  void gradient(double* d, const HeadGradArgs& to) const {
    const int64_t N = k.N, K = k.K;
    const AttentionAct act = AttentionAct(k.gate);
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
    if (k.attention_norm) norm.backward(d, to);
    Scratch<double> sums(K, true);
    // A BN over the batch takes a constant added to z out again: no gradient.
    for (int64_t n = 0; n < N && !(k.attention_norm && !k.norm_mean); ++n)
      for (int64_t i = 0; i < K; ++i) sums.data[i] += d[n * K + i];
    round_to<A>(to.dfc_bias, sums.data, K);
  }

 private:
  void activate(const double* a, double* l) const {
    const AttentionAct act = AttentionAct(k.gate);
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

template <class A, class Finish>
inline void attentive(const HeadArgs& k, Finish finish) {
  const int64_t N = k.N, C = k.C, K = k.K;
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
    Scratch<A> maps(2 * C, true);
    A *gamma = maps.data, *beta = gamma + C;
    for (int64_t i = 0; i < K; ++i) {
      add_scaled(gamma, A(mixture.lambda[n * K + i]), in<A>(k.weight) + i * C, C);
      add_scaled(beta, A(mixture.lambda[n * K + i]), in<A>(k.bias) + i * C, C);
    }
    finish(n, gamma, beta);
  });
}

template <class A>
inline void attentive_grad(const WayBack<A>& way) {
  const HeadGradArgs& to = way.to;
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C, K = k.K;
  const A *m = in<A>(k.m), *v = in<A>(k.v), *dgamma = way.dgamma, *dshift = way.dshift;
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
      source.gradient(m[i], v[i], ds.data[c], source.has_std() ? ds.data[C + c] : A(0), way.dm[i], way.dv[i]);
  });
}
