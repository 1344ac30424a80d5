// Small dense planes whose length is no multiple of a vector's, walked as one stream of whole, aligned vectors: a group of
// them is a whole number of vectors long, and a lane takes the coefficients of its plane by a permutation. Walked one by
// one, a plane of 7x7 values would cost a start, three vectors across cache lines and a masked fourth.
// Included once per instruction set, inside that set's namespace.

// The coefficients of a group's planes, one a lane, and for every value of the group its plane.
template <class A>
struct Woven {
  const IntVec<A>* plane_of;
  Vec<A> center, scale, shift, a, b;

  Vec<A> spread(Vec<A> values, int64_t i) const { return permute<A>(values, plane_of[i / lanes<A>]); }
  template <class Width>
  Vec<A> get_center(int64_t i, Width) const {
    return spread(center, i);
  }
  template <class Width>
  Vec<A> get_scale(int64_t i, Width) const {
    return spread(scale, i);
  }
  template <class Width>
  Vec<A> get_shift(int64_t i, Width) const {
    return spread(shift, i);
  }
  template <class Width>
  Vec<A> get_a(int64_t i, Width) const {
    return spread(a, i);
  }
  template <class Width>
  Vec<A> get_b(int64_t i, Width) const {
    return spread(b, i);
  }
};

template <class A>
struct Weave {
  static constexpr int W = lanes<A>;
  const AffineArgs& k;
  const int64_t S, planes;  // of a group
  bool fits;                // permutations are an instruction from AVX2 on

  explicit Weave(const AffineArgs& args) : k(args), S(k.shape.positions()), planes(W / common(S)) {
    fits = W * sizeof(A) >= 32 && planes > 1 && S <= kSmallPlane && k.shape.N * k.shape.C >= planes;
    auto lane = reinterpret_cast<Lane*>(plane_of_);
    for (int64_t plane = 0; fits && plane < planes; ++plane)
      for (int64_t i = 0; i < S; ++i) *lane++ = Lane(plane);
  }
  int64_t length() const { return planes * S; }

  Woven<A> group(int64_t first) const {
    auto values = [&](const PerPlane& t) {
      Vec<A> v = {};
      if (!t.data) return v;
      PlaneAt at_plane(k.shape, first);
      if (t.c == 1 && at_plane.c + W <= k.shape.C) return load(&at<A>(t, at_plane.n, at_plane.c), Full{});
      for (int64_t i = 0; i < planes; ++i, at_plane.next()) v[i] = at<A>(t, at_plane.n, at_plane.c);
      return v;
    };
    return {plane_of_, values(k.center), values(k.scale), values(k.shift), values(k.a), values(k.b)};
  }

 private:
  typedef std::remove_reference_t<decltype(IntVec<A>{}[0])> Lane __attribute__((may_alias));
  IntVec<A> plane_of_[kSmallPlane];

  static int64_t common(int64_t S) {  // the greatest common divisor with a power of two
    int64_t d = 1;
    while (d < W && S % (2 * d) == 0) d *= 2;
    return d;
  }
};

// A group's mask without the gaps between planes, which begin at bytes.
struct WovenMask {
  uint64_t words[kSmallPlane * lanes<float> / 64 + 1] = {};  // one more: a plane's last bits may lie across two

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(words); }

  void gather(const uint8_t* from, int64_t planes, int64_t S) {
    for (int64_t j = 0; j < planes; ++j) {
      const int64_t bytes = ceil_div(S, 8), bit = j * S, moved = bit % 64;
      const uint64_t bits = load_bytes(from + j * bytes, bytes) & ones(S);
      words[bit / 64] |= bits << moved;
      if (moved) words[bit / 64 + 1] |= bits >> (64 - moved);
    }
  }
  void scatter(uint8_t* to, int64_t planes, int64_t S) const {
    for (int64_t j = 0; j < planes; ++j) {
      const int64_t bytes = ceil_div(S, 8), bit = j * S, moved = bit % 64;
      uint64_t bits = words[bit / 64] >> moved;
      if (moved) bits |= words[bit / 64 + 1] << (64 - moved);
      store_bytes(to + j * bytes, bits & ones(S), bytes);
    }
  }

 private:
  static uint64_t ones(int64_t S) { return (uint64_t(1) << S) - 1; }  // S < 64: 64 values are whole vectors
};

// As planar_items, for kernels without sums.
template <class T, class RunBody>
inline void woven_items(const AffineArgs& k, const Weave<Compute<T>>& weave, const DenseOperands<T>& dense,
                        RunBody run) {
  const Shape& s = k.shape;
  const int64_t S = weave.S, mask_bytes = ceil_div(S, 8), planes = s.N * s.C, groups = planes / weave.planes;
  const bool reads_mask = k.dy.data != nullptr;
  parallel_items(Order::backwards, groups + (planes % weave.planes != 0), weave.length(), [&](int64_t item) {
    const int64_t first = item * weave.planes;
    uint8_t* mask = k.mask ? k.mask + first * mask_bytes : nullptr;
    if (item < groups) {
      WovenMask woven;
      if (mask && reads_mask) woven.gather(mask, weave.planes, S);
      run(weave.group(first), dense.run(first * S, mask ? woven.bytes() : nullptr, weave.length()));
      if (mask && !reads_mask) woven.scatter(mask, weave.planes, S);
    } else {
      for (int64_t plane = first; plane < planes; ++plane, mask += mask ? mask_bytes : 0)
        run(Uniform<Compute<T>>(k, plane / s.C, plane % s.C), dense.run(plane * S, mask, S));
    }
    if (s.stream) stream_fence();
  });
}
