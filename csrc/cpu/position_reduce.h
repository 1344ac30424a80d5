// position_reduce: t[n,s] = sum_c weight f(x - center)
// plane_pool: pooled[n,c] = sum_s q f(x - center), slope[n,c] the same with f'; docs/positions.md
// Traffic: reads x: 1 unit, and what they return, 1/C or 1/S of one.
// Included once per instruction set, inside that set's namespace.

template <class T>
void position_reduce_planar(const PositionReduceArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const Kind kind = k.kind;
  const int64_t ahead = ahead_of<T>(k.x, s);
  planar_over_channels<A, Reader<T>, 1>(
      s,
      [&](Reader<T>& reader, int64_t n, int64_t c, int64_t p, int64_t length, RowTotals<A, 1>& totals) {
        const T* x = reader(Run<T>{k.x, s, n, c, p, length});
        const Vec<A> center = splat(at<A>(k.center, n, c)), weight = splat(at<A>(k.weight, n, c));
        A* sums = totals.row(0);
        sweep<A>(length, [&](int64_t i, auto width) {
          prefetch(x + i + ahead);
          store(sums + i, load(sums + i, width) + weight * kind_value<A>(kind, load(x + i, width) - center), width);
        });
      },
      [&](int64_t n, int64_t p, int64_t length, const double* totals) {
        A* t = static_cast<A*>(k.t) + n * s.positions() + p;
        for (int64_t i = 0; i < length; ++i) t[i] = A(totals[i]);
      });
}

template <class T>
void position_reduce_channels_last(const PositionReduceArgs& k) {
  using A = Compute<T>;
  constexpr int64_t step = kChain * lanes<A>;
  const Shape& s = k.shape;
  const Kind kind = k.kind;
  const int64_t ahead = ahead_of<T>(k.x, s);
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t) {
    SampleValues<A, 2> values(s, n);
    const A *center = values(k.center), *weight = values(k.weight);
    A* t = static_cast<A*>(k.t) + n * s.positions();
    Reader<T, step> readers[4];
    by_four(begin, end, [&](int64_t p, auto rows) {
      constexpr int R = rows.value;
      double totals[R] = {};
      for (int64_t c = 0; c < s.C; c += step) {
        const int64_t length = min64(step, s.C - c);
        const T* x[R];
        for (int r = 0; r < R; ++r) x[r] = readers[r](Run<T>{k.x, s, n, c, p + r, length});
        Vec<A> sums[R] = {};
        step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
          const Vec<A> m = load(center + c + i, width), w = load(weight + c + i, width);
          for (int r = 0; r < R; ++r) prefetch(x[r] + i + ahead);
          for (int r = 0; r < R; ++r) sums[r] += w * kind_value<A>(kind, load(x[r] + i, width) - m);
        });
        A row[R];
        sum_lanes_of<A, R>(sums, row);
        for (int r = 0; r < R; ++r) totals[r] += double(row[r]);
      }
      for (int r = 0; r < R; ++r) t[p + r] = A(totals[r]);
    });
  });
}

template <class T>
void position_reduce(const PositionReduceArgs& k) {
  if (k.shape.channels_last)
    position_reduce_channels_last<T>(k);
  else
    position_reduce_planar<T>(k);
}

template <class T>
void plane_pool(const PlanePoolArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const Kind kind = k.kind;
  const int64_t S = s.positions(), ahead = ahead_of<T>(k.x, s);
  const A* weights = static_cast<const A*>(k.q);
  auto store_sums = [&](int64_t n, int64_t c, const double* sums) {
    at<A>(k.pooled, n, c) = A(sums[0]);
    if (k.slope.data) at<A>(k.slope, n, c) = A(sums[1]);
  };
  if (!s.channels_last) {
    planar_over_positions<Reader<T>, 2>(
        s,
        [&](Reader<T>& reader, int64_t n, int64_t c, int64_t p, int64_t length, double* totals) {
          const T* x = reader(Run<T>{k.x, s, n, c, p, length});
          const A* q = weights + n * S + p;
          const Vec<A> center = splat(at<A>(k.center, n, c));
          sum_run<A, 2>(length, totals, [&](int64_t i, auto width, Vec<A>* sums) FUSEDNORM_INLINED {
            prefetch(x + i + ahead);
            const Vec<A> d = load(x + i, width) - center, w = load(q + i, width);
            sums[0] += present<A>(w * kind_value<A>(kind, d), width);
            if (kind != Kind::sum) sums[1] += present<A>(w * kind_slope<A>(kind, d), width);
          });
        },
        store_sums);
    return;
  }
  rows_over_positions<A, 2>(
      s,
      [&](int64_t n, int64_t begin, int64_t end, RowTotals<A, 2>& totals) {
        SampleValues<A, 1> values(s, n);
        const A* center = values(k.center);
        A *pooled = totals.row(0), *slope = totals.row(1);
        Reader<T> readers[4];
        by_four(begin, end, [&](int64_t p, auto rows) {
          constexpr int R = rows.value;
          for (int64_t c = 0; c < s.C; c += kRun) {
            const int64_t length = min64(kRun, s.C - c);
            const T* x[R];
            Vec<A> q[R];
            for (int r = 0; r < R; ++r) {
              x[r] = readers[r](Run<T>{k.x, s, n, c, p + r, length});
              q[r] = splat(weights[n * S + p + r]);
            }
            step_through<A>(length, [&](int64_t i, auto width) FUSEDNORM_INLINED {
              const Vec<A> m = load(center + c + i, width);
              Vec<A> sum = load(pooled + c + i, width), slopes = {};
              if (kind != Kind::sum) slopes = load(slope + c + i, width);
              for (int r = 0; r < R; ++r) {
                prefetch(x[r] + i + ahead);
                const Vec<A> d = load(x[r] + i, width) - m;
                sum += q[r] * kind_value<A>(kind, d);
                if (kind != Kind::sum) slopes += q[r] * kind_slope<A>(kind, d);
              }
              store(pooled + c + i, sum, width);
              if (kind != Kind::sum) store(slope + c + i, slopes, width);
            });
          }
          totals.added(R);
        });
      },
      store_sums);
}
