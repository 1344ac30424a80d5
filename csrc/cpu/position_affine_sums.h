// position_affine_reduce: sums over positions;  position_affine_spread: sums over channels; docs/positions.md
// Traffic: position_affine.h's. Included once per instruction set, inside that set's namespace, after it.

// The sums of position_affine_reduce, in their order.
enum { kDe, kDeD, kDeT, kGeq, kG, kDa, kDaU, kReduceSums };

// add(j, value) for those that are not always 0.
template <Gate gate, class A, class Place, class Width, class Add>
FUSEDNORM_INLINED inline void reduce_terms(const AffineOptions& o, const Backward<A>& b, const PlaceTerms<Place>& p,
                                           int64_t i, Width width, Add&& add) {
  add(kDe, b.de);
  add(kDeD, b.de * b.d);
  if (o.with_t) add(kDeT, b.de * p.t(i, width));
  const Vec<A> ge = b.g * b.e;
  if constexpr (gate != Gate::none) {
    add(kGeq, ge * b.q);
    add(kDa, b.da);
    add(kDaU, b.da * p.u(i, width));
  } else {
    add(kGeq, ge);
  }
  add(kG, b.g);
}

template <Gate gate, Source source, class T>
void affine_reduce(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const AffineOptions o(k);
  auto store_sums = [&](int64_t n, int64_t c, const double* sums) {
    for (int j = 0; j < kReduceSums; ++j) static_cast<A*>(k.sums)[(j * s.N + n) * s.C + c] = A(sums[j]);
  };
  const Ahead ahead = ahead_of<T>(k);
  if (!s.channels_last) {
    planar_over_positions<MapReaders<T>, kReduceSums>(
        s,
        [&](MapReaders<T>& maps, int64_t n, int64_t c, int64_t p, int64_t length, double* totals) {
          const auto map = maps.open(k, n, c, p, length);
          const auto here = plane_terms<A>(k, n, c);
          const auto there = places<A>(k, n * S + p);
          const AffineOptions o(k);  // its own: a shared one would be read again after every store
          sum_run<A, kReduceSums>(length, totals, [&](int64_t i, auto width, Vec<A>* sums) FUSEDNORM_INLINED {
            ahead.fetch(map, i);
            const auto b = backward_at<gate, source>(o, map, here, there, i, width);
            reduce_terms<gate>(o, b, there, i, width, [&](int j, Vec<A> v) { sums[j] += present<A>(v, width); });
            if (map.y) store_out(map.y + i, b.g, width, map.stream);
          });
          maps.close(k, n, c, p, length);
        },
        store_sums);
    return;
  }
  rows_over_positions<A, kReduceSums>(
      s,
      [&](int64_t n, int64_t begin, int64_t end, RowTotals<A, kReduceSums>& totals) {
        const SampleTerms<A, 0> terms(k, n);
        const AffineOptions o(k);
        RowReaders<T> maps(k, n);
        row_groups(begin, end, s.C, [&](int64_t p, int64_t rows, int64_t c, int64_t length) {
          const auto here = terms.at(c);
          const auto all = maps.open(p, rows, c, length);
          A* row = totals.row(0) + c;
          step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
            Vec<A> sums[kReduceSums] = {};
#pragma GCC unroll 1
            for (int64_t r = 0; r < rows; ++r) {
              const auto map = all[r];
              const auto there = place<A>(k, n * S + p + r);
              ahead.fetch(map, i);
              const auto b = backward_at<gate, source>(o, map, here, there, i, width);
              reduce_terms<gate>(o, b, there, i, width, [&](int j, Vec<A> v) { sums[j] += v; });
              if (map.y) store_out(map.y + i, b.g, width, map.stream);
            }
            auto add = [&](int j) {
              A* to = row + j * s.C + i;
              store(to, load(to, width) + sums[j], width);
            };
            add(kDe), add(kDeD), add(kGeq), add(kG);
            if (o.with_t) add(kDeT);
            if constexpr (gate != Gate::none) add(kDa), add(kDaU);
          });
          maps.close(p, rows, c, length);
          if (c + length == s.C) totals.added(rows);
        });
      },
      store_sums);
}

