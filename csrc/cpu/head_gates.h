// Scaling, whose gate multiplies Gamma, and squeeze-excite, whose gate multiplies Gamma and Beta (docs/engine.md).
// Included once per instruction set, inside that set's namespace.

template <class A>
inline A weight_of(const HeadArgs& k, int64_t c) {
  return k.weight ? in<A>(k.weight)[c] : A(1);
}
template <class A>
inline A bias_of(const HeadArgs& k, int64_t c) {
  return k.bias ? in<A>(k.bias)[c] : A(0);
}

template <class A>
inline A k_hat(const HeadArgs& k, const Standardization<A>& standard, int64_t n, int64_t c) {
  return standardized_mean(k.mean[n * k.C + c], standard.mu_of(n)[c], standard.r_of(n)[c]);
}

// K, a = gate_weight K + gate_bias and q = R(a) of a plane.
template <class A>
struct ScalingGate {
  A K, a, q;

  ScalingGate(const HeadArgs& k, const Standardization<A>& standard, int64_t n, int64_t c)
      : K(scaling_statistic(ScalingSource(k.source), k.mean[n * k.C + c], in<A>(k.v)[n * k.C + c], standard.mu_of(n)[c],
                            standard.r_of(n)[c])),
        a(in<A>(k.gate_weight)[c] * K + in<A>(k.gate_bias)[c]),
        q(restricted(Restrict(k.gate), a)) {}
};

template <class A, class Finish>
inline void scaling(const HeadArgs& k, const Standardization<A>& standard, Finish finish) {
  parallel_items(k.N, 8 * k.C, [&](int64_t n) {
    Scratch<A> gamma(k.C);
    for (int64_t c = 0; c < k.C; ++c) gamma.data[c] = weight_of<A>(k, c) * ScalingGate<A>(k, standard, n, c).q;
    finish(n, gamma.data, in<A>(k.bias));
  });
}

template <class A>
inline void scaling_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  Scratch<A> memory(3 * N * C);
  A *q = memory.data, *K = q + N * C, *da = K + N * C;
  parallel_items(N, 8 * C, [&](int64_t n) {
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      const ScalingGate<A> gate(k, way.standard, n, c);
      q[i] = gate.q, K[i] = gate.K;
      da[i] = weight_of<A>(k, c) * way.dgamma[i] * restricted_slope(Restrict(k.gate), gate.a, gate.q);
      scaling_statistic_gradient(ScalingSource(k.source), da[i] * in<A>(k.gate_weight)[c], k.mean[i], in<A>(k.v)[i],
                                 way.standard.mu_of(n)[c], way.standard.r_of(n)[c], way.dm[i], way.dv[i], way.dmu[i],
                                 way.dvar[i]);
    }
  });
  Scratch<double> sums(4 * C, true);
  double *weight = sums.data, *bias = weight + C, *gate_weight = bias + C, *gate_bias = gate_weight + C;
  parallel_channels(N, C, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin, i = n * C + begin; c < end; ++c, ++i) {
        weight[c] += double(q[i] * way.dgamma[i]);
        bias[c] += double(way.dshift[i]);
        gate_weight[c] += double(da[i]) * double(K[i]);
        gate_bias[c] += double(da[i]);
      }
  });
  round_to<A>(way.to.dweight, weight, C);
  round_to<A>(way.to.dbias, bias, C);
  round_to<A>(way.to.dgate_weight, gate_weight, C);
  round_to<A>(way.to.dgate_bias, gate_bias, C);
}

// A sample's plane means of weight x_hat + bias: u (C).
template <class A>
inline void excite_inputs(const HeadArgs& k, const Standardization<A>& standard, int64_t n, A* u) {
  for (int64_t c = 0; c < k.C; ++c) u[c] = weight_of<A>(k, c) * k_hat(k, standard, n, c) + bias_of<A>(k, c);
}

// The two layers, of all samples: u (N×C), z (N×K), h = relu(z), a (N×C), before R.
template <class A>
inline Matrix<A> fc_rows(const HeadArgs& k) {
  return {in<A>(k.fc_weight), k.C, k.K};
}
template <class A>
inline Matrix<A> gate_rows(const HeadArgs& k) {
  return {in<A>(k.gate_weight), k.K, k.C};
}
template <class A>
inline void hidden_of(const HeadArgs& k, A* h) {
  for (int64_t i = 0; i < k.N * k.K; ++i) h[i] = A(attention_act(AttentionAct::relu, in<double>(k.z)[i]));
}
template <class A>
inline void excited(const HeadArgs& k, const A* h, A* a) {
  products(a, {h, k.K, k.N}, gate_rows<A>(k), k.K);
}
template <class A>
inline A gate_bias_of(const HeadArgs& k, int64_t c) {
  return k.gate_bias ? in<A>(k.gate_bias)[c] : A(0);
}

