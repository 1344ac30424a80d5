// plane_affine_reduce: g = dy*act'(z);  dshift = sum_s g;  dscale = sum_s g*(x - center); docs/engine.md
// Traffic: reads dy, x (and the mask or the residual): 2 units; with g asked for, writes it: 3 units.
// Work: as plane_affine's. Sums: per run in the compute type, runs in double, in an order that the shape alone decides.
// Included once per instruction set, inside that set's namespace.

struct PlaneSums {
  double g = 0, gx = 0;
};

// Small dense planes, one after the other in memory: p is the first's.
template <Source source, int count, class T>
FUSEDNORM_INLINED inline void reduce_planes(const AffineArgs& k, const RunPointers<T>& p, PlaneAt plane, auto vectors,
                                            Compute<T>* g_sums, Compute<T>* gx_sums) {
  using A = Compute<T>;
  const int64_t S = p.length, mask_bytes = ceil_div(S, 8);
  Vec<A> g_sum[count] = {}, gx_sum[count] = {};
  Uniform<A> coefficients[count];
  uint64_t bits[count] = {};
  for (int j = 0; j < count; ++j, plane.next()) {
    coefficients[j] = Uniform<A>(k, plane.n, plane.c);
    if constexpr (source == Source::masked) bits[j] = load_bytes(p.mask + j * mask_bytes, mask_bytes);
  }
  sweep_vectors<A>(S, vectors, [&](int64_t i, auto width) {
    for (int j = 0; j < count; ++j) {
      const int64_t at = j * S + i;
      Vec<A> g = gradient<source>(k, p.dy + at, p.x + at, p.residual ? p.residual + at : nullptr, bits[j] >> i,
                                  coefficients[j], 0, width);
      Vec<A> x = load(p.x + at, width) - coefficients[j].center;
      if constexpr (!is_full<decltype(width)>) {
        g = first_lanes<A>(width.count, g);
        x = first_lanes<A>(width.count, x);
      }
      g_sum[j] += g;
      gx_sum[j] += g * x;
      if (p.y) store_out(p.y + at, g, width, k.shape.stream && can_stream(p.y + at));
    }
  });
  sum_lanes_of<A, count>(g_sum, g_sums);
  sum_lanes_of<A, count>(gx_sum, gx_sums);
}

template <Source source, class T>
void reduce_small_planes(const AffineArgs& k, const DenseOperands<T>& dense) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions(), mask_bytes = ceil_div(S, 8);
  with_vectors<A>(S, [&](auto vectors) {
    planes_in_fours(s.N * s.C, S, [&](int64_t first, auto count) {
      PlaneAt plane(s, first);
      A g[count], gx[count];
      const RunPointers<T> p = dense.run(first * S, k.mask ? k.mask + first * mask_bytes : nullptr, S);
      reduce_planes<source, count>(k, p, plane, vectors, g, gx);
      for (int64_t i = 0; i < count; ++i, plane.next()) {
        at<A>(k.dshift, plane.n, plane.c) = g[i];
        at<A>(k.dscale, plane.n, plane.c) = gx[i];
      }
      if (s.stream) stream_fence();
    });
  });
}