template <class T>
void position_affine_reduce(const PositionAffineArgs& k) {
  with_gate_and_source(k, [&](auto gate, auto source) { affine_reduce<gate.value, source.value, T>(k); });
}

// du's and dt's summands: gate_weight*da and outer*de + pool*d.
template <class A, class Plane, class Width>
FUSEDNORM_INLINED inline Vec<A> dt_term(const Backward<A>& b, const PlaneTerms<Plane>& c, const Plane& pool,
                                        bool pooled, int64_t i, Width width) {
  const Vec<A> term = c.outer(i, width) * b.de;
  return pooled ? term + pool(i, width) * b.d : term;
}

template <Gate gate, Source source, class T>
void affine_spread(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const AffineOptions o(k);
  const bool pooled = k.pool.data;
  const Ahead ahead = ahead_of<T>(k);
  if (!s.channels_last) {
    planar_over_channels<A, MapReaders<T>, 2>(
        s,
        [&](MapReaders<T>& maps, int64_t n, int64_t c, int64_t p, int64_t length, RowTotals<A, 2>& totals) {
          const auto map = maps.open(k, n, c, p, length);
          const auto here = plane_terms<A>(k, n, c);
          const auto there = places<A>(k, n * S + p);
          const Same<A> pool = plane_value<A>(k.pool, n, c);
          A *du = totals.row(0), *dt = totals.row(1);
          step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
            ahead.fetch(map, i);
            const auto b = backward_at<gate, source>(o, map, here, there, i, width);
            if constexpr (gate != Gate::none)
              store(du + i, load(du + i, width) + here.gate_weight(i, width) * b.da, width);
            if (o.with_t) store(dt + i, load(dt + i, width) + dt_term(b, here, pool, pooled, i, width), width);
            if (map.y) store_out(map.y + i, b.g, width, map.stream);
          });
          maps.close(k, n, c, p, length);
        },
        [&](int64_t n, int64_t p, int64_t length, const double* totals) {
          for (int j = 0; j < 2; ++j)
            if (void* to = j == 0 ? k.du : k.dt)
              for (int64_t i = 0; i < length; ++i) static_cast<A*>(to)[n * S + p + i] = A(totals[j * length + i]);
        });
    return;
  }
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t) {
    SampleTerms<A, 1> terms(k, n);
    terms.values.add(k.pool);
    const AffineOptions o(k);
    RowReaders<T> maps(k, n);
    double du[kRows] = {}, dt[kRows] = {};
    row_groups(begin, end, s.C, [&](int64_t p, int64_t rows, int64_t c, int64_t length) {
      const auto here = terms.at(c);
      const auto pool = terms.values(kPlaneTerms, c);
      const auto all = maps.open(p, rows, c, length);
      for (int64_t r = 0; r < rows; ++r) {
        const auto map = all[r];
        const auto there = place<A>(k, n * S + p + r);
        Vec<A> du_sum = {}, dt_sum = {};
        step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
          ahead.fetch(map, i);
          const auto b = backward_at<gate, source>(o, map, here, there, i, width);
          if constexpr (gate != Gate::none) du_sum += present<A>(here.gate_weight(i, width) * b.da, width);
          if (o.with_t) dt_sum += present<A>(dt_term(b, here, pool, pooled, i, width), width);
          if (map.y) store_out(map.y + i, b.g, width, map.stream);
        });
        if constexpr (gate != Gate::none) du[r] += double(sum_lanes<A>(du_sum));
        if (o.with_t) dt[r] += double(sum_lanes<A>(dt_sum));
      }
      maps.close(p, rows, c, length);
      if (c + length < s.C) return;
      for (int64_t r = 0; r < rows; ++r) {
        if (k.du) static_cast<A*>(k.du)[n * S + p + r] = A(du[r]);
        if (k.dt) static_cast<A*>(k.dt)[n * S + p + r] = A(dt[r]);
        du[r] = dt[r] = 0;
      }
    });
  });
}

template <class T>
void position_affine_spread(const PositionAffineArgs& k) {
  with_gate_and_source(k, [&](auto gate, auto source) { affine_spread<gate.value, source.value, T>(k); });
}
