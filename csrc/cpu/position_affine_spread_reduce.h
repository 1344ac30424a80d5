// position_affine_spread_reduce: position_affine_spread, then position_affine_reduce with e_offset = du*du_offset and
// e_slope = du*du_slope; docs/positions.md
// All channels of a position are at hand when du is known, in L1 (channels_last, a few rows) or L2 (planar, a tile): one
// calculation of the gate.
// Traffic: reads dy and x (and residual): 2 units (3), one more with g to write; the two kernels read 4 (5).
// Included once per instruction set, inside that set's namespace, after them.

// What a few rows' second sweep takes from the first: g*q, g, da and d, all channels of each.
template <class A>
class RowStash {
 public:
  explicit RowStash(int64_t C) : stride_(ceil_div(C, lanes<A>) * lanes<A>), memory_(4 * kRows * stride_) {}
  A* gq(int64_t r) { return row(r); }
  A* g(int64_t r) { return row(kRows + r); }
  A* da(int64_t r) { return row(2 * kRows + r); }
  A* d(int64_t r) { return row(3 * kRows + r); }

 private:
  A* row(int64_t i) { return memory_.data + i * stride_; }
  int64_t stride_;
  Scratch<A> memory_;
};

// The first sweep, of channels [c, c + length): g and the stash written, du's sums added to.
template <Gate gate, Source source, class T, class Plane>
inline void stash_rows(const PositionAffineArgs& k, const Ahead& ahead, const MapRows<T>& maps,
                       const PlaneTerms<Plane>& here, int64_t position, int64_t rows, int64_t c, int64_t length,
                       RowStash<Compute<T>>& stash, double* du) {
  using A = Compute<T>;
  const AffineOptions o(k);
  for (int64_t r = 0; r < rows; ++r) {
    const auto map = maps[r];
    const auto there = place<A>(k, position + r);
    A *gq = stash.gq(r) + c, *g = stash.g(r) + c, *da = stash.da(r) + c, *d = stash.d(r) + c;
    Vec<A> sum = {};
    step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
      ahead.fetch(map, i);
      const auto b = backward_at<gate, source>(o, map, here, there, i, width);
      sum += present<A>(here.gate_weight(i, width) * b.da, width);
      store(gq + i, b.g * b.q, Full{}), store(g + i, b.g, Full{});
      store(da + i, b.da, Full{}), store(d + i, b.d, Full{});
      if (map.y) store_out(map.y + i, b.g, width, map.stream);
    });
    du[r] += double(sum_lanes<A>(sum));
  }
}

// The second, of all channels: position_affine_reduce's sums.
template <class A, class Terms>
inline void reduce_stashed(const PositionAffineArgs& k, const Terms& terms, int64_t position, int64_t rows,
                           RowStash<A>& stash, const double* du, RowTotals<A, kReduceSums>& totals) {
  const AffineOptions o(k);
  PlaceTerms<Same<A>> there[kRows];
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t i = position + r;
    there[r] = place<A>(k, i);
    there[r].offset.value = splat(A(du[r]) * static_cast<const A*>(k.du_offset)[i]);
    there[r].slope.value = splat(A(du[r]) * static_cast<const A*>(k.du_slope)[i]);
  }
  const auto here = terms.at(0);
  step_through<A>(k.shape.C, [&](int64_t i, auto width) FUSEDNORM_INLINED {
    Vec<A> sums[kReduceSums] = {};
#pragma GCC unroll 1
    for (int64_t r = 0; r < rows; ++r) {
      const auto& p = there[r];
      const Vec<A> gq = load(stash.gq(r) + i, Full{}), da = load(stash.da(r) + i, Full{});
      const Vec<A> d = load(stash.d(r) + i, Full{});
      Vec<A> e = here.scale(i, width) * d + here.shift(i, width);
      if (o.with_t) e += here.outer(i, width) * p.t.value;
      const Vec<A> de = here.gain(i, width) * gq + p.offset.value + p.slope.value * e;
      sums[kDe] += de, sums[kDeD] += de * d, sums[kGeq] += gq * e, sums[kG] += load(stash.g(r) + i, Full{});
      sums[kDa] += da, sums[kDaU] += da * p.u.value;
      if (o.with_t) sums[kDeT] += de * p.t.value;
    }
    for (int j = 0; j < kReduceSums; ++j) {
      if (j == kDeT && !o.with_t) continue;
      A* to = totals.row(j) + i;
      store(to, load(to, width) + sums[j], width);
    }
  });
  totals.added(rows);
}

template <Gate gate, Source source, class T>
void spread_reduce_rows(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const Ahead ahead = ahead_of<T>(k);
  rows_over_positions<A, kReduceSums>(
      s,
      [&](int64_t n, int64_t begin, int64_t end, RowTotals<A, kReduceSums>& totals) {
        const SampleTerms<A, 0> terms(k, n);
        RowReaders<T> maps(k, n);
        RowStash<A> stash(s.C);
        double du[kRows] = {};
        row_groups(begin, end, s.C, [&](int64_t p, int64_t rows, int64_t c, int64_t length) {
          const int64_t position = n * s.positions() + p;
          stash_rows<gate, source, T>(k, ahead, maps.open(p, rows, c, length), terms.at(c), position, rows, c, length,
                                      stash, du);
          maps.close(p, rows, c, length);
          if (c + length < s.C) return;
          reduce_stashed<A>(k, terms, position, rows, stash, du, totals);
          for (int64_t r = 0; r < rows; ++r) static_cast<A*>(k.du)[position + r] = A(du[r]), du[r] = 0;
        });
      },
      [&](int64_t n, int64_t c, const double* sums) {
        for (int j = 0; j < kReduceSums; ++j) static_cast<A*>(k.sums)[(j * s.N + n) * s.C + c] = A(sums[j]);
      });
}

