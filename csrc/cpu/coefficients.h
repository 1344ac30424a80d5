// What the three affine kernels share. The N×C coefficients of a run: one value for the whole run where planar, one an
// element where channels_last. Included once per instruction set, inside that set's namespace.

template <class A>
struct Uniform {
  Vec<A> center, scale, shift, a, b;

  Uniform() = default;
  FUSEDNORM_INLINED Uniform(const AffineArgs& k, int64_t n, int64_t c) {
    auto value = [&](const PerPlane& t) { return t.data ? splat(at<A>(t, n, c)) : Vec<A>{}; };
    center = value(k.center), scale = value(k.scale), shift = value(k.shift), a = value(k.a), b = value(k.b);
  }
  template <class Width>
  Vec<A> get_center(int64_t, Width) const {
    return center;
  }
  template <class Width>
  Vec<A> get_scale(int64_t, Width) const {
    return scale;
  }
  template <class Width>
  Vec<A> get_shift(int64_t, Width) const {
    return shift;
  }
  template <class Width>
  Vec<A> get_a(int64_t, Width) const {
    return a;
  }
  template <class Width>
  Vec<A> get_b(int64_t, Width) const {
    return b;
  }
};

template <class A>
struct Along {
  const A *center, *scale, *shift, *a, *b;

  Along from(int64_t c) const { return {center + c, scale + c, shift + c, a + c, b + c}; }
  template <class Width>
  Vec<A> get_center(int64_t i, Width width) const {
    return load(center + i, width);
  }
  template <class Width>
  Vec<A> get_scale(int64_t i, Width width) const {
    return load(scale + i, width);
  }
  template <class Width>
  Vec<A> get_shift(int64_t i, Width width) const {
    return load(shift + i, width);
  }
  template <class Width>
  Vec<A> get_a(int64_t i, Width width) const {
    return load(a + i, width);
  }
  template <class Width>
  Vec<A> get_b(int64_t i, Width width) const {
    return load(b + i, width);
  }
};

// Memory for them: `repeat` copies of the C values of a sample, so that several short rows can be walked as one long
// one.
template <class A>
struct AlongMemory {
  Scratch<A> memory;
  Along<A> view;

  AlongMemory(const AffineArgs& k, int64_t n, int64_t repeat) : memory(5 * k.shape.C * repeat) {
    const int64_t C = k.shape.C, length = C * repeat;
    A* to = memory.data;
    auto copy = [&](const PerPlane& t) -> const A* {
      if (!t.data) return to;  // whatever it is, nobody looks at it
      const A* from = &at<A>(t, n, 0);
      if (t.c == 1 && repeat == 1) return from;
      A* values = to;
      to += length;
      for (int64_t c = 0; c < C; ++c) values[c] = from[c * t.c];
      for (int64_t i = C; i < length; i += C) memcpy(values + i, values, size_t(C) * sizeof(A));
      return values;
    };
    view.center = copy(k.center), view.scale = copy(k.scale), view.shift = copy(k.shift);
    view.a = copy(k.a), view.b = copy(k.b);
  }
};

// z = scale*(x - center) + shift + residual
template <class T, class Coefficients, class Width>
inline Vec<Compute<T>> affine(const T* x, const T* residual, const Coefficients& k, int64_t i, Width width) {
  auto z = k.get_scale(i, width) * (load(x + i, width) - k.get_center(i, width)) + k.get_shift(i, width);
  if (residual) z += load(residual + i, width);
  return z;
}

// How a kernel gets g = dy*act'(z); a template argument, so that the common ones have loops of their own.
enum class Source { identity, masked, relu, other };

inline Source source_of(const AffineArgs& k) {
  if (k.act == Act::identity) return Source::identity;
  if (k.mask) return Source::masked;
  return k.act == Act::relu ? Source::relu : Source::other;
}

// g for the vector at i of a run; `bits` are the mask's, lowest first.
template <Source source, class T, class Coefficients, class Width>
inline Vec<Compute<T>> gradient(const AffineArgs& args, const T* dy, const T* x, const T* residual, uint64_t bits,
                                const Coefficients& k, int64_t i, Width width) {
  using A = Compute<T>;
  Vec<A> d = load(dy + i, width);
  if constexpr (source == Source::identity) return d;
  if constexpr (source == Source::masked) return choose<A>(bits, d, d * act_blocked_slope<A>(args.act));
  if constexpr (source == Source::relu) return act_gradient<A>(Act::relu, d, affine(x, residual, k, i, width));
  return act_gradient<A>(args.act, d, affine(x, residual, k, i, width));
}

