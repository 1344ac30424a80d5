// The way back through mu and var to the planes' moments and the standardization's parameters (docs/engine.md).
// Included once per instruction set, inside that set's namespace.

// What head_grad's parts share. Totals dmu, dvar of planes (N×C) exist where more than scale and shift adds to them, or
// where they are read more than once.
template <class A>
struct WayBack {
  const HeadGradArgs& to;
  const HeadArgs& k;
  const Standardization<A>& standard;
  const A *dgamma, *dshift;  // N×C
  A *dm, *dv;                // N×C, added to
  double *dmu, *dvar;        // N×C, or null

  // f(dmu_of, dvar_of), each of (plane, channel)
  template <class F>
  void with_sums(F&& f) const {
    const A* scale = in<A>(k.scale);
    if (dmu)
      f([&](int64_t i, int64_t) { return dmu[i]; }, [&](int64_t i, int64_t) { return dvar[i]; });
    else if (standard.r_step)
      f([&](int64_t i, int64_t) { return mu_gradient(scale[i], dshift[i]); },
        [&](int64_t i, int64_t) { return var_gradient(dgamma[i], scale[i], standard.r[i]); });
    else
      f([&](int64_t i, int64_t) { return mu_gradient(scale[i], dshift[i]); },
        [&](int64_t i, int64_t c) { return var_gradient(dgamma[i], scale[i], standard.r[c]); });
  }
};

// Sums over samples, C: of dmu and dvar.
template <class A>
inline void sum_over_samples(const WayBack<A>& way, double* dmu, double* dvar) {
  const int64_t N = way.k.N, C = way.k.C;
  way.with_sums([&](auto dmu_of, auto dvar_of) {
    parallel_channels(N, C, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) dmu[c] = dvar[c] = 0;
      for (int64_t n = 0; n < N; ++n)
        for (int64_t c = begin, i = n * C + begin; c < end; ++c, ++i) {
          dmu[c] += dmu_of(i, c);
          dvar[c] += dvar_of(i, c);
        }
    });
  });
}

template <class A>
inline void batch_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  Scratch<double> sums(2 * k.C);
  double *dmu = sums.data, *dvar = dmu + k.C;
  sum_over_samples(way, dmu, dvar);
  parallel_items(k.N, k.C, [&](int64_t n) {
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      way.dm[i] += mean_gradient<A>(dmu[c], dvar[c], k.mean[i], way.standard.mu[c], k.N);
      way.dv[i] += variance_gradient<A>(dvar[c], k.N);
    }
  });
}

template <class A>
inline void group_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  const int64_t size = k.C / k.groups;
  way.with_sums([&](auto dmu_of, auto dvar_of) {
    parallel_items(k.N * k.groups, size, [&](int64_t group) {
      const int64_t begin = group * size, end = begin + size;
      const double dmu = sum_of(size, [&](int64_t i) { return dmu_of(begin + i, 0); });
      const double dvar = sum_of(size, [&](int64_t i) { return dvar_of(begin + i, 0); });
      for (int64_t i = begin; i < end; ++i) {
        way.dm[i] += mean_gradient<A>(dmu, dvar, k.mean[i], way.standard.mu[i], size);
        way.dv[i] += variance_gradient<A>(dvar, size);
      }
    });
  });
}

template <class A>
inline void representative_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  const A *v = in<A>(k.v), *center_weight = in<A>(k.center_weight);
  Scratch<double> sums(3 * C, true);
  double *dmu = sums.data, *dvar = dmu + C, *dcenter = dvar + C;
  if (!k.running()) sum_over_samples(way, dmu, dvar);
  parallel_channels(2 * N, C, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin, i = n * C + begin; c < end; ++c, ++i) {
        double dmc = 0, K = centering_statistic(k.center_std, k.mean[i], v[i]);
        if (!k.running()) {
          const double mc = k.mean[i] + way.standard.moved(i, c);
          dmc = mean_gradient<double>(dmu[c], dvar[c], mc, way.standard.centred.data[c], N);
          way.dv[i] += variance_gradient<A>(dvar[c], N);
          K -= centering_statistic(k.center_std, k.mean[c], v[c]);  // of the first sample
        }
        dcenter[c] += K * (dmc - way.dmu[i]);
        centering_gradient(k.center_std, center_weight[c], dmc, way.dmu[i], v[i], way.dm[i], way.dv[i]);
      }
  });
  round_to<A>(way.to.dcenter_weight, dcenter, C);
}

