// position_moments: mean and biased variance over channels of e = scale*(x - center) + shift + outer*t;
// docs/positions.md
// Traffic: reads x once (1 unit), writes 2/C. Blocks of channels are swept twice, the second time from L1 or L2: first
// their mean, then the squares around it; blocks are merged as (count, mean, M2) in double, as in plane_moments.h.
// Included once per instruction set, inside that set's namespace.

// bare: e = x
template <bool bare, class T, class PerChannel, class PerPosition, class Width>
inline Vec<Compute<T>> standardized_at(const T* x, const PerChannel& center, const PerChannel& scale,
                                       const PerChannel& shift, const PerChannel& outer, const PerPosition& t,
                                       bool with_t, int64_t i, Width width) {
  if constexpr (bare) return load(x + i, width);
  auto e = scale(i, width) * (load(x + i, width) - center(i, width)) + shift(i, width);
  if (with_t) e += outer(i, width) * t(i, width);
  return e;
}

// A run of positions with the moments of the channels seen so far.
struct PositionRun {
  double *mean, *m2;
  int64_t length;

  // Of `added` more channels, after `before`: a value near their mean, and sums of differences from it and of squares.
  // Where channels are alike, products and differences are exact, and m2 is 0: so square*count - rest*rest, not
  // square - rest*rest/count.
  template <class A>
  void merge(int64_t before, int64_t added, const A* middle, const A* drift, const A* square) const {
    const double count = double(added), each = 1 / count, share = count / double(before + added);
    const double cross = double(before) * share;
    for (int64_t i = 0; i < length; ++i) {
      const double rest = double(drift[i]), delta = double(middle[i]) + rest * each - mean[i];
      mean[i] += delta * share;
      m2[i] += non_negative(double(square[i]) * count - rest * rest) * each + delta * delta * cross;
    }
  }
  template <class A>
  void store(int64_t channels, void* to_mean, void* to_var, int64_t at) const {
    const double each = 1 / double(channels);
    for (int64_t i = 0; i < length; ++i) {
      static_cast<A*>(to_mean)[at + i] = A(mean[i]);
      static_cast<A*>(to_var)[at + i] = A(m2[i] * each);
    }
  }
};

// Planar: of positions [p, p + length) of a sample.
template <class T, bool bare = false>
inline void moments_of_tile(const PositionMomentsArgs& k, int64_t n, int64_t p, const PositionRun& run) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions(), length = run.length;
  const bool with_t = k.e.t != nullptr;
  for (int64_t i = 0; i < length; ++i) run.mean[i] = run.m2[i] = 0;
  Scratch<A> memory(3 * length);
  A *middle = memory.data, *drift = middle + length, *square = drift + length;
  Reader<T> reader;
  const Each<A> t = position_values<A>(k.e.t, n * S + p);
  const int64_t ahead = kChain * k.x.c;
  for (int64_t begin = 0; begin < s.C; begin += kChain) {
    const int64_t channels = min64(kChain, s.C - begin);
    auto each = [&](auto body, bool fetch) {  // body(i, width, e); fetch: the next block
      for (int64_t c = begin; c < begin + channels; ++c) {
        const T* x = reader(Run<T>{k.x, s, n, c, p, length});
        const Same<A> center = plane_value<A>(k.e.center, n, c), scale = plane_value<A>(k.e.scale, n, c);
        const Same<A> shift = plane_value<A>(k.e.shift, n, c), outer = plane_value<A>(k.e.outer, n, c);
        sweep<A>(length, [&](int64_t i, auto width) {
          if (fetch) prefetch(x + i + ahead);
          body(i, width, standardized_at<bare>(x, center, scale, shift, outer, t, with_t, i, width));
        });
      }
    };
    memset(memory.data, 0, size_t(3 * length) * sizeof(A));
    each([&](int64_t i, auto width, Vec<A> e) { store(middle + i, load(middle + i, width) + e, width); }, false);
    const A inverse = A(1) / A(channels);
    for (int64_t i = 0; i < length; ++i) middle[i] *= inverse;
    each(
        [&](int64_t i, auto width, Vec<A> e) {
          const Vec<A> d = e - load(middle + i, width);
          store(drift + i, load(drift + i, width) + d, width);
          store(square + i, load(square + i, width) + d * d, width);
        },
        true);
    run.merge(begin, channels, middle, drift, square);
  }
  run.store<A>(s.C, k.mean, k.var, n * S + p);
}

template <class T>
void position_moments_planar(const PositionMomentsArgs& k) {
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const Tiles tiles = tiles_over_channels(s, 512);  // a block: 64 KiB of float32
  parallel_items(s.N * tiles.count, tiles.length * s.C, [&](int64_t item) {
    const int64_t n = item / tiles.count, p = item % tiles.count * tiles.length;
    const int64_t length = min64(tiles.length, S - p);
    Scratch<double> moments(2 * length);
    moments_of_tile<T>(k, n, p, {moments.data, moments.data + length, length});
  });
}