template <class A, class Finish>
inline void squeeze_excite(const HeadArgs& k, const Standardization<A>& standard, Finish finish) {
  const int64_t N = k.N, C = k.C, K = k.K;
  Scratch<A> memory(2 * N * C + N * K);
  A *u = memory.data, *a = u + N * C, *h = a + N * C;
  parallel_items(N, C, [&](int64_t n) { excite_inputs(k, standard, n, u + n * C); });
  products(h, {u, C, N}, fc_rows<A>(k), C);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t j = 0; j < K; ++j)
      out<double>(k.z)[n * K + j] = double(h[n * K + j]) + (k.fc_bias ? double(in<A>(k.fc_bias)[j]) : 0);
  hidden_of(k, h);
  excited(k, h, a);
  parallel_items(N, 8 * C, [&](int64_t n) {
    A *gamma = u + n * C, *beta = a + n * C;
    for (int64_t c = 0; c < C; ++c) {
      const A q = restricted(Restrict(k.gate), beta[c] + gate_bias_of<A>(k, c));
      gamma[c] = q * weight_of<A>(k, c), beta[c] = q * bias_of<A>(k, c);
    }
    finish(n, gamma, beta);
  });
}

template <class A>
inline void squeeze_excite_grad(const WayBack<A>& way) {
  const HeadGradArgs& to = way.to;
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C, K = k.K;
  Scratch<A> memory(4 * N * C + 2 * N * K);
  A *u = memory.data, *q = u + N * C, *da = q + N * C, *du = da + N * C, *h = du + N * C, *dz = h + N * K;
  hidden_of(k, h);
  excited(k, h, da);
  parallel_items(N, 8 * C, [&](int64_t n) {
    excite_inputs(k, way.standard, n, u + n * C);
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      const A a = da[i] + gate_bias_of<A>(k, c);
      q[i] = restricted(Restrict(k.gate), a);
      da[i] = (weight_of<A>(k, c) * way.dgamma[i] + bias_of<A>(k, c) * way.dshift[i]) *
              restricted_slope(Restrict(k.gate), a, q[i]);
    }
  });
  combinations(dz, {da, C, N}, gate_rows<A>(k), K);
  for (int64_t i = 0; i < N * K; ++i) dz[i] *= A(attention_act_slope(AttentionAct::relu, in<double>(k.z)[i], 0.0));
  combinations(du, {dz, K, N}, fc_rows<A>(k), C);
  parallel_items(N, C, [&](int64_t n) {
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
      standardized_mean_gradient(du[i] * weight_of<A>(k, c), k.mean[i], way.standard.mu_of(n)[c],
                                 way.standard.r_of(n)[c], way.dm[i], way.dmu[i], way.dvar[i]);
  });
  // The layers' gradients: sums over samples of rows times a factor.
  parallel_items(C, N * K, [&](int64_t c) { add_rows(out<A>(to.dgate_weight) + c * K, da + c, C, h, K, N, K); });
  parallel_items(K, N * C, [&](int64_t j) { add_rows(out<A>(to.dfc_weight) + j * C, dz + j, K, u, C, N, C); });
  Scratch<double> sums(3 * C + K, true);
  double *weight = sums.data, *bias = weight + C, *gate_bias = bias + C, *fc_bias = gate_bias + C;
  parallel_channels(N, C, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin, i = n * C + begin; c < end; ++c, ++i) {
        weight[c] += double(q[i] * way.dgamma[i]) + double(du[i]) * double(k_hat(k, way.standard, n, c));
        bias[c] += double(q[i] * way.dshift[i]) + double(du[i]);
        gate_bias[c] += double(da[i]);
      }
  });
  for (int64_t n = 0; n < N; ++n)
    for (int64_t j = 0; j < K; ++j) fc_bias[j] += double(dz[n * K + j]);
  round_to<A>(to.dweight, weight, C);
  round_to<A>(to.dbias, bias, C);
  round_to<A>(to.dgate_bias, gate_bias, C);
  round_to<A>(to.dfc_bias, fc_bias, K);
}
