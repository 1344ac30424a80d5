// What the kernels of docs/positions.md know beside their maps: values per plane and values per position. Along a
// planar run the former are one value and the latter one an element; along a channels_last run the other way round.
// Included once per instruction set, inside that set's namespace.

// One value for a whole run.
template <class A>
struct Same {
  Vec<A> value;
  template <class Width>
  Vec<A> operator()(int64_t, Width) const {
    return value;
  }
};

// One an element.
template <class A>
struct Each {
  const A* values;
  template <class Width>
  Vec<A> operator()(int64_t i, Width width) const {
    return load(values + i, width);
  }
};

// Planar: a plane's value.
template <class A>
inline Same<A> plane_value(const PerPlane& t, int64_t n, int64_t c) {
  return {t.data ? splat(at<A>(t, n, c)) : Vec<A>{}};
}

// Values per position, from position i (counted over all samples) on.
template <class A>
inline Each<A> position_values(const void* t, int64_t i) {
  return {t ? static_cast<const A*>(t) + i : nullptr};
}
template <class A>
inline Same<A> position_value(const void* t, int64_t i) {
  return {t ? splat(static_cast<const A*>(t)[i]) : Vec<A>{}};
}

// channels_last: the values of a sample's channels as arrays, in place where they are that in memory.
template <class A, int most>
class SampleValues {
 public:
  SampleValues(const Shape& s, int64_t n) : C_(s.C), n_(n), memory_(most * s.C), next_(memory_.data) {}
  const A* operator()(const PerPlane& t) {
    if (t.data == nullptr) return nullptr;
    if (t.c == 1) return &at<A>(t, n_, 0);
    A* values = next_;
    next_ += C_;
    for (int64_t c = 0; c < C_; ++c) values[c] = at<A>(t, n_, c);
    return values;
  }

 private:
  int64_t C_, n_;
  Scratch<A> memory_;
  A* next_;
};

// channels_last: the same interleaved, a vector of each after another, so that a loop over channels has one address for
// all of them. What lies past the last channel, and what is absent, is 0.
template <class A, int count>
struct Packed {
  const A* values;
  template <class Width>
  Vec<A> operator()(int64_t i, Width) const {
    return load(values + i * count, Full{});
  }
};
template <class A, int count>
class PackedValues {
 public:
  PackedValues(const Shape& s, int64_t n)
      : C_(s.C), n_(n), memory_(count * ceil_div(s.C, lanes<A>) * lanes<A>, count > 0) {}
  void add(const PerPlane& t) {
    A* values = memory_.data + next_++ * lanes<A>;
    if (t.data == nullptr) return;
    for (int64_t c = 0; c < C_; ++c) values[c / lanes<A> * count * lanes<A> + c % lanes<A>] = at<A>(t, n_, c);
  }
  // The number-th that was added, from channel c on, the first of a vector.
  Packed<A, count> operator()(int number, int64_t c) const { return {memory_.data + number * lanes<A> + c * count}; }

 private:
  int64_t C_, n_;
  Scratch<A> memory_;
  int next_ = 0;
};

// f(d) and f'(d)
template <class A>
inline Vec<A> kind_value(Kind kind, Vec<A> d) {
  if (kind == Kind::sum) return d;
  return kind == Kind::square ? d * d : (d < A(0) ? -d : d);
}
template <class A>
inline Vec<A> kind_slope(Kind kind, Vec<A> d) {
  const Vec<A> one = splat(A(1)), zero = {};
  if (kind == Kind::sum) return one;
  return kind == Kind::square ? d + d : (d > zero ? one : zero) - (d < zero ? one : zero);
}