// A block of channels of a position is four vectors: they stay in registers from the mean to the squares around it.
// `most` positions at a time, whose moments stay in L1.
template <class T, bool bare = false>
class RowMoments {
  using A = Compute<T>;
  static constexpr int V = 4;
  static constexpr int64_t step = V * lanes<A>;

 public:
  static constexpr int64_t most = 64;

  RowMoments(const PositionMomentsArgs& k, int64_t n)
      : k_(k),
        s_(k.shape),
        n_(n),
        S_(s_.positions()),
        blocks_(ceil_div(s_.C, step)),
        ahead_(ahead_of<T>(k.x, s_)),
        with_t_(k.e.t),
        values_(s_, n),
        centers_(values_(k.e.center)),
        scales_(values_(k.e.scale)),
        shifts_(values_(k.e.shift)),
        outers_(values_(k.e.outer)),
        memory_(3 * blocks_ * most) {}

  // Of positions [begin, begin + length).
  void operator()(int64_t begin, int64_t length) {
    by_four(0, length, [&](int64_t i, auto rows) {
      constexpr int R = rows.value;
      Same<A> t[R];
      for (int r = 0; r < R; ++r) t[r] = position_value<A>(k_.e.t, n_ * S_ + begin + i + r);
      for (int64_t block = 0; block < blocks_; ++block) {
        const int64_t c = block * step, channels = min64(step, s_.C - c);
        const auto from = [c](const A* values) { return Each<A>{values ? values + c : nullptr}; };
        const Each<A> center = from(centers_), scale = from(scales_), shift = from(shifts_), outer = from(outers_);
        const T* x[R];
        for (int r = 0; r < R; ++r) x[r] = readers_[r](Run<T>{k_.x, s_, n_, c, begin + i + r, channels});
        Vec<A> e[R][V], sums[R] = {}, squares[R] = {}, drifts[R] = {};
        auto each_vector = [&](auto&& f) FUSEDNORM_INLINED {
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            const int64_t rest = channels - v * lanes<A>;
            if (rest >= lanes<A>)
              f(v, Full{});
            else if (rest > 0)
              f(v, Part{int(rest)});
          }
        };
        each_vector([&](int v, auto width) FUSEDNORM_INLINED {  // what is not there has shift and outer 0
          const int64_t at = v * lanes<A>;
          for (int r = 0; r < R; ++r) {
            prefetch(x[r] + at + ahead_);
            e[r][v] = standardized_at<bare>(x[r], center, scale, shift, outer, t[r], with_t_, at, width);
            sums[r] += e[r][v];
          }
        });
        A* found = memory_.data + 3 * block * most + i;
        A middle[R], drift[R], square[R];
        sum_lanes_of<A, R>(sums, middle);
        const A inverse = A(1) / A(channels);
        for (int r = 0; r < R; ++r) middle[r] *= inverse;
        each_vector([&](int v, auto width) FUSEDNORM_INLINED {
          for (int r = 0; r < R; ++r) {
            const Vec<A> d = present<A>(e[r][v] - middle[r], width);
            drifts[r] += d;
            squares[r] += d * d;
          }
        });
        sum_lanes_of<A, R>(drifts, drift);
        sum_lanes_of<A, R>(squares, square);
        for (int r = 0; r < R; ++r) found[r] = middle[r], found[most + r] = drift[r], found[2 * most + r] = square[r];
      }
    });
    PositionRun run{means_, m2s_, length};
    for (int64_t i = 0; i < length; ++i) means_[i] = m2s_[i] = 0;
    for (int64_t block = 0; block < blocks_; ++block) {
      const A* found = memory_.data + 3 * block * most;
      run.merge(block * step, min64(step, s_.C - block * step), found, found + most, found + 2 * most);
    }
    run.store<A>(s_.C, k_.mean, k_.var, n_ * S_ + begin);
  }

 private:
  const PositionMomentsArgs& k_;
  const Shape& s_;
  const int64_t n_, S_, blocks_, ahead_;
  const bool with_t_;
  SampleValues<A, 4> values_;
  const A *centers_, *scales_, *shifts_, *outers_;
  Scratch<A> memory_;
  double means_[most], m2s_[most];
  Reader<T, step> readers_[4];
};

template <class T>
void position_moments_channels_last(const PositionMomentsArgs& k) {
  position_blocks(k.shape, [&](int64_t n, int64_t first, int64_t last, int64_t) {
    RowMoments<T> moments(k, n);
    for (int64_t begin = first; begin < last; begin += moments.most) moments(begin, min64(moments.most, last - begin));
  });
}

template <class T>
void position_moments(const PositionMomentsArgs& k) {
  if (k.shape.channels_last)
    position_moments_channels_last<T>(k);
  else
    position_moments_planar<T>(k);
}
