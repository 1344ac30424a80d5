// Gates that look at each sample's planes of z = weight x_hat + bias (docs/engine.md): Gamma = q weight, Beta = q bias,
// q = R(a), with u the plane means of z and
//   channel attention  a = convolution of u along the channels      style  a = BN(gate_weight . (u, std of the plane))
//   gather-excite      a = u
// Included once per instruction set, inside that set's namespace.

// f(j, channel, what it looks at there, count of both) for each place j of the window: a[c] takes gate_weight[j] times
// u[c + j - window/2].
template <class F>
inline void each_place(const HeadArgs& k, F f) {
  for (int64_t j = 0; j < k.window; ++j) {
    const int64_t offset = j - k.window / 2, begin = max64(0, -offset), end = min64(k.C, k.C - offset);
    if (begin < end) f(j, begin, begin + offset, end - begin);
  }
}

template <class A>
struct PlaneGates {
  const HeadArgs& k;
  const bool style;
  Scratch<A> memory;
  A *u, *q, *slope;  // N×C; slope: dR/da
  // style's, in double: BN takes a large mean out again
  Scratch<double> looked_at;
  double *mean, *std;  // N×C
  SampleNorm<A> norm;

  PlaneGates(const HeadArgs& args, const Standardization<A>& standard)
      : k(args),
        style(args.recalibrate == Recalibrate::style),
        memory(3 * args.N * args.C),
        u(memory.data),
        q(u + args.N * args.C),
        slope(q + args.N * args.C),
        looked_at(style ? 2 * args.N * args.C : 0),
        mean(looked_at.data),
        std(style ? mean + args.N * args.C : nullptr),
        norm(args, style ? args.C : 0) {
    const int64_t C = k.C;
    Scratch<double> styles(style ? k.N * C : 0);
    parallel_items(k.N, 4 * C, [&](int64_t n) {
      if (style)
        styles_of(standard, n, styles.data + n * C);
      else
        excite_inputs(k, standard, n, u + n * C);
    });
    if (style) norm.forward(styles.data, styles.data);
    parallel_items(k.N, 8 * C, [&](int64_t n) {
      A* a = q + n * C;
      if (style) {
        for (int64_t c = 0; c < C; ++c) a[c] = A(styles.data[n * C + c]);
      } else if (k.window) {
        memset(a, 0, size_t(C) * sizeof(A));
        each_place(k, [&](int64_t j, int64_t c, int64_t from, int64_t count) {
          add_scaled(a + c, in<A>(k.gate_weight)[j], u + n * C + from, count);
        });
      } else {
        memcpy(a, u + n * C, size_t(C) * sizeof(A));
      }
      for (int64_t c = 0; c < C; ++c) {
        const A before = a[c];
        a[c] = restricted(Restrict(k.gate), before);
        slope[n * C + c] = restricted_slope(Restrict(k.gate), before, a[c]);
      }
    });
  }

 private:
  void styles_of(const Standardization<A>& standard, int64_t n, double* to) const {
    const double* mu = standard.mu_of(n);
    const A* r = standard.r_of(n);
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const double weight = weight_of<A>(k, c);
      const A* of = in<A>(k.gate_weight) + 2 * c;
      mean[i] = weight * standardized_mean<double>(k.mean[i], mu[c], r[c]) + double(bias_of<A>(k, c));
      std[i] = head_sqrt(weight * weight * standardized_var<double>(in<A>(k.v)[i], r[c]) + k.source_eps);
      to[c] = double(of[0]) * mean[i] + double(of[1]) * std[i];
    }
  }
};

template <class A, class Finish>
inline void plane_gates(const HeadArgs& k, const Standardization<A>& standard, Finish finish) {
  const PlaneGates<A> gates(k, standard);
  parallel_items(k.N, 2 * k.C, [&](int64_t n) {
    Scratch<A> maps(2 * k.C);
    A *gamma = maps.data, *beta = gamma + k.C;
    for (int64_t c = 0; c < k.C; ++c) {
      const A q = gates.q[n * k.C + c];
      gamma[c] = q * weight_of<A>(k, c), beta[c] = q * bias_of<A>(k, c);
    }
    finish(n, gamma, beta);
  });
}

