// What planes are standardized with: mu and r = 1/sqrt(var + eps) from their means and variances (docs/engine.md).
// Included once per instruction set, inside that set's namespace.

// mu and var (C) over samples of planes with the means mean_of(plane, channel) and the variances factor*v.
template <class A, class MeanOf>
inline void moments_over_samples(const HeadArgs& k, double factor, MeanOf mean_of, double* mu, double* var) {
  const A* v = in<A>(k.v);
  const int64_t N = k.N, C = k.C;
  parallel_channels(2 * N, C, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) mu[c] = var[c] = 0;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin; c < end; ++c) mu[c] += mean_of(n * C + c, c);
    for (int64_t c = begin; c < end; ++c) mu[c] /= double(N);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t c = begin; c < end; ++c) {
        const double d = mean_of(n * C + c, c) - mu[c];
        var[c] += factor * double(v[n * C + c]) + d * d;
      }
    for (int64_t c = begin; c < end; ++c) var[c] /= double(N);
  });
}

// found(group, mu, var) for the groups of `channels` channels of all samples.
template <class A, class Found>
inline void moments_over_groups(const HeadArgs& k, int64_t channels, double factor, Found found) {
  if (channels == 1)
    return parallel_items(k.N, k.C, [&](int64_t n) {
      for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i) found(i, k.mean[i], factor * double(in<A>(k.v)[i]));
    });
  parallel_items(k.N * (k.C / channels), channels, [&](int64_t group) {
    const double* m = k.mean + group * channels;
    const A* v = in<A>(k.v) + group * channels;
    const double mu = sum_of(channels, [&](int64_t i) { return m[i]; }) / double(channels);
    const double var = sum_of(channels, [&](int64_t i) { return factor * double(v[i]) + (m[i] - mu) * (m[i] - mu); });
    found(group, mu, var / double(channels));
  });
}

// The scopes of a switchable normalization: the moments of each, and the ratios of every channel.
template <class A>
struct Scopes {
  struct Scope {
    Sharers sharers;
    double *mu, *var;        // one for all planes that share
    double *w_mean, *w_var;  // C
  };

  explicit Scopes(const HeadArgs& args) : k(args), memory_(count()) {
    double* free = memory_.data;
    auto take = [&](int64_t values) {
      double* p = free;
      free += values;
      return p;
    };
    for (int64_t i = 0; i < k.scopes; ++i) {
      const Sharers s(k, k.over[i]);
      const int64_t entries = s.entries(k.N, k.C);
      mu_[i] = take(entries), var_[i] = take(entries), w_mean_[i] = take(k.C), w_var_[i] = take(k.C);
      moments(s, mu_[i], var_[i]);
    }
    for (int64_t group = 0; group < k.ratio_groups && k.scopes; ++group) {
      const int64_t channels = k.C / k.ratio_groups, begin = group * channels;
      double w[kMostScopes], w_var[kMostScopes];
      ratios(in<A>(k.mean_weight) + group * k.scopes, k.scopes, w);
      ratios(in<A>(k.var_weight) + group * k.scopes, k.scopes, w_var);
      for (int64_t i = 0; i < k.scopes; ++i)
        for (int64_t c = begin; c < begin + channels; ++c) w_mean_[i][c] = w[i], w_var_[i][c] = w_var[i];
    }
  }

  Scope operator[](int64_t i) const { return {Sharers(k, k.over[i]), mu_[i], var_[i], w_mean_[i], w_var_[i]}; }

  // f(plane, channel, entry): a sample's planes of channels [begin, end), and where their scope's moments lie. What f writes
  // is each plane's or channel's own.
  template <class F>
  void planes_of(int64_t n, const Sharers& s, int64_t begin, int64_t end, F&& f) const {
    const int64_t first = n * k.C;
    if (s.batch || s.channels == 1) {
      const int64_t shift = s.batch ? 0 : first;
#pragma GCC ivdep
      for (int64_t c = begin; c < end; ++c) f(first + c, c, shift + c);
      return;
    }
    for (int64_t c = begin; c < end;) {
      const int64_t entry = s.index(n, c, k.C), stop = min64(end, (c / s.channels + 1) * s.channels);
#pragma GCC ivdep
      for (int64_t i = c; i < stop; ++i) f(first + i, i, entry);
      c = stop;
    }
  }
  // All planes; samples in parallel.
  template <class F>
  void each_plane(const Sharers& s, F&& f) const {
    parallel_items(k.N, k.C, [&](int64_t n) { planes_of(n, s, 0, k.C, f); });
  }
  // All planes; channels in parallel, so that f may add to what is a channel's.
  template <class F>
  void each_channel(const Sharers& s, F&& f) const {
    parallel_channels(k.N, k.C, [&](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < k.N; ++n) planes_of(n, s, begin, end, f);
    });
  }

 private:
  const HeadArgs& k;
  Scratch<double> memory_;
  double *mu_[kMostScopes], *var_[kMostScopes], *w_mean_[kMostScopes], *w_var_[kMostScopes];

  int64_t count() const {
    int64_t values = 0;
    for (int64_t i = 0; i < k.scopes; ++i) values += 2 * Sharers(k, k.over[i]).entries(k.N, k.C) + 2 * k.C;
    return values;
  }

  void moments(const Sharers& s, double* mu, double* var) const {
    const double factor = plane_variance_factor(k);
    if (s.given) {
      for (int64_t c = 0; c < k.C; ++c)
        mu[c] = double(in<A>(k.running_mean)[c]), var[c] = double(in<A>(k.running_var)[c]);
      return;
    }
    if (!s.batch)
      return moments_over_groups<A>(k, s.channels, factor, [&](int64_t group, double mean, double variance) {
        mu[group] = mean, var[group] = variance * s.factor;
      });
    moments_over_samples<A>(k, factor, [&](int64_t plane, int64_t) { return k.mean[plane]; }, mu, var);
    for (int64_t c = 0; c < k.C; ++c) var[c] *= s.factor;
    for (int64_t c = 0; c < k.C && k.batch_mean; ++c)
      out<A>(k.batch_mean)[c] = A(mu[c]), out<A>(k.batch_var)[c] = A(var[c]);
  }
};