template <Source source, class T>
void reduce_planar(const AffineArgs& k) {
  using A = Compute<T>;
  if (const DenseOperands<T> dense(k); dense.all() && k.shape.positions() <= kSmallPlane)
    return reduce_small_planes<source>(k, dense);
  const int64_t segments = planar_segments(k.shape), planes = k.shape.N * k.shape.C;
  auto store_sums = [&](int64_t plane, const PlaneSums& sums) {
    at<A>(k.dshift, plane / k.shape.C, plane % k.shape.C) = A(sums.g);
    at<A>(k.dscale, plane / k.shape.C, plane % k.shape.C) = A(sums.gx);
  };
  Scratch<PlaneSums> partial(segments > 1 ? planes * segments : 0);
  planar_items<T>(
      k, [](int64_t) { return PlaneSums{}; },
      [&](const auto& coefficients, const RunPointers<T>& p, PlaneSums& sums, int64_t) {
        Vec<A> g_sum[4] = {}, gx_sum[4] = {};
        const bool stream = k.shape.stream && p.y && can_stream(p.y);
        sweep_masked<A>(p.mask, p.length, [&](int64_t i, auto width, uint64_t bits, auto lane) {
          Vec<A> g = gradient<source>(k, p.dy, p.x, p.residual, bits, coefficients, i, width);
          Vec<A> x = load(p.x + i, width) - coefficients.get_center(i, width);
          if constexpr (!is_full<decltype(width)>) {  // z of an element that is not there is not 0
            g = first_lanes<A>(width.count, g);
            x = first_lanes<A>(width.count, x);
          }
          g_sum[lane] += g;
          gx_sum[lane] += g * x;
          if (p.y) store_out(p.y + i, g, width, stream);
        });
        sums.g += double(sum_lanes<A>((g_sum[0] + g_sum[1]) + (g_sum[2] + g_sum[3])));
        sums.gx += double(sum_lanes<A>((gx_sum[0] + gx_sum[1]) + (gx_sum[2] + gx_sum[3])));
      },
      [&](int64_t item, const PlaneSums& sums) {
        if (segments > 1)
          partial.data[item] = sums;
        else
          store_sums(item, sums);
      },
      kRun / 4,
      Order::forwards);  // short chains of additions in the compute type: a sum of thousands keeps its last digits
  if (segments == 1) return;
  for (int64_t plane = 0; plane < planes; ++plane) {
    PlaneSums sums;
    for (int64_t i = 0; i < segments; ++i) {
      sums.g += partial.data[plane * segments + i].g;
      sums.gx += partial.data[plane * segments + i].gx;
    }
    store_sums(plane, sums);
  }
}

// Sums along rows: vectors of the compute type, emptied into double before they grow long.
template <class A>
struct RowSums {
  static constexpr int64_t kFlush = 64;  // rows of the compute type added up
  int64_t C, length, pending = 0;
  Scratch<A> lanes_memory;  // g then g*(x - center), `length` each
  double *g, *gx;

  RowSums(int64_t channels, int64_t repeat, double* to)
      : C(channels), length(channels * repeat), lanes_memory(2 * length, true), g(to), gx(to + channels) {}
  A* g_row() { return lanes_memory.data; }
  A* gx_row() { return lanes_memory.data + length; }
  void add(int64_t rows) {
    pending += rows;
    if (pending >= kFlush) flush();
  }
  void flush() {
    for (int64_t first = 0; first < length; first += C)
      for (int64_t c = 0; c < C; ++c) {
        g[c] += double(g_row()[first + c]);
        gx[c] += double(gx_row()[first + c]);
      }
    memset(lanes_memory.data, 0, size_t(2 * length) * sizeof(A));
    pending = 0;
  }
};

// Rows onto the sums, some at a time, so that those are touched once for all of them.
template <Source source, int rows, class T, class Coefficients>
inline void reduce_rows(const AffineArgs& k, const Coefficients& coefficients, const RunPointers<T> (&p)[rows],
                        Compute<T>* g_row, Compute<T>* gx_row) {
  using A = Compute<T>;
  const bool stream = k.shape.stream && p[0].y && can_stream(p[0].y) && can_stream(p[rows - 1].y);
  const uint8_t* masks[rows];
  for (int j = 0; j < rows; ++j) masks[j] = p[j].mask;
  sweep_masked_rows<A>(masks, p[0].length, [&](int64_t i, auto width, const uint64_t (&bits)[rows]) {
    const Vec<A> center = coefficients.get_center(i, width);
    Vec<A> g_sum = load(g_row + i, width), gx_sum = load(gx_row + i, width);
#pragma GCC unroll 4
    for (int j = 0; j < rows; ++j) {
      if constexpr (rows > 1) {  // the next ones: several rows in turn are no stream that processors foresee
        prefetch(p[j].x + rows * p[j].length + i);
        prefetch(p[j].dy + rows * p[j].length + i);
      }
      const Vec<A> g = gradient<source>(k, p[j].dy, p[j].x, p[j].residual, bits[j], coefficients, i, width);
      g_sum += g;
      gx_sum += g * (load(p[j].x + i, width) - center);
      if (p[j].y) store_out(p[j].y + i, g, width, stream);
    }
    store(g_row + i, g_sum, width);
    store(gx_row + i, gx_sum, width);
  });
}

