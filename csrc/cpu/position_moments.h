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
    double *mean = moments.data, *m2 = mean + length;
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
      const double n_new = double(channels), before = double(begin), total = before + n_new;
      const double each_of = 1 / n_new, share = n_new / total, cross = before * n_new / total;
      for (int64_t i = 0; i < length; ++i) {
        const double rest = double(drift[i]), delta = double(middle[i]) + rest * each_of - mean[i];
        mean[i] += delta * share;
        m2[i] += non_negative(double(square[i]) - rest * rest * each_of) + delta * delta * cross;
      }
    }
    A *to_mean = static_cast<A*>(k.mean) + n * S + p, *to_var = static_cast<A*>(k.var) + n * S + p;
    for (int64_t i = 0; i < length; ++i) {
      to_mean[i] = A(mean[i]);
      to_var[i] = A(m2[i] / double(s.C));
    }
  });
}

template <class T>
void position_moments_channels_last(const PositionMomentsArgs& k) {
  using A = Compute<T>;
  constexpr int64_t step = kChain * lanes<A>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const bool with_t = k.e.t != nullptr;
  const int64_t ahead = ahead_of<T>(k.x, s);
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t) {
    SampleValues<A, 4> values(s, n);
    const A *centers = values(k.e.center), *scales = values(k.e.scale), *shifts = values(k.e.shift);
    const A* outers = values(k.e.outer);
    A *to_mean = static_cast<A*>(k.mean) + n * S, *to_var = static_cast<A*>(k.var) + n * S;
    Reader<T, step> readers[4];
    by_four(begin, end, [&](int64_t p, auto rows) {
      constexpr int R = rows.value;
      Moments moments[R];
      for (int64_t c = 0; c < s.C; c += step) {
        const int64_t length = min64(step, s.C - c);
        const Each<A> center{centers + c}, scale{scales + c}, shift{shifts + c}, outer{outers ? outers + c : nullptr};
        const T* x[R];
        Same<A> t[R];
        for (int r = 0; r < R; ++r) {
          x[r] = readers[r](Run<T>{k.x, s, n, c, p + r, length});
          t[r] = position_value<A>(k.e.t, n * S + p + r);
        }
        auto e_at = [&](int r, int64_t i, auto width) {
          return standardized_at(x[r], center, scale, shift, outer, t[r], with_t, i, width);
        };
        Vec<A> sums[R] = {}, squares[R] = {}, drifts[R] = {};
        A middle[R];
        step_through<A>(length,
                        [&](int64_t i, auto width) FUSEDNORM_INLINED {  // what is not there has shift and outer 0
                          for (int r = 0; r < R; ++r) prefetch(x[r] + i + ahead);
                          for (int r = 0; r < R; ++r) sums[r] += e_at(r, i, width);
                        });
        for (int r = 0; r < R; ++r) middle[r] = sum_lanes<A>(sums[r]) / A(length);
        step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
          for (int r = 0; r < R; ++r) {
            const Vec<A> d = present<A>(e_at(r, i, width) - middle[r], width);
            drifts[r] += d;
            squares[r] += d * d;
          }
        });
        for (int r = 0; r < R; ++r) {
          const double rest = sum_lanes<A>(drifts[r]), m2 = sum_lanes<A>(squares[r]), count = double(length);
          moments[r].merge(count, double(middle[r]) + rest / count, non_negative(m2 - rest * rest / count));
        }
      }
      for (int r = 0; r < R; ++r) {
        to_mean[p + r] = A(moments[r].mean);
        to_var[p + r] = A(moments[r].m2 / moments[r].count);
      }
    });
  });
}

template <class T>
void position_moments(const PositionMomentsArgs& k) {
  if (k.shape.channels_last)
    position_moments_channels_last<T>(k);
  else
    position_moments_planar<T>(k);
}