// mu and r as every sample sees them: one row of C values for all samples, or one for each.
template <class A>
struct Standardization {
  const HeadArgs& k;
  const int64_t mu_step, r_step;  // from a sample's row to the next

 private:
  Scratch<double> mu_memory;
  Scratch<A> r_memory;

 public:
  double* mu;
  A* r;
  const Scopes<A> scopes;
  Scratch<double> centred;  // representative: the centred map's means, C

  explicit Standardization(const HeadArgs& args)
      : k(args),
        mu_step(one_row(args) || args.standardize == Standardize::filter_response ? 0 : args.C),
        r_step(one_row(args) || args.standardize == Standardize::representative ? 0 : args.C),
        mu_memory(mu_step ? args.N * args.C : args.C),
        r_memory(r_step ? args.N * args.C : args.C),
        mu(mu_memory.data),
        r(r_memory.data),
        scopes(args),
        centred(args.center_weight ? args.C : 0) {
    switch (k.standardize) {
      case Standardize::batch:
        if (k.running())
          running(mu);
        else
          over_samples([&](int64_t plane, int64_t) { return k.mean[plane]; }, mu);
        break;
      case Standardize::group:
        over_groups();
        break;
      case Standardize::switchable:
        switched();
        break;
      case Standardize::representative:
        represented();
        break;
      case Standardize::identity:
        for (int64_t c = 0; c < k.C; ++c) mu[c] = 0, r[c] = 1;
        break;
      case Standardize::filter_response:
        for (int64_t c = 0; c < k.C; ++c) mu[c] = 0;
        parallel_items(k.N, k.C, [&](int64_t n) {
          for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i)
            r[i] = inverse_deviation<A>(mean_square(k.mean[i], in<A>(k.v)[i]), k.eps);
        });
    }
  }
  const double* mu_of(int64_t n) const { return mu + n * mu_step; }
  const A* r_of(int64_t n) const { return r + n * r_step; }
  // mean + center_weight K, a plane's mean in the centred map, less the plane's own
  double moved(int64_t plane, int64_t c) const {
    return centering(k.center_std, in<A>(k.center_weight)[c], k.mean[plane], in<A>(k.v)[plane]);
  }

 private:
  static bool one_row(const HeadArgs& k) {
    return k.standardize == Standardize::batch || k.standardize == Standardize::identity;
  }

  template <class MeanOf>
  void over_samples(MeanOf mean_of, double* mean) {
    Scratch<double> var(k.C);
    moments_over_samples<A>(k, 1, mean_of, mean, var.data);
    for (int64_t c = 0; c < k.C; ++c) r[c] = inverse_deviation<A>(var.data[c], k.eps);
    const double unbiased = unbiased_factor(double(k.N) * double(k.S));
    for (int64_t c = 0; c < k.C && k.batch_mean; ++c) {
      out<A>(k.batch_mean)[c] = A(mean[c]);
      out<A>(k.batch_var)[c] = A(var.data[c] * unbiased);
    }
  }

  void running(double* mean) {
    for (int64_t c = 0; c < k.C; ++c) {
      mean[c] = double(in<A>(k.running_mean)[c]);
      r[c] = running_inverse(in<A>(k.running_var)[c], k.eps);
    }
  }

  void over_groups() {
    const int64_t size = k.C / k.groups;
    moments_over_groups<A>(k, size, 1, [&](int64_t group, double mean, double var) {
      const A inverse = inverse_deviation<A>(var, k.eps);
      for (int64_t i = group * size; i < (group + 1) * size; ++i) mu[i] = mean, r[i] = inverse;
    });
  }

  void represented() {
    double* mean = centred.data;
    if (k.running())
      running(mean);
    else
      over_samples([&](int64_t plane, int64_t c) { return k.mean[plane] + moved(plane, c); }, mean);
    parallel_items(k.N, k.C, [&](int64_t n) {
      for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) mu[i] = mean[c] - moved(i, c);
    });
  }

  void switched() {
    Scratch<double> memory(k.N * k.C, true);
    double* var = memory.data;
    memcpy(mu, k.mean, size_t(k.N * k.C) * sizeof(double));
    for (int64_t i = 0; i < k.scopes; ++i) {
      const auto scope = scopes[i];
      scopes.each_plane(scope.sharers, [&](int64_t plane, int64_t c, int64_t entry) {
        mu[plane] += mixed_mean(scope.w_mean[c], scope.mu[entry], k.mean[plane]);
        var[plane] += scope.w_var[c] * scope.var[entry];
      });
    }
    parallel_items(k.N, k.C, [&](int64_t n) {
      for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i) r[i] = inverse_deviation<A>(var[i], k.eps);
    });
  }
};