// One item of dense operands, four runs at a time.
template <Source source, class T>
inline void reduce_dense_item(const AffineArgs& k, const DenseOperands<T>& dense, int64_t n, int64_t begin, int64_t end,
                              int64_t group, RowSums<Compute<T>>& sums) {
  const Shape& s = k.shape;
  const int64_t C = s.C, mask_bytes = ceil_div(C, 8);
  const AlongMemory<Compute<T>> coefficients(k, n, group);
  auto run = [&](int64_t p, int64_t length) {
    const int64_t position = n * s.positions() + p;
    return dense.run(position * C, k.mask ? k.mask + position * mask_bytes : nullptr, length);
  };
  int64_t p = begin;
  for (; p + 4 * group <= end; p += 4 * group) {
    const int64_t length = group * C;
    const RunPointers<T> four[] = {run(p, length), run(p + group, length), run(p + 2 * group, length),
                                   run(p + 3 * group, length)};
    reduce_rows<source>(k, coefficients.view, four, sums.g_row(), sums.gx_row());
    sums.add(4);
  }
  for (; p < end; p += group) {
    const RunPointers<T> one[] = {run(p, min64(group, end - p) * C)};
    reduce_rows<source>(k, coefficients.view, one, sums.g_row(), sums.gx_row());
    sums.add(1);
  }
}

template <Source source, class T>
void reduce_channels_last(const AffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions(), C = s.C, blocks = channels_last_blocks(s), repeat = rows_per_run<T>(k);
  Scratch<double> partial(s.N * blocks * 2 * C, true);
  const DenseOperands<T> dense(k);
  if (dense.all()) {
    const int64_t step = positions_per_item(s);
    parallel_items(s.N * blocks, step * C, [&](int64_t item) {
      const int64_t begin = item % blocks * step;
      RowSums<A> sums(C, repeat, partial.data + item * 2 * C);
      reduce_dense_item<source>(k, dense, item / blocks, begin, min64(begin + step, S), repeat, sums);
      sums.flush();
      if (s.stream) stream_fence();
    });
  } else {
    channels_last_items<T>(
        k, [&](int64_t item) { return RowSums<A>(C, repeat, partial.data + item * 2 * C); },
        [&](const auto& coefficients, const RunPointers<T>& p, RowSums<A>& sums, int64_t offset) {
          const RunPointers<T> one[] = {p};
          reduce_rows<source>(k, coefficients, one, sums.g_row() + offset, sums.gx_row() + offset);
          if (offset + p.length >= C) sums.add(1);
        },
        [](int64_t, RowSums<A>& sums) { sums.flush(); }, Order::forwards);
  }
  parallel_items(s.N, blocks * C, [&](int64_t n) {
    for (int64_t c = 0; c < C; ++c) {
      PlaneSums sums;
      for (int64_t i = 0; i < blocks; ++i) {
        sums.g += partial.data[(n * blocks + i) * 2 * C + c];
        sums.gx += partial.data[(n * blocks + i) * 2 * C + C + c];
      }
      at<A>(k.dshift, n, c) = A(sums.g);
      at<A>(k.dscale, n, c) = A(sums.gx);
    }
  });
}

template <class T>
void plane_affine_reduce(const AffineArgs& k) {
  with_source(k, [&](auto source) {
    if (k.shape.channels_last)
      reduce_channels_last<source.value, T>(k);
    else
      reduce_planar<source.value, T>(k);
  });
}
