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

// The sum of f(i) over [0, n), in eight chains: in one, each addition would wait for the one before.
template <class F>
inline double sum_of(int64_t n, F&& f) {
  constexpr int chains = 8;
  double sums[chains] = {};
  int64_t i = 0;
  for (; i + chains <= n; i += chains)
    for (int j = 0; j < chains; ++j) sums[j] += f(i + j);
  for (; i < n; ++i) sums[i % chains] += f(i);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
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
