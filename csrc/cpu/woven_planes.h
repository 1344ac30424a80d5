// Dense planes whose length is no multiple of a vector's, walked as one stream of whole, aligned vectors: a group of them
// is a whole number of vectors long, and a lane takes the coefficients of the plane it lies in by a permutation. Walked
// one by one, a plane of 7x7 values would cost a start, three vectors across cache lines and a masked fourth.
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
      int64_t n = first / k.shape.C, c = first - n * k.shape.C;
      if (t.c == 1 && c + W <= k.shape.C) return load(&at<A>(t, n, c), Full{});
      for (int64_t i = 0; i < planes; ++i, ++c) {
        if (c == k.shape.C) ++n, c = 0;
        v[i] = at<A>(t, n, c);
      }
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
  uint64_t words[kSmallPlane * lanes<float> / 64 + 1];  // one more: that a plane's last bits may be looked for there

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(words); }

  // f(bit in words, byte in the planes' mask, bits) for every word of every plane.
  template <class F>
  static void each(int64_t planes, int64_t S, F&& f) {
    const int64_t plane_bytes = ceil_div(S, 8);
    for (int64_t j = 0; j < planes; ++j)
      for (int64_t i = 0; i < S; i += 64) f(j * S + i, j * plane_bytes + i / 8, min64(64, S - i));
  }
  void gather(const uint8_t* from, int64_t planes, int64_t S) {
    memset(words, 0, sizeof(words));
    each(planes, S, [&](int64_t bit, int64_t byte, int64_t count) {
      const uint64_t bits = load_bytes(from + byte, (count + 7) / 8), moved = bit % 64;
      words[bit / 64] |= bits << moved;
      if (moved) words[bit / 64 + 1] |= bits >> (64 - moved);
    });
  }
  void scatter(uint8_t* to, int64_t planes, int64_t S) const {
    each(planes, S, [&](int64_t bit, int64_t byte, int64_t count) {
      const uint64_t moved = bit % 64;
      uint64_t bits = words[bit / 64] >> moved;
      if (moved) bits |= words[bit / 64 + 1] << (64 - moved);
      store_bytes(to + byte, bits & (~uint64_t(0) >> (64 - count)), (count + 7) / 8);
    });
  }
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

struct Nothing {};

// For kernels without sums.
template <class T, class RunBody>
inline void affine_items(const AffineArgs& k, RunBody run) {
  auto make_state = [](int64_t) { return Nothing{}; };
  auto body = [&](const auto& coefficients, const RunPointers<T>& p, Nothing, int64_t) { run(coefficients, p); };
  auto finish = [](int64_t, Nothing) {};
  if (k.shape.channels_last) return channels_last_items<T>(k, make_state, body, finish);
  if (const DenseOperands<T> dense(k); dense.all()) {
    if (const Weave<Compute<T>> weave(k); weave.fits) return woven_items<T>(k, weave, dense, run);
  }
  planar_items<T>(k, make_state, body, finish);
}
