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

// Of sums in double; `to` may be absent.
template <class A>
inline void round_to(void* to, const double* from, int64_t n) {
  for (int64_t i = 0; i < n && to; ++i) out<A>(to)[i] = A(from[i]);
}
