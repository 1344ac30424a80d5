// How the kernels of docs/positions.md walk a map, and their long sums: chains of kChain additions in the compute type,
// chains in double, in an order that the shape alone decides.
//   over channels,  planar         a tile of positions, whose sums stay in L1 while the channels go by
//                   channels_last  sums of lanes
//   over positions, planar         a plane, or a tile of a large one, whose partial sums are merged
//                   channels_last  sums in L1 while positions go by, four at a time
// Included once per instruction set, inside that set's namespace.

constexpr int64_t kChain = 32;

// f(first, Rows<4 or 1>) over [begin, end) by fours, then by ones.
template <int count>
struct Rows {
  static constexpr int value = count;
};
template <class F>
inline void by_four(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + 4 <= end; i += 4) f(i, Rows<4>{});
  for (; i < end; ++i) f(i, Rows<1>{});
}

// Elements from what is worked on to what to fetch meanwhile: in the next channel, or some rows further on.
constexpr int64_t kAhead = 8192;  // bytes, at least
template <class T>
inline int64_t ahead_of(const Operand& t, const Shape& s) {
  if (!s.channels_last) return t.c * max64(1, kAhead / (s.positions() * int64_t(sizeof(T))));
  return t.p0 * max64(4, kAhead / (s.C * int64_t(sizeof(T))));
}

// Planar: positions in tiles of equal length, whole vectors of every type.
struct Tiles {
  int64_t length, count;

  Tiles(const Shape& s, int64_t largest) {
    const int64_t S = s.positions();
    length = ceil_div(ceil_div(S, ceil_div(S, largest)), 16) * 16;
    count = ceil_div(S, length);
  }
};

// Tiles for sums over channels: all channels are one item's, so small maps get short tiles. At most a run, which is what
// is gathered at a time.
inline Tiles tiles_over_channels(const Shape& s, int64_t largest) {
  return Tiles(s, max64(128, min64(min64(largest, kRun), s.N * s.positions() / 64)));
}

// Planar, for what is independent by channel: f(n, first channel, last, tile, first position, length), last to first.
template <class F>
inline void planar_tiles(const Shape& s, const Tiles& tiles, F&& f) {
  const int64_t S = s.positions(), chunk = min64(s.C, max64(1, 65536 / tiles.length)), chunks = ceil_div(s.C, chunk);
  parallel_items_backwards(s.N * chunks * tiles.count, chunk * tiles.length, [&](int64_t item) {
    const int64_t tile = item % tiles.count, rest = item / tiles.count, n = rest / chunks, c = rest % chunks * chunk;
    const int64_t p = tile * tiles.length;
    f(n, c, min64(c + chunk, s.C), tile, p, min64(tiles.length, S - p));
  });
}

// Sums of planes by tile: store(n, c, sums) gets those of a plane.
template <int count, class Store>
class TileSums {
 public:
  TileSums(const Shape& s, const Tiles& tiles, Store store)
      : s_(s), tiles_(tiles.count), store_(store), partial_(tiles_ > 1 ? s.N * s.C * tiles_ * count : 0) {}
  void add(int64_t n, int64_t c, int64_t tile, const double* sums) {
    if (tiles_ == 1)
      store_(n, c, sums);
    else
      memcpy(partial_.data + ((n * s_.C + c) * tiles_ + tile) * count, sums, count * sizeof(double));
  }
  void finish() {
    if (tiles_ == 1) return;
    parallel_items(s_.N * s_.C, tiles_ * count, [&](int64_t plane) {
      double sums[count] = {};
      for (int64_t i = 0; i < tiles_; ++i)
        for (int j = 0; j < count; ++j) sums[j] += partial_.data[(plane * tiles_ + i) * count + j];
      store_(plane / s_.C, plane % s_.C, sums);
    });
  }

 private:
  const Shape& s_;
  const int64_t tiles_;
  const Store store_;
  Scratch<double> partial_;
};

// Planar sums over positions: body(state, n, c, p, length, sums) adds a run's to `count` doubles, store(n, c, sums) gets
// a plane's.
template <class State, int count, class Body, class Store>
inline void planar_over_positions(const Shape& s, Body body, Store store) {
  const Tiles tiles(s, kRun);
  TileSums<count, Store> all(s, tiles, store);
  planar_tiles(s, tiles, [&](int64_t n, int64_t begin, int64_t end, int64_t tile, int64_t p, int64_t length) {
    State state;
    for (int64_t c = begin; c < end; ++c) {
      double sums[count] = {};
      body(state, n, c, p, length, sums);
      all.add(n, c, tile, sums);
    }
    if (s.stream) stream_fence();
  });
  all.finish();
}

