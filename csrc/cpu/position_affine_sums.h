// position_affine_reduce: sums over positions;  position_affine_spread: sums over channels; docs/positions.md
// Traffic: position_affine.h's. Included once per instruction set, inside that set's namespace, after it.

// The sums of position_affine_reduce, in their order.
enum { kDe, kDeD, kDeT, kGeq, kG, kDa, kDaU, kReduceSums };

// add(j, value) for those that are not always 0.
template <bool gated, class A, class Place, class Width, class Add>
FUSEDNORM_INLINED inline void reduce_terms(const AffineOptions& o, const Backward<A>& b, const PlaceTerms<Place>& p,
                                           int64_t i, Width width, Add&& add) {
  add(kDe, b.de);
  add(kDeD, b.de * b.d);
  if (o.with_t) add(kDeT, b.de * p.t(i, width));
  const Vec<A> ge = b.g * b.e;
  if constexpr (gated) {
    add(kGeq, ge * b.q);
    add(kDa, b.da);
    add(kDaU, b.da * p.u(i, width));
  } else {
    add(kGeq, ge);
  }
  add(kG, b.g);
}

template <bool gated, Source source, class T>
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
    planar_over_positions<MapReaders<T, kRun>, kReduceSums>(
        s,
        [&](MapReaders<T, kRun>& maps, int64_t n, int64_t c, int64_t p, int64_t length, double* totals) {
          const auto map = maps.open(k, n, c, p, length);
          const auto here = plane_terms<A>(k, n, c);
          const auto there = places<A>(k, n * S + p);
          sum_run<A, kReduceSums>(length, totals, [&](int64_t i, auto width, Vec<A>* sums) FUSEDNORM_INLINED {
            ahead.fetch(map, i);
            const auto b = backward_at<gated, source>(o, map, here, there, i, width);
            reduce_terms<gated>(o, b, there, i, width, [&](int j, Vec<A> v) { sums[j] += present<A>(v, width); });
            if (map.y) store_out(map.y + i, b.g, width, map.stream);
          });
          maps.close(k, n, c, p, length);
        },
        store_sums);
    return;
  }
  constexpr int64_t step = kChain * lanes<A>;
  rows_over_positions<A, kReduceSums>(
      s,
      [&](int64_t n, int64_t begin, int64_t end, RowTotals<A, kReduceSums>& totals) {
        const SampleTerms<A> terms(k, n);
        MapReaders<T, step> maps[4];
        by_four(begin, end, [&](int64_t p, auto rows) {
          constexpr int R = rows.value;
          PlaceTerms<Same<A>> there[R];
          for (int r = 0; r < R; ++r) there[r] = place<A>(k, n * S + p + r);
          for (int64_t c = 0; c < s.C; c += step) {
            const int64_t length = min64(step, s.C - c);
            const auto here = terms.at(c);
            MapRun<T> map[R];
            for (int r = 0; r < R; ++r) map[r] = maps[r].open(k, n, c, p + r, length);
            A* row = totals.row(0) + c;
            step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
              Vec<A> sums[kReduceSums] = {};
#pragma GCC unroll 1
              for (int r = 0; r < R; ++r) {
                ahead.fetch(map[r], i);
                const auto b = backward_at<gated, source>(o, map[r], here, there[r], i, width);
                reduce_terms<gated>(o, b, there[r], i, width, [&](int j, Vec<A> v) { sums[j] += v; });
                if (map[r].y) store_out(map[r].y + i, b.g, width, map[r].stream);
              }
              auto add = [&](int j) {
                A* to = row + j * s.C + i;
                store(to, load(to, width) + sums[j], width);
              };
              add(kDe), add(kDeD), add(kGeq), add(kG);
              if (o.with_t) add(kDeT);
              if constexpr (gated) add(kDa), add(kDaU);
            });
            for (int r = 0; r < R; ++r) maps[r].close(k, n, c, p + r, length);
          }
          totals.added(R);
        });
      },
      store_sums);
}

template <class T>
void position_affine_reduce(const PositionAffineArgs& k) {
  with_gate_and_source(k, [&](auto gated, auto source) { affine_reduce<gated.value, source.value, T>(k); });
}

// du's and dt's summands: gate_weight*da and outer*de + pool*d.
template <class A, class Plane, class Width>
FUSEDNORM_INLINED inline Vec<A> dt_term(const Backward<A>& b, const PlaneTerms<Plane>& c, const Plane& pool,
                                        bool pooled, int64_t i, Width width) {
  const Vec<A> term = c.outer(i, width) * b.de;
  return pooled ? term + pool(i, width) * b.d : term;
}

template <bool gated, Source source, class T>
void affine_spread(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const AffineOptions o(k);
  const bool pooled = k.pool.data;
  const Ahead ahead = ahead_of<T>(k);
  if (!s.channels_last) {
    planar_over_channels<A, MapReaders<T, kRun>, 2>(
        s,
        [&](MapReaders<T, kRun>& maps, int64_t n, int64_t c, int64_t p, int64_t length, RowTotals<A, 2>& totals) {
          const auto map = maps.open(k, n, c, p, length);
          const auto here = plane_terms<A>(k, n, c);
          const auto there = places<A>(k, n * S + p);
          const Same<A> pool = plane_value<A>(k.pool, n, c);
          A *du = totals.row(0), *dt = totals.row(1);
          step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
            ahead.fetch(map, i);
            const auto b = backward_at<gated, source>(o, map, here, there, i, width);
            if constexpr (gated) store(du + i, load(du + i, width) + here.gate_weight(i, width) * b.da, width);
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
  constexpr int64_t step = kChain * lanes<A>;
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t) {
    SampleTerms<A> terms(k, n);
    const A* pools = terms.values(k.pool);
    MapReaders<T, step> maps;
    for (int64_t p = begin; p < end; ++p) {
      const auto there = place<A>(k, n * S + p);
      double totals[2] = {};
      for (int64_t c = 0; c < s.C; c += step) {
        const int64_t length = min64(step, s.C - c);
        const auto map = maps.open(k, n, c, p, length);
        const auto here = terms.at(c);
        const Each<A> pool{pools ? pools + c : nullptr};
        sum_run<A, 2>(length, totals, [&](int64_t i, auto width, Vec<A>* sums) FUSEDNORM_INLINED {
          ahead.fetch(map, i);
          const auto b = backward_at<gated, source>(o, map, here, there, i, width);
          if constexpr (gated) sums[0] += present<A>(here.gate_weight(i, width) * b.da, width);
          if (o.with_t) sums[1] += present<A>(dt_term(b, here, pool, pooled, i, width), width);
          if (map.y) store_out(map.y + i, b.g, width, map.stream);
        });
        maps.close(k, n, c, p, length);
      }
      if (k.du) static_cast<A*>(k.du)[n * S + p] = A(totals[0]);
      if (k.dt) static_cast<A*>(k.dt)[n * S + p] = A(totals[1]);
    }
  });
}

template <class T>
void position_affine_spread(const PositionAffineArgs& k) {
  with_gate_and_source(k, [&](auto gated, auto source) { affine_spread<gated.value, source.value, T>(k); });
}
