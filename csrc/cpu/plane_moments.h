// plane_moments: m = 1/S sum_s x,  v = 1/S sum_s (x - m)²           docs/engine.md
// The mean is double: differences of means (the head takes them) would lose float32's last digits when the mean is
// large. Traffic: reads x once (1 unit). Runs are swept twice, the second time from L1 or L2: first their mean, then
// their squares around it; runs are merged as (count, mean, M2) in double. So a mean of 1e4 with a deviation of 1 costs
// no digit. Work: planar, one item a plane (or a segment of a large one); channels_last, one item a block of positions
// of a sample. Included once per instruction set, inside that set's namespace.

// A sum of squares that rounding took below zero; NaN stays.
inline double non_negative(double value) { return value < 0 ? 0 : value; }

struct Moments {
  double count = 0, mean = 0, m2 = 0;

  void merge(double other_count, double other_mean, double other_m2) {
    double total = count + other_count, delta = other_mean - mean;
    mean += delta * (other_count / total);
    m2 += other_m2 + delta * delta * (count * other_count / total);
    count = total;
  }
};

template <class T>
inline void moments_run(const T* x, int64_t n, Moments& moments) {
  using A = Compute<T>;
  constexpr int W = lanes<A>;
  Vec<A> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int j = 0; j < 4; ++j) sum[j] += load(x + i + j * W, Full{});
  for (; i + W <= n; i += W) sum[0] += load(x + i, Full{});
  if (i < n) sum[1] += load(x + i, Part{int(n - i)});
  const A mean = sum_lanes<A>((sum[0] + sum[1]) + (sum[2] + sum[3])) / A(n);

  Vec<A> square[4] = {}, drift[4] = {};
  auto add = [&](int j, Vec<A> d) {
    drift[j] += d;
    square[j] += d * d;
  };
  for (i = 0; i + 4 * W <= n; i += 4 * W)
    for (int j = 0; j < 4; ++j) {
      prefetch(x + n + i + j * W);  // the next run, while this one comes from L1
      add(j, load(x + i + j * W, Full{}) - mean);
    }
  for (; i + W <= n; i += W) add(0, load(x + i, Full{}) - mean);
  if (i < n) add(1, first_lanes<A>(int(n - i), load(x + i, Part{int(n - i)}) - mean));
  // What the rounded mean left over: it makes the mean exact to the last bit and takes its share out of the squares.
  const double rest = sum_lanes<A>((drift[0] + drift[1]) + (drift[2] + drift[3]));
  const double m2 = sum_lanes<A>((square[0] + square[1]) + (square[2] + square[3]));
  moments.merge(double(n), double(mean) + rest / double(n), non_negative(m2 - rest * rest / double(n)));
}

// Small planes, one after the other in memory: as moments_run, without a merge.
template <int count, class T>
FUSEDNORM_INLINED inline void moments_planes(const T* x, int64_t S, auto vectors, double* means, double* squares) {
  using A = Compute<T>;
  Vec<A> sum[count] = {};
  sweep_vectors<A>(S, vectors, [&](int64_t i, auto width) {
    for (int j = 0; j < count; ++j) sum[j] += load(x + j * S + i, width);
  });
  A mean[count];
  sum_lanes_of<A, count>(sum, mean);
  const A inverse = A(1) / A(S);
  for (int j = 0; j < count; ++j) mean[j] *= inverse;
  Vec<A> square[count] = {}, drift[count] = {};
  sweep_vectors<A>(S, vectors, [&](int64_t i, auto width) {
    for (int j = 0; j < count; ++j) {
      Vec<A> d = load(x + j * S + i, width) - mean[j];
      if constexpr (!is_full<decltype(width)>) d = first_lanes<A>(width.count, d);
      drift[j] += d;
      square[j] += d * d;
    }
  });
  A rest[count], m2[count];
  sum_lanes_of<A, count>(drift, rest);
  sum_lanes_of<A, count>(square, m2);
  const double share = 1 / double(S);
  for (int j = 0; j < count; ++j) {
    const double left = double(rest[j]) * share;
    means[j] = double(mean[j]) + left;
    squares[j] = non_negative(double(m2[j]) - double(rest[j]) * left) * share;
  }
}

template <class T>
void moments_small_planes(const MomentsArgs& k, const Dense<T>& packed) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  with_vectors<A>(S, [&](auto vectors) {
    planes_in_fours(s.N * s.C, S, [&](int64_t first, auto count) {
      double mean[count], var[count];
      moments_planes<count>(packed.at(first * S), S, vectors, mean, var);
      PlaneAt plane(s, first);
      for (int64_t i = 0; i < count; ++i, plane.next()) {
        at<double>(k.mean, plane.n, plane.c) = mean[i];
        at<A>(k.var, plane.n, plane.c) = A(var[i]);
      }
    });
  });
}

template <class T>
void plane_moments_planar(const MomentsArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions(), segments = ceil_div(S, kSegment), planes = s.N * s.C;
  const Dense<T> packed(k.x, s);
  if (packed.known && S <= kSmallPlane) return moments_small_planes(k, packed);
  auto reduce = [&](int64_t plane, int64_t begin, int64_t end) {
    Reader<T> reader;
    Moments moments;
    for (int64_t p = begin; p < end; p += kRun) {
      const int64_t length = min64(kRun, end - p);
      const T* x =
          packed.known ? packed.at(plane * S + p) : reader(Run<T>{k.x, s, plane / s.C, plane % s.C, p, length});
      moments_run(x, length, moments);
    }
    return moments;
  };
  auto finish = [&](int64_t plane, const Moments& moments) {
    at<double>(k.mean, plane / s.C, plane % s.C) = moments.mean;
    at<A>(k.var, plane / s.C, plane % s.C) = A(moments.m2 / moments.count);
  };
  if (segments == 1) {
    parallel_items(planes, S, [&](int64_t plane) { finish(plane, reduce(plane, 0, S)); });
    return;
  }
  Scratch<Moments> partial(planes * segments);
  parallel_items(planes * segments, kSegment, [&](int64_t item) {
    int64_t begin = item % segments * kSegment;
    partial.data[item] = reduce(item / segments, begin, min64(begin + kSegment, S));
  });
  for (int64_t plane = 0; plane < planes; ++plane) {
    Moments moments;
    for (int64_t i = 0; i < segments; ++i) {
      const Moments& part = partial.data[plane * segments + i];
      moments.merge(part.count, part.mean, part.m2);
    }
    finish(plane, moments);
  }
}