// From da to du, and dwindow.
template <class A>
inline void channel_attention_grad(const WayBack<A>& way, const A* u, const A* da, A* du) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  parallel_items(N, k.window * C, [&](int64_t n) {
    memset(du + n * C, 0, size_t(C) * sizeof(A));
    each_place(k, [&](int64_t j, int64_t c, int64_t from, int64_t count) {
      add_scaled(du + n * C + from, in<A>(k.gate_weight)[j], da + n * C + c, count);
    });
  });
  Scratch<double> sums(k.window, true);
  for (int64_t n = 0; n < N; ++n)
    each_place(k, [&](int64_t j, int64_t c, int64_t from, int64_t count) {
      sums.data[j] += double(dot(da + n * C + c, u + n * C + from, count));
    });
  round_to<A>(way.to.dgate_weight, sums.data, k.window);
}

// From da to du and, d by the plane variances of z, dspread, and the parameters of style.
template <class A>
inline void style_grad(const WayBack<A>& way, const PlaneGates<A>& gates, const A* da, A* du, A* dspread) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  Scratch<double> memory(N * C), sums(2 * C, true);
  double* d = memory.data;
  for (int64_t i = 0; i < N * C; ++i) d[i] = double(da[i]);
  gates.norm.backward(d, way.to);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      const A* of = in<A>(k.gate_weight) + 2 * c;
      du[i] = A(double(of[0]) * d[i]);
      dspread[i] = A(double(of[1]) * d[i] / (2 * gates.std[i]));
      // With the batch's statistics d sums to 0: any constant may be taken off the mean, which may be large.
      sums.data[2 * c] += d[i] * (gates.mean[i] - (k.norm_mean ? 0 : gates.mean[c]));
      sums.data[2 * c + 1] += d[i] * gates.std[i];
    }
  round_to<A>(way.to.dgate_weight, sums.data, 2 * C);
}

template <class A>
inline void plane_gates_grad(const WayBack<A>& way) {
  const HeadArgs& k = way.k;
  const int64_t N = k.N, C = k.C;
  const PlaneGates<A> gates(k, way.standard);
  Scratch<A> memory((gates.style ? 3 : 2) * N * C);
  A *da = memory.data, *du = da + N * C, *dspread = gates.style ? du + N * C : nullptr;
  parallel_items(N, 2 * C, [&](int64_t n) {
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
      da[i] = (weight_of<A>(k, c) * way.dgamma[i] + bias_of<A>(k, c) * way.dshift[i]) * gates.slope[i];
  });
  if (gates.style)
    style_grad(way, gates, da, du, dspread);
  else if (k.window)
    channel_attention_grad(way, gates.u, da, du);
  else
    du = da;
  parallel_items(N, 4 * C, [&](int64_t n) {
    const double* mu = way.standard.mu_of(n);
    const A* r = way.standard.r_of(n);
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      const A weight = weight_of<A>(k, c);
      standardized_mean_gradient(du[i] * weight, k.mean[i], mu[c], r[c], way.dm[i], way.dmu[i], way.dvar[i]);
      if (dspread) standardized_var_gradient(dspread[i] * weight * weight, in<A>(k.v)[i], r[c], way.dv[i], way.dvar[i]);
    }
  });
  Scratch<double> sums(2 * C, true);
  double *weight = sums.data, *bias = weight + C;
  for (int64_t n = 0; n < N; ++n) {
    const A* r = way.standard.r_of(n);
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
      weight[c] += double(gates.q[i] * way.dgamma[i]) + double(du[i]) * double(k_hat(k, way.standard, n, c));
      if (dspread)
        weight[c] += 2 * double(dspread[i]) * double(weight_of<A>(k, c) * standardized_var(in<A>(k.v)[i], r[c]));
      bias[c] += double(gates.q[i] * way.dshift[i]) + double(du[i]);
    }
  }
  round_to<A>(way.to.dweight, weight, C);
  round_to<A>(way.to.dbias, bias, C);
}