// Planar: what a run's second sweep takes from the first, a row each.
enum { kStashGq, kStashG, kStashDa, kStashD, kStashed };

// The first sweep, of a channel: g and the stash written, du's summands added to a row.
template <Gate gate, Source source, class T>
inline void stash_run(const PositionAffineArgs& k, const Ahead& ahead, MapReaders<T>& maps, int64_t n, int64_t c,
                      int64_t p, int64_t length, Compute<T>* stash, Compute<T>* du) {
  using A = Compute<T>;
  const auto map = maps.open(k, n, c, p, length);
  const auto here = plane_terms<A>(k, n, c);
  const auto there = places<A>(k, n * k.shape.positions() + p);
  const AffineOptions o(k);
  step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
    ahead.fetch(map, i);
    const auto b = backward_at<gate, source>(o, map, here, there, i, width);
    store(du + i, load(du + i, width) + here.gate_weight(i, width) * b.da, width);
    store(stash + kStashGq * length + i, b.g * b.q, width), store(stash + kStashG * length + i, b.g, width);
    store(stash + kStashDa * length + i, b.da, width), store(stash + kStashD * length + i, b.d, width);
    if (map.y) store_out(map.y + i, b.g, width, map.stream);
  });
  maps.close(k, n, c, p, length);
}

// The second: position_affine_reduce's sums.
template <class A>
inline void reduce_run_stashed(const PositionAffineArgs& k, const PlaceTerms<Each<A>>& there, int64_t n, int64_t c,
                               int64_t length, const A* stash, double* totals) {
  const auto here = plane_terms<A>(k, n, c);
  const bool with_t = k.e.t;
  sum_run<A, kReduceSums>(length, totals, [&](int64_t i, auto width, Vec<A>* sums) FUSEDNORM_INLINED {
    const auto stashed = [&](int row) { return load(stash + row * length + i, width); };
    const Vec<A> gq = stashed(kStashGq), da = stashed(kStashDa), d = stashed(kStashD);
    Vec<A> e = here.scale.value * d + here.shift.value;
    if (with_t) e += here.outer.value * there.t(i, width);
    const Vec<A> de = present<A>(here.gain.value * gq + there.offset(i, width) + there.slope(i, width) * e, width);
    sums[kDe] += de, sums[kDeD] += de * d, sums[kGeq] += gq * e, sums[kG] += stashed(kStashG);
    sums[kDa] += da, sums[kDaU] += da * there.u(i, width);
    if (with_t) sums[kDeT] += de * there.t(i, width);
  });
}

template <Gate gate, Source source, class T>
void spread_reduce_tiles(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  // Of 512 KiB of each map: its stash lies beyond L2 at times, but shorter runs cost more.
  const Tiles tiles = tiles_over_channels(s, 524288 / int64_t(sizeof(A)) / s.C);
  const Ahead ahead = ahead_of<T>(k);
  const auto store_sums = [&](int64_t n, int64_t c, const double* sums) {
    for (int j = 0; j < kReduceSums; ++j) static_cast<A*>(k.sums)[(j * s.N + n) * s.C + c] = A(sums[j]);
  };
  TileSums<kReduceSums, decltype(store_sums)> all(s, tiles, store_sums);
  parallel_items_backwards(s.N * tiles.count, tiles.length * s.C, [&](int64_t item) {
    const int64_t n = item / tiles.count, tile = item % tiles.count, p = tile * tiles.length, first = n * S + p;
    const int64_t length = min64(tiles.length, S - p);
    Scratch<double> memory(length, true);
    RowTotals<A, 1> totals(length, memory.data);
    Scratch<A> stash(kStashed * length * s.C);
    MapReaders<T> maps;
    for (int64_t c = 0; c < s.C; ++c) {
      stash_run<gate, source>(k, ahead, maps, n, c, p, length, stash.data + c * kStashed * length, totals.row(0));
      totals.added(1);
    }
    totals.flush();
    Scratch<A> rows(2 * length);
    A *du = static_cast<A*>(k.du) + first, *offset = rows.data, *slope = offset + length;
    for (int64_t i = 0; i < length; ++i) {
      du[i] = A(memory.data[i]);
      offset[i] = du[i] * static_cast<const A*>(k.du_offset)[first + i];
      slope[i] = du[i] * static_cast<const A*>(k.du_slope)[first + i];
    }
    PlaceTerms<Each<A>> there = places<A>(k, first);
    there.offset = {offset}, there.slope = {slope};
    for (int64_t c = 0; c < s.C; ++c) {
      double sums[kReduceSums] = {};
      reduce_run_stashed<A>(k, there, n, c, length, stash.data + c * kStashed * length, sums);
      all.add(n, c, tile, sums);
    }
    if (s.stream) stream_fence();
  });
  all.finish();
}

template <class T>
void position_affine_spread_reduce(const PositionAffineArgs& k) {
  with_gate_and_source(k, [&](auto gate, auto source) {
    if constexpr (gate.value == Gate::none)
      return;
    else if (k.shape.channels_last)
      spread_reduce_rows<gate.value, source.value, T>(k);
    else
      spread_reduce_tiles<gate.value, source.value, T>(k);
  });
}
