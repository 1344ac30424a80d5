// The mean or the deviation over channels at each position, from its moments, and long sums of such rows.
// Included once per instruction set, inside that set's namespace.

// sum a b in double, chains in the compute type; sum a where b is null.
template <class A>
inline double long_sum(const A* a, const A* b, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; i += kChain * lanes<A>) {
    const int64_t length = min64(kChain * lanes<A>, n - i);
    total += double(b ? dot(a + i, b + i, length) : row_sum(a + i, length));
  }
  return total;
}

// The deviation; 0 has no direction to grow in. NaN passes.
template <class A>
inline A position_root(A var) {
  return var <= A(0) ? A(0) : head_sqrt(var);
}
// Its derivative by an element e of C is slope*(e - mean).
template <class A>
inline A position_root_slope(A var, int64_t C) {
  return var > A(0) ? A(1) / (head_sqrt(var) * A(C)) : A(0);
}

template <class A>
inline void position_statistic(Statistic kind, const A* mean, const A* var, int64_t S, A* to) {
  if (kind == Statistic::mean)
    memcpy(to, mean, size_t(S) * sizeof(A));
  else
    for (int64_t s = 0; s < S; ++s) to[s] = position_root(var[s]);
}