// f(c, width, rows) for every vector of channels, four rows at a time, so that the sums in memory are touched once for
// four: rows(i) is where row i of them is.
template <class A, class Row, class F>
inline void sweep_rows(int64_t rows, int64_t C, Row&& row, F&& f) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const decltype(row(0)) four[] = {row(i), row(i + 1), row(i + 2), row(i + 3)};
    sweep<A>(C, [&](int64_t c, auto width) { f(c, width, four); });
  }
  for (; i < rows; ++i) {
    const decltype(row(0)) one[] = {row(i)};
    sweep<A>(C, [&](int64_t c, auto width) { f(c, width, one); });
  }
}

// channels_last: `rows` positions of C channels at row(i), merged into mean and m2, which already stand for `before`
// positions. `ahead`: elements from a row to the row that is read next but one block.
template <class T, class Row>
inline void moments_rows(int64_t rows, int64_t C, double before, Row&& row, int64_t ahead, Compute<T>* sum,
                         Compute<T>* square, double* mean, double* m2) {
  using A = Compute<T>;
  memset(sum, 0, size_t(C) * sizeof(A));
  sweep_rows<A>(rows, C, row, [&](int64_t c, auto width, const auto& x) {
    Vec<A> total = load(sum + c, width);
    for (const T* p : x) total += load(p + c, width);
    store(sum + c, total, width);
  });
  const A inverse = A(1) / A(rows);
  sweep<A>(C, [&](int64_t c, auto width) { store(sum + c, load(sum + c, width) * inverse, width); });
  memset(square, 0, size_t(2 * C) * sizeof(A));
  A* drift = square + C;
  sweep_rows<A>(rows, C, row, [&](int64_t c, auto width, const auto& x) {
    const Vec<A> middle = load(sum + c, width);
    Vec<A> total = load(drift + c, width), squares = load(square + c, width);
    for (const T* p : x) {
      prefetch(p + ahead + c);  // the next block, while this one comes from L1
      Vec<A> d = load(p + c, width) - middle;
      total += d;
      squares += d * d;
    }
    store(drift + c, total, width);
    store(square + c, squares, width);
  });
  const double n = double(rows), total = before + n, share = n / total, cross = before * n / total, each = 1 / n;
  for (int64_t c = 0; c < C; ++c) {
    const double rest = double(drift[c]), left = rest * each;
    const double delta = double(sum[c]) + left - mean[c];
    mean[c] += delta * share;
    m2[c] += non_negative(double(square[c]) - rest * left) + delta * delta * cross;
  }
}

// A block is swept twice, so it should stay near; long, for each is merged into double at the end; and short, for its
// sums are added up in the compute type.
constexpr int64_t kBlockRows = 64, kBlockBytes = 131072;  // an eighth of a current L2

template <class T>
void plane_moments_channels_last(const MomentsArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions(), C = s.C, step = positions_per_item(s), items = ceil_div(S, step);
  const int64_t tile = kBlockBytes / (kBlockRows * int64_t(sizeof(T)));  // channels
  Scratch<double> partial(s.N * items * 2 * C, true);
  parallel_items(s.N * items, step * C, [&](int64_t item) {
    const int64_t n = item / items, begin = item % items * step, end = min64(begin + step, S);
    double* mean = partial.data + item * 2 * C;
    Scratch<A> sums(3 * min64(C, tile));
    for (int64_t p = begin; p < end; p += kBlockRows)
      for (int64_t c = 0; c < C; c += tile) {
        const int64_t rows = min64(kBlockRows, end - p), channels = min64(tile, C - c);
        auto row = [&](int64_t i) { return at<T>(k.x, s, n, c, p + i); };
        const int64_t ahead = c + tile < C ? tile : kBlockRows * k.x.p0 - c;
        moments_rows<T>(rows, channels, double(p - begin), row, ahead, sums.data, sums.data + channels, mean + c,
                        mean + C + c);
      }
  });
  parallel_items(s.N, items * C, [&](int64_t n) {
    const double *mean = partial.data + n * items * 2 * C, *m2 = mean + C, share = 1 / double(S);
    if (items == 1)
      for (int64_t c = 0; c < C; ++c) at<double>(k.mean, n, c) = mean[c], at<A>(k.var, n, c) = A(m2[c] * share);
    else
      for (int64_t c = 0; c < C; ++c) {
        Moments moments;
        for (int64_t i = 0; i < items; ++i)
          moments.merge(double(min64(step, S - i * step)), mean[i * 2 * C + c], m2[i * 2 * C + c]);
        at<double>(k.mean, n, c) = moments.mean;
        at<A>(k.var, n, c) = A(moments.m2 * share);
      }
  });
}

template <class T>
void plane_moments(const MomentsArgs& k) {
  if (k.shape.channels_last)
    plane_moments_channels_last<T>(k);
  else
    plane_moments_planar<T>(k);
}
