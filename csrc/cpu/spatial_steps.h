// What layers with statistics over channels at each position calculate between their passes (csrc/cpu/spatial.cpp), a
// sample an item; formulas: fusednorm/engine/spatial.py and fusednorm/heads/spatial.py.
//   pivots; row, planes, outer    t' of the centering; the centred map's planes, for the head; outer = scale w
//   u, slopes, through_u    the scaling's statistic, its derivative, and what du makes of that
//   cotangents, centering, row_grad    the way back: to the head, from it to t's moments, to x through t
// Traffic: N×C and N×S values, in the caches. Included once per instruction set, inside that set's namespace.

template <class A>
inline void spatial_pivots(const SpatialArrays& k, int64_t n) {
  for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i) out<A>(k.center)[i] = A(k.mean[i]);
}

template <class A>
inline void spatial_row(const SpatialArrays& k, int64_t n) {
  A* row = out<A>(k.row) + n * k.S;
  position_statistic(k.centering, in<A>(k.t_mean) + n * k.S, in<A>(k.t_var) + n * k.S, k.S, row);
  k.level[n] = long_sum<A>(row, nullptr, k.S) / double(k.S);
  for (int64_t s = 0; s < k.S; ++s) row[s] = A(double(row[s]) - k.level[n]);
  k.spread[n] = long_sum(row, row, k.S) / double(k.S);
}

template <class A>
inline void spatial_planes(const SpatialArrays& k, int64_t n) {
  for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
    const double w = double(in<A>(k.center_weight)[c]), moved = w * k.level[n];
    const double at = double(in<A>(k.center)[i]) + moved;
    const double var = double(in<A>(k.var)[i]) + w * (2 * double(in<A>(k.cov)[i]) + w * k.spread[n]);
    k.centred_mean[i] = k.mean[i] + moved;
    out<A>(k.centred_var)[i] = A(non_negative(var));
    out<A>(k.pivot)[i] = A(at);
    out<A>(k.rest)[i] = A(at - double(A(at)));
  }
}

template <class A>
inline void spatial_outer(const SpatialArrays& k, int64_t n) {
  for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
    const A scale = in<A>(k.scale)[i];
    out<A>(k.shift)[i] += scale * in<A>(k.rest)[i];
    out<A>(k.outer)[i] = scale * in<A>(k.center_weight)[c];
  }
}

template <class A>
inline void spatial_u(const SpatialArrays& k, int64_t n) {
  position_statistic(k.scaling, in<A>(k.u_mean) + n * k.S, in<A>(k.u_var) + n * k.S, k.S, out<A>(k.u) + n * k.S);
}

template <class A>
inline void spatial_slopes(const SpatialArrays& k, int64_t n) {
  const A each = A(1) / A(k.C);
  for (int64_t i = n * k.S; i < (n + 1) * k.S; ++i) {
    const A slope = k.scaling == Statistic::mean ? A(0) : position_root_slope(in<A>(k.u_var)[i], k.C);
    out<A>(k.u_offset)[i] = k.scaling == Statistic::mean ? each : -slope * in<A>(k.u_mean)[i];
    out<A>(k.u_slope)[i] = slope;
  }
}

template <class A>
inline void spatial_through_u(const SpatialArrays& k, int64_t n) {
  for (int64_t i = n * k.S; i < (n + 1) * k.S; ++i) {
    const A du = in<A>(k.du)[i];
    out<A>(k.e_offset)[i] = du * in<A>(k.u_offset)[i];
    out<A>(k.e_slope)[i] = du * in<A>(k.u_slope)[i];
  }
}

// Sample n's row of the j-th of position_affine_reduce's sums.
template <class A>
inline const A* spatial_sums(const SpatialArrays& k, int j, int64_t n) {
  return in<A>(k.sums) + (j * k.N + n) * k.C;
}

// Of the parameters that the head does not know; they are absent where it knows them.
template <class A>
inline void spatial_parameters(const SpatialArrays& k) {
  const auto total = [&](int j, void* to) {
    for (int64_t c = 0; c < k.C && to; ++c) {
      double sum = 0;
      for (int64_t n = 0; n < k.N; ++n) sum += double(spatial_sums<A>(k, j, n)[c]);
      out<A>(to)[c] = A(sum);
    }
  };
  total(kGeq, k.dweight), total(kG, k.dbias), total(kDaU, k.dgate_weight), total(kDa, k.dgate_bias);
}

template <class A>
inline void spatial_cotangents(const SpatialArrays& k, int64_t n) {
  const A *de = spatial_sums<A>(k, kDe, n), *de_d = spatial_sums<A>(k, kDeD, n), *de_t = spatial_sums<A>(k, kDeT, n);
  A* dscale = out<A>(k.dscale) + n * k.C;
  for (int64_t c = 0; c < k.C; ++c) {
    dscale[c] = de_d[c];
    if (k.center_weight) dscale[c] += in<A>(k.center_weight)[c] * de_t[c] + in<A>(k.rest)[n * k.C + c] * de[c];
  }
}

