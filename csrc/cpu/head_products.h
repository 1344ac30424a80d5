// Products of small matrices for the head: a row for each sample against the rows of a weight, in blocks that fit the
// registers, so that the weight is read once for four samples. Included once per instruction set, inside that set's
// namespace.

template <class A>
struct Matrix {
  const A* data;
  int64_t step, count;  // from a row to the next; how many
  const A* operator[](int64_t i) const { return data + i * step; }
};

// f(first, std::integral_constant of how many): four at a time, then one.
template <class F>
inline void in_fours(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) f(i, std::integral_constant<int, 4>{});
  for (; i < count; ++i) f(i, std::integral_constant<int, 1>{});
}

// to[n, j] = a_n . row_j, of `length` values; to is dense. Work: one item four rows of the weight.
template <class A>
inline void products(A* to, const Matrix<A>& a, const Matrix<A>& rows, int64_t length) {
  parallel_items(ceil_div(rows.count, 4), 4 * a.count * length, [&](int64_t item) {
    const int64_t begin = 4 * item, end = min64(begin + 4, rows.count);
    in_fours(a.count, [&](int64_t n, auto samples) {
      in_fours(end - begin, [&](int64_t j, auto columns) {
        constexpr int S = decltype(samples)::value, J = decltype(columns)::value;
        Vec<A> sum[S][J] = {};
        sweep<A>(length, [&](int64_t i, auto width) {
          Vec<A> weight[J];
#pragma GCC unroll 4
          for (int c = 0; c < J; ++c) weight[c] = load(rows[begin + j + c] + i, width);
#pragma GCC unroll 4
          for (int s = 0; s < S; ++s) {
            const Vec<A> value = load(a[n + s] + i, width);
#pragma GCC unroll 4
            for (int c = 0; c < J; ++c) sum[s][c] += value * weight[c];
          }
        });
#pragma GCC unroll 4
        for (int s = 0; s < S; ++s) sum_lanes_of<A, J>(sum[s], to + (n + s) * rows.count + begin + j);
      });
    });
  });
}

// to[n, :] = sum over j of a_n[j] row_j, of `length` values; to is dense. Work: one item four vectors of four samples.
template <class A>
inline void combinations(A* to, const Matrix<A>& a, const Matrix<A>& rows, int64_t length) {
  constexpr int64_t W = lanes<A>, block = 4 * W;
  const int64_t blocks = ceil_div(length, block);
  parallel_items(blocks * ceil_div(a.count, 4), 4 * block * rows.count, [&](int64_t item) {
    const int64_t first = item / blocks * 4, begin = item % blocks * block, end = min64(begin + block, length);
    in_fours(min64(4, a.count - first), [&](int64_t sample, auto samples) {
      const int64_t n = first + sample;
      auto columns = [&](int64_t i, auto vectors, auto width) {
        constexpr int S = decltype(samples)::value, V = decltype(vectors)::value;
        Vec<A> sum[S][V] = {};
        for (int64_t j = 0; j < rows.count; ++j) {
          Vec<A> weight[V];
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) weight[v] = load(rows[j] + i + v * W, width);
#pragma GCC unroll 4
          for (int s = 0; s < S; ++s)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[s][v] += a[n + s][j] * weight[v];
        }
#pragma GCC unroll 4
        for (int s = 0; s < S; ++s)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) store(to + (n + s) * length + i + v * W, sum[s][v], width);
      };
      if (end - begin == block) return columns(begin, std::integral_constant<int, 4>{}, Full{});
      int64_t i = begin;
      for (; i + W <= end; i += W) columns(i, std::integral_constant<int, 1>{}, Full{});
      if (i < end) columns(i, std::integral_constant<int, 1>{}, Part{int(end - i)});
    });
  });
}
