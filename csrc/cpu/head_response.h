// Global response normalization (ConvNeXt V2, Woo et al., 2023; docs/engine.md): Gamma = weight G/(mean_c G + eps) + 1,
// Beta = bias, G the L2 norms of a sample's planes of x_hat. Included once per instruction set, inside that set's
// namespace.

// G of a sample (C); the result is mean_c G + eps.
template <class A>
inline A plane_norms(const HeadArgs& k, const Standardization<A>& standard, int64_t n, A* G) {
  const double* mu = standard.mu_of(n);
  const A* r = standard.r_of(n);
  double sum = 0;
  for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
    G[c] = plane_norm(k.S, k.mean[i], in<A>(k.v)[i], mu[c], r[c]);
    sum += double(G[c]);
  }
  return A(sum / double(k.C)) + A(k.source_eps);
}

template <class A, class Finish>
inline void global_response(const HeadArgs& k, const Standardization<A>& standard, Finish finish) {
  parallel_items(k.N, 4 * k.C, [&](int64_t n) {
    Scratch<A> gamma(k.C);
    const A level = plane_norms(k, standard, n, gamma.data);
    for (int64_t c = 0; c < k.C; ++c) gamma.data[c] = weight_of<A>(k, c) * (gamma.data[c] / level) + A(1);
    finish(n, gamma.data, in<A>(k.bias));
  });
}

// With D = mean_c G + eps and d = weight dGamma:  dG = (d - sum_c d G / (C D)) / D
template <class A>
inline void global_response_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  Scratch<A> memory(N * C);
  A* ratio = memory.data;
  parallel_items(N, 8 * C, [&](int64_t n) {
    Scratch<A> norms(C);
    const A *G = norms.data, level = plane_norms(k, way.standard, n, norms.data);
    const double* mu = way.standard.mu_of(n);
    const A* r = way.standard.r_of(n);
    double inner = 0;
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      ratio[i] = G[c] / level;
      inner += double(weight_of<A>(k, c) * way.dgamma[i]) * double(ratio[i]);
    }
    const A share = A(inner / double(C));
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
      plane_norm_gradient((weight_of<A>(k, c) * way.dgamma[i] - share) / level, G[c], k.S, k.mean[i], in<A>(k.v)[i],
                          mu[c], r[c], way.dm[i], way.dv[i], way.dmu[i], way.dvar[i]);
  });
  Scratch<double> sums(2 * C, true);
  double *weight = sums.data, *bias = weight + C;
  for (int64_t n = 0; n < N; ++n)
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      weight[c] += double(way.dgamma[i]) * double(ratio[i]);
      bias[c] += double(way.dshift[i]);
    }
  round_to<A>(way.to.dweight, weight, C);
  round_to<A>(way.to.dbias, bias, C);
}