// f(std::integral_constant-like source) with the source as a constant.
template <Source value_>
struct SourceConstant {
  static constexpr Source value = value_;
};

template <class F>
inline void with_source(const AffineArgs& k, F&& f) {
  switch (source_of(k)) {
    case Source::identity:
      return f(SourceConstant<Source::identity>{});
    case Source::masked:
      return f(SourceConstant<Source::masked>{});
    case Source::relu:
      return f(SourceConstant<Source::relu>{});
    case Source::other:
      return f(SourceConstant<Source::other>{});
  }
}

// Up to 8 bytes of a mask, without a call of memcpy, which takes as long as a small plane.
template <class Word>
FUSEDNORM_INLINED inline uint64_t load_word(const uint8_t* p) {
  Word word;
  __builtin_memcpy(&word, p, sizeof(word));
  return word;
}
inline uint64_t load_bytes(const uint8_t* p, int64_t bytes) {
  const int64_t high = 8 * bytes;
  if (bytes >= 8) return load_word<uint64_t>(p);
  if (bytes >= 4) return load_word<uint32_t>(p) | load_word<uint32_t>(p + bytes - 4) << (high - 32);
  if (bytes >= 2) return load_word<uint16_t>(p) | load_word<uint16_t>(p + bytes - 2) << (high - 16);
  return bytes ? *p : 0;
}
template <class Word>
FUSEDNORM_INLINED inline void store_word(uint8_t* p, uint64_t bits) {
  const Word word = Word(bits);
  __builtin_memcpy(p, &word, sizeof(word));
}
inline void store_bytes(uint8_t* p, uint64_t bits, int64_t bytes) {
  const int64_t high = 8 * bytes;
  if (bytes >= 8) return store_word<uint64_t>(p, bits);
  if (bytes >= 4) return store_word<uint32_t>(p, bits), store_word<uint32_t>(p + bytes - 4, bits >> (high - 32));
  if (bytes >= 2) return store_word<uint16_t>(p, bits), store_word<uint16_t>(p + bytes - 2, bits >> (high - 16));
  if (bytes) *p = uint8_t(bits);
}

// f(i, width, bits, j) over a run: the mask's bits of those elements (0 without a mask) and a number below 4 that
// turns, for sums in four chains. The mask starts at a byte.
template <class A, class F>
inline void sweep_masked(const uint8_t* mask, int64_t n, F&& f) {
  constexpr int W = lanes<A>;
  constexpr int group = 4 * W;  // whole bytes of the mask on every instruction set
  int64_t i = 0;
  for (; i + group <= n; i += group) {
    uint64_t bits = 0;
    if (mask) __builtin_memcpy(&bits, mask + i / 8, group / 8);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) f(i + j * W, Full{}, bits >> (j * W), j);
  }
  uint64_t bits = mask && i < n ? load_bytes(mask + i / 8, (n - i + 7) / 8) : 0;
  for (; i + W <= n; i += W, bits >>= W) f(i, Full{}, bits, 0);
  if (i < n) f(i, Part{int(n - i)}, bits, 1);
}

// f(i, width, bits) over several runs of the same length: each one's bits.
template <class A, int rows, class F>
inline void sweep_masked_rows(const uint8_t* const (&masks)[rows], int64_t n, F&& f) {
  constexpr int W = lanes<A>;
  constexpr int group = 4 * W;
  uint64_t bits[rows];
  auto take = [&](int64_t i, int64_t bytes) {
    for (int j = 0; j < rows; ++j) bits[j] = masks[j] ? load_bytes(masks[j] + i / 8, bytes) : 0;
  };
  auto pass = [&] {
    for (int j = 0; j < rows; ++j) bits[j] >>= W;
  };
  int64_t i = 0;
  for (; i + group <= n; i += group) {
    take(i, group / 8);
    for (int v = 0; v < 4; ++v, pass()) f(i + v * W, Full{}, bits);
  }
  if (i == n) return;
  take(i, (n - i + 7) / 8);
  for (; i + W <= n; i += W, pass()) f(i, Full{}, bits);
  if (i < n) f(i, Part{int(n - i)}, bits);
}

template <class T>
inline void store_out(T* p, Vec<Compute<T>> v, Full, bool stream) {
  if (stream)
    store(p, v, Streamed{});
  else
    store(p, v, Full{});
}

template <class T>
inline void store_out(T* p, Vec<Compute<T>> v, Part part, bool) {
  store(p, v, part);
}
