// Rows of values for the head. Included once per instruction set, inside that set's namespace.

template <class A>
inline const A* in(const void* p) {
  return static_cast<const A*>(p);
}
template <class A>
inline A* out(void* p) {
  return static_cast<A*>(p);
}

template <class A>
inline A row_sum(const A* a, int64_t n) {
  Vec<A> sum = {};
  sweep<A>(n, [&](int64_t i, auto width) { sum += load(a + i, width); });
  return sum_lanes<A>(sum);
}

template <class A>
inline A dot(const A* a, const A* b, int64_t n) {
  constexpr int W = lanes<A>;
  Vec<A> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int j = 0; j < 4; ++j) sum[j] += load(a + i + j * W, Full{}) * load(b + i + j * W, Full{});
  for (; i + W <= n; i += W) sum[0] += load(a + i, Full{}) * load(b + i, Full{});
  if (i < n) sum[1] += load(a + i, Part{int(n - i)}) * load(b + i, Part{int(n - i)});
  return sum_lanes<A>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// to[j] = a . row j, for `count` rows of n values `step` apart: four at a time, which share a and the sums of lanes.
template <class A>
inline void dots(A* to, const A* a, const A* rows, int64_t step, int64_t count, int64_t n) {
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    Vec<A> sum[4] = {};
    const A* row = rows + j * step;
    sweep<A>(n, [&](int64_t i, auto width) {
      const Vec<A> v = load(a + i, width);
      for (int r = 0; r < 4; ++r) sum[r] += v * load(row + r * step + i, width);
    });
    sum_lanes_of<A, 4>(sum, to + j);
  }
  for (; j < count; ++j) to[j] = dot(a, rows + j * step, n);
}

// to += factor * from
template <class A>
inline void add_scaled(A* to, A factor, const A* from, int64_t n) {
  sweep<A>(n,
           [&](int64_t i, auto width) { store(to + i, load(to + i, width) + factor * load(from + i, width), width); });
}

// to += sum over j of factors[j factor_step] * row j, for `count` rows of n values `step` apart: eight at a time, so that
// `to` is touched once for eight.
template <class A>
inline void add_rows(A* to, const A* factors, int64_t factor_step, const A* rows, int64_t step, int64_t count,
                     int64_t n) {
  constexpr int most = 8;
  for (int64_t first = 0; first < count; first += most) {
    const int64_t here = min64(most, count - first);
    const A *row = rows + first * step, *factor = factors + first * factor_step;
    if (here == most)
      sweep<A>(n, [&](int64_t i, auto width) {
        Vec<A> sum = load(to + i, width);
        for (int j = 0; j < most; ++j) sum += factor[j * factor_step] * load(row + j * step + i, width);
        store(to + i, sum, width);
      });
    else
      for (int64_t j = 0; j < here; ++j) add_scaled(to, factor[j * factor_step], row + j * step, n);
  }
}

// f(begin, end) over blocks of the C channels, for sums over N samples that are each channel's own.
template <class F>
inline void parallel_channels(int64_t N, int64_t C, F&& f) {
  constexpr int64_t block = 256;
  parallel_items(ceil_div(C, block), N * block, [&](int64_t i) { f(i * block, min64(C, (i + 1) * block)); });
}

// Of sums in double; `to` may be absent.
template <class A>
inline void round_to(void* to, const double* from, int64_t n) {
  for (int64_t i = 0; i < n && to; ++i) out<A>(to)[i] = A(from[i]);
}