// With dm' and dv' of the centred planes, m' = m + w level, v' = v + 2 w cov + w² spread, and shift's own w level scale.
template <class A>
struct CentredGradient {
  const SpatialArrays& k;
  double dm(int64_t i) const { return k.b ? double(in<A>(k.b)[i]) * double(k.S) : 0; }
  double dv(int64_t i) const { return k.a ? double(in<A>(k.a)[i]) * double(k.S) / 2 : 0; }
  double moved(int64_t n, int64_t c) const {
    return dm(n * k.C + c) + double(in<A>(k.scale)[n * k.C + c]) * double(spatial_sums<A>(k, kDe, n)[c]);
  }
};

template <class A>
inline void spatial_centering(const SpatialArrays& k, int64_t n) {
  const CentredGradient<A> of{k};
  double dlevel = 0, dspread = 0, middle = 0;
  for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
    const double w = double(in<A>(k.center_weight)[c]), dv = of.dv(i);
    dlevel += w * of.moved(n, c);
    dspread += w * w * dv;
    middle += double(in<A>(k.center)[i]);
    out<A>(k.pool)[i] = A(2 * w * dv / double(k.S));
  }
  middle /= double(k.C);
  k.dlevel[n] = dlevel, k.dspread[n] = dspread, k.middle[n] = middle;
  for (int64_t i = n * k.C; i < (n + 1) * k.C; ++i) out<A>(k.away)[i] = A(double(in<A>(k.center)[i]) - middle);
}

template <class A>
inline void spatial_center_weight(const SpatialArrays& k) {
  if (!k.dcenter_weight) return;
  const CentredGradient<A> of{k};
  // A batch's own statistics take any shift off: what moves with level sums to 0, and level may be large.
  const double base = k.batch ? k.level[0] : 0;
  Scratch<double> total(k.C, true);
  for (int64_t n = 0; n < k.N; ++n) {
    const A* de_t = spatial_sums<A>(k, kDeT, n);
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const double w = double(in<A>(k.center_weight)[c]);
      total.data[c] += (k.level[n] - base) * of.moved(n, c) +
                       2 * (double(in<A>(k.cov)[i]) + w * k.spread[n]) * of.dv(i) +
                       double(in<A>(k.scale)[i]) * double(de_t[c]);
    }
  }
  round_to<A>(k.dcenter_weight, total.data, k.C);
}

template <class A>
inline void spatial_row_grad(const SpatialArrays& k, int64_t n) {
  const int64_t at = n * k.S;
  const A *row = in<A>(k.row) + at, *t_mean = in<A>(k.t_mean) + at, *t_var = in<A>(k.t_var) + at;
  A* d = out<A>(k.drow) + at;
  const A constant = A((k.dlevel[n] - long_sum<A>(d, nullptr, k.S)) / double(k.S));
  const A along = A(k.dspread[n] * 2 / double(k.S)), each = A(1) / A(k.C);
  for (int64_t s = 0; s < k.S; ++s) d[s] += constant + row[s] * along;
  if (k.centering == Statistic::mean) {
    for (int64_t s = 0; s < k.S; ++s) d[s] *= each;
    return;
  }
  // slope*(x - t_mean) = slope*((x - center) + (center - middle) - (t_mean - middle)), middle the mean of center
  A *h = out<A>(k.h) + at, *offset = out<A>(k.offset) + at;
  for (int64_t s = 0; s < k.S; ++s) {
    d[s] *= position_root_slope(t_var[s], k.C);
    h[s] = d[s] / 2;
    offset[s] = -d[s] * A(double(t_mean[s]) - k.middle[n]);
  }
}

template <class A>
inline void spatial_step(SpatialStep step, const SpatialArrays& k) {
  const auto each_sample = [&](int64_t elements, auto f) {
    parallel_items(k.N, elements, [&](int64_t n) { f(k, n); });
  };
  switch (step) {
    case SpatialStep::pivots:
      return each_sample(k.C, spatial_pivots<A>);
    case SpatialStep::row:
      return each_sample(4 * k.S, spatial_row<A>);
    case SpatialStep::planes:
      return each_sample(8 * k.C, spatial_planes<A>);
    case SpatialStep::outer:
      return each_sample(4 * k.C, spatial_outer<A>);
    case SpatialStep::u:
      return each_sample(k.S, spatial_u<A>);
    case SpatialStep::slopes:
      return each_sample(4 * k.S, spatial_slopes<A>);
    case SpatialStep::through_u:
      return each_sample(2 * k.S, spatial_through_u<A>);
    case SpatialStep::cotangents:
      spatial_parameters<A>(k);
      return each_sample(4 * k.C, spatial_cotangents<A>);
    case SpatialStep::centering:
      spatial_center_weight<A>(k);
      return each_sample(8 * k.C, spatial_centering<A>);
    case SpatialStep::row_grad:
      return each_sample(8 * k.S, spatial_row_grad<A>);
  }
}
