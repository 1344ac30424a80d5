// position_moments: mean and biased variance over channels of e = scale*(x - center) + shift + outer*t;
// docs/positions.md
// Traffic: reads x once (1 unit), writes 2/C. Blocks of channels are swept twice, the second time from L1 or L2: first
// their mean, then the squares around it; blocks are merged as (count, mean, M2) in double, as in plane_moments.h.
// Included once per instruction set, inside that set's namespace.

template <class T, class PerChannel, class PerPosition, class Width>
inline Vec<Compute<T>> standardized_at(const T* x, const PerChannel& center, const PerChannel& scale,
                                       const PerChannel& shift, const PerChannel& outer, const PerPosition& t,
                                       bool with_t, int64_t i, Width width) {
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
  void merge(int64_t before, int64_t added, const A* middle, const A* drift, const A* square) {
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

template <class T>
void position_moments_planar(const PositionMomentsArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const bool with_t = k.e.t != nullptr;
  const Tiles tiles = tiles_over_channels(s, 512);  // a block: 64 KiB of float32
  parallel_items(s.N * tiles.count, tiles.length * s.C, [&](int64_t item) {
    const int64_t n = item / tiles.count, p = item % tiles.count * tiles.length;
    const int64_t length = min64(tiles.length, S - p);
    Scratch<double> moments(2 * length, true);
    PositionRun run{moments.data, moments.data + length, length};
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
            body(i, width, standardized_at(x, center, scale, shift, outer, t, with_t, i, width));
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
  });
}

// A block of channels of a position is four vectors: they stay in registers from the mean to the squares around it.
template <class T>
void position_moments_channels_last(const PositionMomentsArgs& k) {
  using A = Compute<T>;
  constexpr int V = 4;
  constexpr int64_t step = V * lanes<A>, most = 64;  // positions whose moments stay in L1
  const Shape& s = k.shape;
  const int64_t S = s.positions(), blocks = ceil_div(s.C, step), ahead = ahead_of<T>(k.x, s);
  const bool with_t = k.e.t != nullptr;
  position_blocks(s, [&](int64_t n, int64_t first, int64_t last, int64_t) {
    SampleValues<A, 4> values(s, n);
    const A *centers = values(k.e.center), *scales = values(k.e.scale), *shifts = values(k.e.shift);
    const A* outers = values(k.e.outer);
    Scratch<A> memory(3 * blocks * most);
    double means[most], m2s[most];
    Reader<T, step> readers[4];
    for (int64_t begin = first; begin < last; begin += most) {
      const int64_t length = min64(most, last - begin);
      by_four(0, length, [&](int64_t i, auto rows) {
        constexpr int R = rows.value;
        Same<A> t[R];
        for (int r = 0; r < R; ++r) t[r] = position_value<A>(k.e.t, n * S + begin + i + r);
        for (int64_t block = 0; block < blocks; ++block) {
          const int64_t c = block * step, channels = min64(step, s.C - c);
          const Each<A> center{centers + c}, scale{scales + c}, shift{shifts + c}, outer{outers ? outers + c : nullptr};
          const T* x[R];
          for (int r = 0; r < R; ++r) x[r] = readers[r](Run<T>{k.x, s, n, c, begin + i + r, channels});
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
              prefetch(x[r] + at + ahead);
              e[r][v] = standardized_at(x[r], center, scale, shift, outer, t[r], with_t, at, width);
              sums[r] += e[r][v];
            }
          });
          A* found = memory.data + 3 * block * most + i;
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
      PositionRun run{means, m2s, length};
      for (int64_t i = 0; i < length; ++i) means[i] = m2s[i] = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        const A* found = memory.data + 3 * block * most;
        run.merge(block * step, min64(step, s.C - block * step), found, found + most, found + 2 * most);
      }
      run.store<A>(s.C, k.mean, k.var, n * S + begin);
    }
  });
}

template <class T>
void position_moments(const PositionMomentsArgs& k) {
  if (k.shape.channels_last)
    position_moments_channels_last<T>(k);
  else
    position_moments_planar<T>(k);
}
