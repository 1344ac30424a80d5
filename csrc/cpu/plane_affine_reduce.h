// plane_affine_reduce: g = dy*act'(z);  dshift = sum_s g;  dscale = sum_s g*(x - center); docs/engine.md
// Traffic: reads dy, x (and the mask or the residual): 2 units; with g asked for, writes it: 3 units.
// Work: as plane_affine's. Sums: per run in the compute type, runs in double, in an order that the shape alone decides.
// Included once per instruction set, inside that set's namespace.

struct PlaneSums {
  double g = 0, gx = 0;
};

template <Source source, class T>
void reduce_planar(const AffineArgs& k) {
  using A = Compute<T>;
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
      kRun / 4);  // short chains of additions in the compute type: a sum of thousands keeps its last digits
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
  static constexpr int64_t kFlush = 32;
  int64_t C, length, pending = 0;
  Scratch<A> lanes_memory;  // g then g*(x - center), `length` each
  double *g, *gx;

  RowSums(int64_t channels, int64_t repeat, double* to)
      : C(channels), length(channels * repeat), lanes_memory(2 * length, true), g(to), gx(to + channels) {}
  A* g_row() { return lanes_memory.data; }
  A* gx_row() { return lanes_memory.data + length; }
  void flush() {
    for (int64_t i = 0, c = 0; i < length; ++i, c = c + 1 == C ? 0 : c + 1) {
      g[c] += double(g_row()[i]);
      gx[c] += double(gx_row()[i]);
    }
    memset(lanes_memory.data, 0, size_t(2 * length) * sizeof(A));
    pending = 0;
  }
};

template <Source source, class T>
void reduce_channels_last(const AffineArgs& k) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t C = s.C, blocks = channels_last_blocks(s), repeat = rows_per_run<T>(k);
  Scratch<double> partial(s.N * blocks * 2 * C, true);
  channels_last_items<T>(
      k, [&](int64_t item) { return RowSums<A>(C, repeat, partial.data + item * 2 * C); },
      [&](const auto& coefficients, const RunPointers<T>& p, RowSums<A>& sums, int64_t offset) {
        A *g_row = sums.g_row() + offset, *gx_row = sums.gx_row() + offset;
        const bool stream = s.stream && p.y && can_stream(p.y);
        sweep_masked<A>(p.mask, p.length, [&](int64_t i, auto width, uint64_t bits, auto) {
          Vec<A> g = gradient<source>(k, p.dy, p.x, p.residual, bits, coefficients, i, width);
          Vec<A> x = load(p.x + i, width) - coefficients.get_center(i, width);
          store(g_row + i, load(g_row + i, width) + g, width);
          store(gx_row + i, load(gx_row + i, width) + g * x, width);
          if (p.y) store_out(p.y + i, g, width, stream);
        });
        if (offset + p.length >= C && ++sums.pending == RowSums<A>::kFlush) sums.flush();
      },
      [](int64_t, RowSums<A>& sums) { sums.flush(); });
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
