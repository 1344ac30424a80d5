// position_moments_pool: position_moments of x itself, then plane_pool by the statistic t of them that is asked for:
//   cov[n,c] = mean_s d t',  d = x - center,  t' = t less its mean over positions; docs/positions.md
// Positions go in blocks whose channels the second sweep finds in L1 or L2. A block takes t around its own mean r, and
//   sum_s d t' = sum over blocks of (sum d (t - r) + (r - mean t) sum d)
// Traffic: reads x once (1 unit), writes 2/C + 1/S; the two kernels read 2.
// Included once per instruction set, inside that set's namespace.

// What is summed of every plane.
enum { kPoolT, kPoolD, kPoolRd, kPoolSums };

// A block's t in a row, less its mean, which is returned.
template <class A>
inline double block_statistic(const PositionMomentsPoolArgs& k, int64_t first, int64_t length, A* t) {
  position_statistic(k.statistic, static_cast<const A*>(k.mean) + first, static_cast<const A*>(k.var) + first, length,
                     t);
  const double r = long_sum<A>(t, nullptr, length) / double(length);
  for (int64_t i = 0; i < length; ++i) t[i] = A(double(t[i]) - r);
  return r;
}

template <class T, class Store>
void moments_pool_planar(const PositionMomentsPoolArgs& k, const PositionMomentsArgs& moments, const Store& keep) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const Tiles tiles = tiles_over_channels(s, max64(128, 131072 / int64_t(sizeof(A)) / s.C));
  TileSums<kPoolSums, Store> all(s, tiles, keep);
  parallel_items(s.N * tiles.count, tiles.length * s.C, [&](int64_t item) {
    const int64_t n = item / tiles.count, tile = item % tiles.count, p = tile * tiles.length;
    const int64_t length = min64(tiles.length, S - p);
    Scratch<double> memory(2 * length);
    moments_of_tile<T, true>(moments, n, p, {memory.data, memory.data + length, length});
    Scratch<A> row(length);
    const A* t = row.data;
    const double r = block_statistic<A>(k, n * S + p, length, row.data);
    Reader<T> reader;
    for (int64_t c = 0; c < s.C; ++c) {
      const T* x = reader(Run<T>{k.x, s, n, c, p, length});
      const Vec<A> center = splat(at<A>(k.center, n, c));
      double sums[kPoolSums] = {};
      sum_run<A, 2>(length, sums, [&](int64_t i, auto width, Vec<A>* of) FUSEDNORM_INLINED {
        const Vec<A> d = present<A>(load(x + i, width) - center, width);
        of[kPoolT] += d * load(t + i, width);
        of[kPoolD] += d;
      });
      sums[kPoolRd] = r * sums[kPoolD];
      all.add(n, c, tile, sums);
    }
  });
  all.finish();
}

template <class T, class Store>
void moments_pool_rows(const PositionMomentsPoolArgs& k, const PositionMomentsArgs& moments, const Store& keep) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  rows_over_positions<A, kPoolSums>(
      s,
      [&](int64_t n, int64_t first, int64_t last, RowTotals<A, kPoolSums>& totals) {
        SampleValues<A, 1> values(s, n);
        const A* center = values(k.center);
        RowMoments<T, true> of(moments, n);
        A t[kChain];
        A *along = totals.row(kPoolT), *plain = totals.row(kPoolD);
        Reader<T> readers[4];
        for (int64_t begin = first; begin < last; begin += kChain) {
          const int64_t length = min64(kChain, last - begin);
          of(begin, length);
          const double r = block_statistic<A>(k, n * S + begin, length, t);
          by_four(0, length, [&](int64_t i, auto rows) {
            constexpr int R = rows.value;
            for (int64_t c = 0; c < s.C; c += kRun) {
              const int64_t channels = min64(kRun, s.C - c);
              const T* x[R];
              for (int j = 0; j < R; ++j) x[j] = readers[j](Run<T>{k.x, s, n, c, begin + i + j, channels});
              step_through<A>(channels, [&](int64_t at, auto width) FUSEDNORM_INLINED {
                const Vec<A> m = load(center + c + at, width);
                Vec<A> sum = load(along + c + at, width), sum_d = load(plain + c + at, width);
                for (int j = 0; j < R; ++j) {
                  const Vec<A> d = load(x[j] + at, width) - m;
                  sum += d * splat(t[i + j]);
                  sum_d += d;
                }
                store(along + c + at, sum, width);
                store(plain + c + at, sum_d, width);
              });
            }
          });
          for (int64_t c = 0; c < s.C; ++c) totals.totals[kPoolRd * s.C + c] += r * double(plain[c]);
          totals.flush();
        }
      },
      keep);
}

template <class T>
void position_moments_pool(const PositionMomentsPoolArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  const PositionMomentsArgs moments{s, k.x, {}, k.mean, k.var};
  Scratch<double> sums(s.N * s.C * kPoolSums);
  const auto keep = [&](int64_t n, int64_t c, const double* of) {
    memcpy(sums.data + (n * s.C + c) * kPoolSums, of, kPoolSums * sizeof(double));
  };
  if (s.channels_last)
    moments_pool_rows<T>(k, moments, keep);
  else
    moments_pool_planar<T>(k, moments, keep);
  parallel_items(s.N, S, [&](int64_t n) {
    Scratch<A> t(S);
    position_statistic(k.statistic, static_cast<const A*>(k.mean) + n * S, static_cast<const A*>(k.var) + n * S, S,
                       t.data);
    const double level = long_sum<A>(t.data, nullptr, S) / double(S);
    for (int64_t c = 0; c < s.C; ++c) {
      const double* of = sums.data + (n * s.C + c) * kPoolSums;
      at<A>(k.cov, n, c) = A((of[kPoolT] + of[kPoolRd] - level * of[kPoolD]) / double(S));
    }
  });
}