// One scope: to the moments of the planes that share it, and dw (C), for either of the ratios.
template <class A>
inline void scope_grad(const WayBack<A>& way, const typename Scopes<A>::Scope& scope, double* dw_mean, double* dw_var) {
  const HeadArgs& k = way.k;
  const Sharers& s = scope.sharers;
  const Scopes<A>& scopes = way.standard.scopes;
  scopes.each_channel(s, [&](int64_t plane, int64_t c, int64_t entry) {
    dw_mean[c] += way.dmu[plane] * (scope.mu[entry] - k.mean[plane]);
    dw_var[c] += way.dvar[plane] * scope.var[entry];
  });
  if (s.given) return;
  const int64_t entries = s.entries(k.N, k.C);
  Scratch<double> sums(2 * entries, true);
  double *dmu = sums.data, *dvar = dmu + entries;
  auto add = [&](int64_t plane, int64_t c, int64_t entry) {
    dmu[entry] += scope.w_mean[c] * way.dmu[plane];
    dvar[entry] += scope.w_var[c] * way.dvar[plane] * s.factor;
  };
  if (s.batch)
    scopes.each_channel(s, add);
  else if (s.channels == 1)
    scopes.each_plane(s, add);
  else
    parallel_items(entries, s.channels, [&](int64_t entry) {
      const int64_t plane = entry * s.channels, c = plane % k.C;
      const double *w_mean = scope.w_mean + c, *w_var = scope.w_var + c;
      const double *dmu_of = way.dmu + plane, *dvar_of = way.dvar + plane;
      dmu[entry] = sum_of(s.channels, [&](int64_t i) { return w_mean[i] * dmu_of[i]; });
      dvar[entry] = s.factor * sum_of(s.channels, [&](int64_t i) { return w_var[i] * dvar_of[i]; });
    });
  const double factor = plane_variance_factor(k);
  scopes.each_plane(s, [&](int64_t plane, int64_t, int64_t entry) {
    way.dm[plane] += mean_gradient<A>(dmu[entry], dvar[entry], k.mean[plane], scope.mu[entry], s.count);
    way.dv[plane] += variance_gradient<A>(factor * dvar[entry], s.count);
  });
}

template <class A>
inline void switchable_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  Scratch<double> sums(2 * k.scopes * k.C, true);
  double *dw_mean = sums.data, *dw_var = dw_mean + k.scopes * k.C;
  for (int64_t i = 0; i < k.scopes; ++i) scope_grad(way, way.standard.scopes[i], dw_mean + i * k.C, dw_var + i * k.C);
  const int64_t channels = k.C / k.ratio_groups;
  auto finish = [&](const double* dw, const void* weight, void* to) {
    for (int64_t g = 0; g < k.ratio_groups && to; ++g) {
      double w[kMostScopes], total[kMostScopes] = {};
      ratios(in<A>(weight) + g * k.scopes, k.scopes, w);
      for (int64_t i = 0; i < k.scopes; ++i)
        for (int64_t c = g * channels; c < (g + 1) * channels; ++c) total[i] += dw[i * k.C + c];
      ratios_gradient(w, total, k.scopes, out<A>(to) + g * k.scopes);
    }
  };
  finish(dw_mean, k.mean_weight, way.to.dmean_weight);
  finish(dw_var, k.var_weight, way.to.dvar_weight);
}

template <class A>
inline void filter_response_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  parallel_items(k.N, k.C, [&](int64_t n) {
    for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i) {
      way.dm[i] += A(2 * k.mean[i] * way.dvar[i]);
      way.dv[i] += A(way.dvar[i]);
    }
  });
}

template <class A>
inline void standardize_grad(const WayBack<A>& way) {
  switch (way.k.standardize) {
    case Standardize::batch:
      return way.k.running() ? void() : batch_grad(way);
    case Standardize::group:
      return group_grad(way);
    case Standardize::switchable:
      return switchable_grad(way);
    case Standardize::representative:
      return representative_grad(way);
    case Standardize::identity:
      return;
    case Standardize::filter_response:
      return filter_response_grad(way);
  }
}