// sweep for long bodies: not unrolled, they fill the processor as they are.
template <class A, class F>
FUSEDNORM_INLINED inline void step_through(int64_t n, F&& f) {
  int64_t i = 0;
#pragma GCC unroll 1
  for (; i + lanes<A> <= n; i += lanes<A>) f(i, Full{});
  if (i < n) f(i, Part{int(n - i)});
}

// add(i, width, sums) over [0, n), with `count` sums in vectors, whose lanes' sums are added to `totals`.
template <class A, int count, class F>
FUSEDNORM_INLINED inline void sum_run(int64_t n, double* totals, F&& add) {
  Vec<A> all[count] = {};
  for (int64_t begin = 0; begin < n; begin += kChain * lanes<A>) {
    Vec<A> sums[count] = {};
    step_through<A>(min64(kChain * lanes<A>, n - begin),
                    [&](int64_t i, auto width) FUSEDNORM_INLINED { add(begin + i, width, sums); });
    for (int j = 0; j < count; ++j) all[j] += sums[j];
  }
  for (int j = 0; j < count; ++j) totals[j] += double(sum_lanes<A>(all[j]));
}

// A summand with what is not there made 0.
template <class A>
inline Vec<A> present(Vec<A> v, Full) {
  return v;
}
template <class A>
inline Vec<A> present(Vec<A> v, Part part) {
  return first_lanes<A>(part.count, v);
}

// channels_last: f(n, first position, last, item), last to first.
template <class F>
inline void position_blocks(const Shape& s, F&& f) {
  const int64_t S = s.positions(), step = positions_per_item(s), blocks = ceil_div(S, step);
  parallel_items_backwards(s.N * blocks, step * s.C, [&](int64_t item) {
    const int64_t begin = item % blocks * step;
    f(item / blocks, begin, min64(begin + step, S), item);
    if (s.stream) stream_fence();
  });
}

// Sums of rows, kept in the compute type for kChain rows, then added to `count` rows of doubles.
template <class A, int count>
struct RowTotals {
  int64_t C, pending = 0;
  Scratch<A> memory;
  double* totals;

  RowTotals(int64_t channels, double* to) : C(channels), memory(count * channels, true), totals(to) {}
  A* row(int j) { return memory.data + j * C; }
  void added(int64_t rows) {
    pending += rows;
    if (pending >= kChain) flush();
  }
  void flush() {
    for (int64_t i = 0; i < count * C; ++i) totals[i] += double(memory.data[i]);
    memset(memory.data, 0, size_t(count * C) * sizeof(A));
    pending = 0;
  }
};

// channels_last sums over positions: body(n, first, last, totals) adds a block's rows, store as above.
template <class A, int count, class Body, class Store>
inline void rows_over_positions(const Shape& s, Body body, Store store) {
  const int64_t C = s.C, blocks = ceil_div(s.positions(), positions_per_item(s));
  Scratch<double> partial(s.N * blocks * count * C, true);
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t item) {
    RowTotals<A, count> totals(C, partial.data + item * count * C);
    body(n, begin, end, totals);
    totals.flush();
  });
  parallel_items(s.N, blocks * count * C, [&](int64_t n) {
    double* all = partial.data + n * blocks * count * C;
    for (int64_t i = 1; i < blocks; ++i)
      for (int64_t j = 0; j < count * C; ++j) all[j] += all[i * count * C + j];
    for (int64_t c = 0; c < C; ++c) {
      double sums[count];
      for (int j = 0; j < count; ++j) sums[j] = all[j * C + c];
      store(n, c, sums);
    }
  });
}

// Planar sums over channels: body(state, n, c, p, length, sums) adds a channel's to `count` rows of the tile,
// store(n, p, length, totals) gets the tile's, rows of tiles.length.
template <class A, class State, int count, class Body, class Store>
inline void planar_over_channels(const Shape& s, Body body, Store store) {
  const Tiles tiles = tiles_over_channels(s, 2048);
  const int64_t S = s.positions();
  parallel_items_backwards(s.N * tiles.count, tiles.length * s.C, [&](int64_t item) {
    const int64_t n = item / tiles.count, p = item % tiles.count * tiles.length;
    const int64_t length = min64(tiles.length, S - p);
    Scratch<double> totals_memory(count * length, true);
    RowTotals<A, count> totals(length, totals_memory.data);
    State state;
    for (int64_t c = 0; c < s.C; ++c) {
      body(state, n, c, p, length, totals);
      totals.added(1);
    }
    totals.flush();
    store(n, p, length, totals.totals);
    if (s.stream) stream_fence();
  });
}
