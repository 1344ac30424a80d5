// Vectors of the compute type in the compiler's own vector extension, so that one source serves AVX-512, AVX2, plain
// x86-64 and Arm. Included once per instruction set, inside that set's namespace, hence no #pragma once.
// Loads and stores take the storage type T and convert; `Part` variants touch only the first `count` elements.

// For what must be inlined: a call of a long body of an inner loop would pass its vectors through memory.
#define FUSEDNORM_INLINED __attribute__((always_inline))

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

template <class A>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float V __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES)));
  typedef int32_t I __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES)));
};
template <>
struct VecOf<double> {
  typedef double V __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES)));
  typedef int64_t I __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES)));
};
template <class A>
using Vec = typename VecOf<A>::V;
template <class A>
using IntVec = typename VecOf<A>::I;
template <class A>
constexpr int lanes = FUSEDNORM_VECTOR_BYTES / sizeof(A);

typedef uint32_t WordVec __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES)));
typedef uint16_t HalfWordVec __attribute__((vector_size(FUSEDNORM_VECTOR_BYTES / 2)));

// The compute type that belongs to a storage type.
template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

struct Full {};
struct Part {
  int count;
};
template <class Width>
constexpr bool is_full = false;
template <>
constexpr bool is_full<Full> = true;

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

template <class A>
inline Vec<A> splat(A value) {
  return Vec<A>{} + value;
}

// ---- loads -------------------------------------------------------------------------------------------------------

template <class To, class From>
inline To bit_cast_to(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

inline Vec<float> widen(HalfWordVec bits, bf16) {
#if FUSEDNORM_VECTOR_BYTES == 64
  // Each word into the upper half of its lane at once, instead of widened, then shifted.
  const __m512i word_of = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16, 8 << 16,
                                           7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
  return (Vec<float>)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, word_of, _mm512_castsi256_si512((__m256i)bits));
#else
  return bit_cast_to<Vec<float>>(__builtin_convertvector(bits, WordVec) << 16);
#endif
}

inline Vec<float> widen(HalfWordVec bits, f16) {
#if FUSEDNORM_VECTOR_BYTES == 64
  return (Vec<float>)_mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);  // GCC warns of its own plain intrinsic
#elif FUSEDNORM_VECTOR_BYTES == 32
  return (Vec<float>)_mm256_cvtph_ps((__m128i)bits);
#else
  // Exponent and mantissa as float32's, times 2^112 for the exponents' biases, which also normalizes subnormals.
  const WordVec word = __builtin_convertvector(bits, WordVec), rest = (word & 0x7fff) << 13;
  const WordVec finite = bit_cast_to<WordVec>(bit_cast_to<Vec<float>>(rest) * 0x1p112f);
  const WordVec magnitude = (word & 0x7c00) == 0x7c00 ? rest | 0x7f800000 : finite;
  return bit_cast_to<Vec<float>>(magnitude | ((word & 0x8000) << 16));
#endif
}

template <class T>
inline Vec<Compute<T>> load(const T* p, Full) {
  if constexpr (sizeof(T) == 2) {
    HalfWordVec bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return widen(bits, T{});
  } else {
    Vec<T> v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
  }
}

template <class T>
inline Vec<Compute<T>> load(const T* p, Part part) {
#if FUSEDNORM_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 2)
    return widen((HalfWordVec)_mm256_maskz_loadu_epi16(__mmask16((1u << part.count) - 1), p), T{});
  else if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_loadu_ps(__mmask16((1u << part.count) - 1), p);
  else
    return (Vec<T>)_mm512_maskz_loadu_pd(__mmask8((1u << part.count) - 1), p);
#else
  T values[lanes<Compute<T>>] = {};
  for (int i = 0; i < part.count; ++i) values[i] = p[i];
  return load(values, Full{});
#endif
}

// ---- stores ------------------------------------------------------------------------------------------------------

inline HalfWordVec narrow(Vec<float> v, bf16) {
  const WordVec u = bit_cast_to<WordVec>(v);
  const WordVec rounded = u + 0x7fff + ((u >> 16) & 1);  // to nearest, ties to even
  const WordVec upper = v == v ? rounded : u | 0x400000;
#if FUSEDNORM_VECTOR_BYTES == 64
  const __m512i odd = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 31 << 16 | 29, 27 << 16 | 25, 23 << 16 | 21,
                                       19 << 16 | 17, 15 << 16 | 13, 11 << 16 | 9, 7 << 16 | 5, 3 << 16 | 1);
  const __m512i words = _mm512_permutexvar_epi16(odd, (__m512i)upper);
  HalfWordVec lower;  // by memory: GCC warns of its own cast
  __builtin_memcpy(&lower, &words, sizeof(lower));
  return lower;
#else
  return __builtin_convertvector(upper >> 16, HalfWordVec);
#endif
}

inline HalfWordVec narrow(Vec<float> v, f16) {
#if FUSEDNORM_VECTOR_BYTES == 64
  return (HalfWordVec)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif FUSEDNORM_VECTOR_BYTES == 32
  return (HalfWordVec)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
  const WordVec word = bit_cast_to<WordVec>(v), u = word & 0x7fffffff;
  // To nearest, ties to even; adding 0.5 lines a subnormal's last bit up with float32's.
  const WordVec normal = (u + 0xc8000fff + ((u >> 13) & 1)) >> 13;
  const WordVec subnormal = bit_cast_to<WordVec>(bit_cast_to<Vec<float>>(u) + 0.5f) - 0x3f000000;
  WordVec half = u < 0x38800000 ? subnormal : normal;
  half = u >= 0x47800000 ? WordVec{} + 0x7c00 : half;
  half = u > 0x7f800000 ? WordVec{} + 0x7e00 : half;
  return __builtin_convertvector(half | ((word >> 16) & 0x8000), HalfWordVec);
#endif
}

template <class T>
inline void store(T* p, Vec<Compute<T>> v, Full) {
  if constexpr (sizeof(T) == 2) {
    HalfWordVec bits = narrow(v, T{});
    __builtin_memcpy(p, &bits, sizeof(bits));
  } else {
    __builtin_memcpy(p, &v, sizeof(v));
  }
}

template <class T>
inline void store(T* p, Vec<Compute<T>> v, Part part) {
#if FUSEDNORM_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 2)
    _mm256_mask_storeu_epi16(p, __mmask16((1u << part.count) - 1), (__m256i)narrow(v, T{}));
  else if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, __mmask16((1u << part.count) - 1), (__m512)v);
  else
    _mm512_mask_storeu_pd(p, __mmask8((1u << part.count) - 1), (__m512d)v);
#else
  T values[lanes<Compute<T>>];
  store(values, v, Full{});
  for (int i = 0; i < part.count; ++i) p[i] = values[i];
#endif
}

// A store that goes past the caches; p must be aligned to the stored bytes.
struct Streamed {};

template <class T>
inline void store(T* p, Vec<Compute<T>> v, Streamed) {
  if constexpr (sizeof(T) == 2) {
    HalfWordVec bits = narrow(v, T{});
#if FUSEDNORM_VECTOR_BYTES == 64
    _mm256_stream_si256((__m256i*)p, (__m256i)bits);
#elif FUSEDNORM_VECTOR_BYTES == 32
    _mm_stream_si128((__m128i*)p, (__m128i)bits);
#else
    __builtin_memcpy(p, &bits, sizeof(bits));
#endif
  } else {
#if FUSEDNORM_VECTOR_BYTES == 64
    _mm512_stream_si512((__m512i*)p, (__m512i)v);
#elif FUSEDNORM_VECTOR_BYTES == 32
    _mm256_stream_si256((__m256i*)p, (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i*)p, (__m128i)v);
#else
    __builtin_memcpy(p, &v, sizeof(v));
#endif
  }
}

inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <class T>
inline bool can_stream(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % FUSEDNORM_VECTOR_BYTES == 0;
}

// Not only for speed: GCC takes a function of nothing but a prefetch for one without effect, and drops calls to it.
FUSEDNORM_INLINED inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// ---- reductions and bits -------------------------------------------------------------------------------------------

// Two vectors of runs of `run` lanes, folded into one of twice as many runs, half as long: the halves of each are added.
template <int run, class V, int... i>
FUSEDNORM_INLINED inline V fold(V a, V b, std::integer_sequence<int, i...>) {
  // Run k begins at lane k*run, counted through a and b; lane i of the sum belongs to run 2i/run.
  return __builtin_shufflevector(a, b, (2 * i / run * run + i % (run / 2))...) +
         __builtin_shufflevector(a, b, (2 * i / run * run + run / 2 + i % (run / 2))...);
}
template <class A, int run>
FUSEDNORM_INLINED inline Vec<A> fold(Vec<A> a, Vec<A> b) {
  return fold<run>(a, b, std::make_integer_sequence<int, lanes<A>>{});
}
template <class A, int run>
FUSEDNORM_INLINED inline Vec<A> fold_all(Vec<A> v) {
  if constexpr (run > 1)
    return fold_all<A, run / 2>(fold<A, run>(v, v));
  else
    return v;
}

template <class A>
FUSEDNORM_INLINED inline A sum_lanes(Vec<A> v) {
  return fold_all<A, lanes<A>>(v)[0];
}

// sum_lanes of each of `count` vectors, in the same order of additions; four together cost hardly more than one.
template <class A, int count>
FUSEDNORM_INLINED inline void sum_lanes_of(const Vec<A>* v, A* sums) {
  constexpr int W = lanes<A>;
  if constexpr (count == 4 && W >= 4) {
    const Vec<A> all = fold_all<A, W / 4>(fold<A, W / 2>(fold<A, W>(v[0], v[1]), fold<A, W>(v[2], v[3])));
    for (int i = 0; i < 4; ++i) sums[i] = all[i];
  } else {
    for (int i = 0; i < count; ++i) sums[i] = sum_lanes<A>(v[i]);
  }
}

// Lane i of a comparison's result -> bit i.
template <class I>
inline uint64_t to_bits(I all_or_nothing) {
#if FUSEDNORM_VECTOR_BYTES == 64
  if constexpr (sizeof(all_or_nothing[0]) == 4) return _mm512_movepi32_mask((__m512i)all_or_nothing);
  return _mm512_movepi64_mask((__m512i)all_or_nothing);
#elif FUSEDNORM_VECTOR_BYTES == 32
  if constexpr (sizeof(all_or_nothing[0]) == 4) return uint64_t(_mm256_movemask_ps((__m256)all_or_nothing));
  return uint64_t(_mm256_movemask_pd((__m256d)all_or_nothing));
#else
  constexpr int n = FUSEDNORM_VECTOR_BYTES / sizeof(all_or_nothing[0]);
  uint64_t bits = 0;
  for (int i = 0; i < n; ++i) bits |= uint64_t(all_or_nothing[i] & 1) << i;
  return bits;
#endif
}

// Bit i of `bits` chooses between lane i of a and of b.
template <class A>
inline Vec<A> choose(uint64_t bits, Vec<A> a, Vec<A> b) {
  IntVec<A> lane_bit;
  for (int i = 0; i < lanes<A>; ++i) lane_bit[i] = decltype(lane_bit[0] + 0)(1) << i;
  IntVec<A> chosen = (IntVec<A>{} + decltype(lane_bit[0] + 0)(bits)) & lane_bit;
  return chosen != 0 ? a : b;
}

// Lane i of the result is lane index[i] of v.
template <class A>
inline Vec<A> permute(Vec<A> v, IntVec<A> index) {
#if defined(__clang__)
  Vec<A> permuted;
  for (int i = 0; i < lanes<A>; ++i) permuted[i] = v[index[i]];
  return permuted;
#else
  return __builtin_shuffle(v, index);
#endif
}

template <class A>
inline Vec<A> first_lanes(int count, Vec<A> v) {
  return choose<A>((uint64_t(1) << count) - 1, v, Vec<A>{});
}

// f(i, Full{}) over whole vectors of [0, n), then f(i, Part{rest}).
template <class A, class F>
inline void sweep(int64_t n, F&& f) {
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + lanes<A> <= n; i += lanes<A>) f(i, Full{});
  if (i < n) f(i, Part{int(n - i)});
}

// ---- functions -----------------------------------------------------------------------------------------------------

// exp: x = k ln2 + r, |r| <= ln2/2, Taylor to degree 7 in r (truncation under 1e-8 relative), times 2^k in two steps so
// that subnormal results survive. NaN stays NaN. Inlined where it is all that a loop waits for.
FUSEDNORM_INLINED inline Vec<float> inlined_exp(Vec<float> x) {
#if FUSEDNORM_VECTOR_BYTES == 64
  // NaN passes min and max as their second operand, and 2^k comes in one step. (maskz: GCC warns of its own plain
  // intrinsics.)
  constexpr __mmask16 all = 0xffff;
  const __m512 low = _mm512_maskz_max_ps(all, _mm512_set1_ps(-104.f), (__m512)x);
  const __m512 t = _mm512_maskz_min_ps(all, _mm512_set1_ps(89.f), low);
  const Vec<float> kf = (Vec<float>)_mm512_maskz_roundscale_ps(all, t * 1.44269504f, _MM_FROUND_TO_NEAREST_INT);
#else
  Vec<float> t = x < -104.f ? splat(-104.f) : x;
  t = t > 89.f ? splat(89.f) : t;
  IntVec<float> k = __builtin_convertvector(t * 1.44269504f + (t < 0.f ? splat(-0.5f) : splat(0.5f)), IntVec<float>);
  Vec<float> kf = __builtin_convertvector(k, Vec<float>);
#endif
  Vec<float> r = (Vec<float>)t - kf * 0.693359375f;
  r = r + kf * 2.12194440e-4f;
  Vec<float> p = splat(1.f / 5040);
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.f;
#if FUSEDNORM_VECTOR_BYTES == 64
  return (Vec<float>)_mm512_maskz_scalef_ps(all, (__m512)p, (__m512)kf);
#else
  IntVec<float> k1 = k >> 1, k2 = k - k1;
  Vec<float> y = p * bit_cast_to<Vec<float>>((k1 + 127) << 23) * bit_cast_to<Vec<float>>((k2 + 127) << 23);
  return x == x ? y : x;
#endif
}

inline Vec<float> vexp(Vec<float> x) { return inlined_exp(x); }

template <class F>
inline Vec<double> by_lane(Vec<double> x, F f) {
  Vec<double> y;
  for (int i = 0; i < lanes<double>; ++i) y[i] = f(x[i]);
  return y;
}

// float64 serves checks, not training: the C library's functions, lane by lane.
inline Vec<double> vexp(Vec<double> x) {
  return by_lane(x, [](double v) { return __builtin_exp(v); });
}
inline Vec<double> verfc(Vec<double> x) {
  return by_lane(x, [](double v) { return __builtin_erfc(v); });
}

template <class A, int n>
inline Vec<A> polynomial(const A (&coefficients)[n], Vec<A> x) {
  Vec<A> p = splat(coefficients[n - 1]);
  for (int i = n - 2; i >= 0; --i) p = p * x + coefficients[i];
  return p;
}

// erfc within 1.5e-7: below 1 through erf(x)/x as a polynomial in x², above through erfcx(x) = exp(x²) erfc(x) as one
// in 1/(1+x); both are Chebyshev fits in double precision. Negative x by erfc(-x) = 2 - erfc(x).
inline Vec<float> verfc(Vec<float> x) {
  static const float near[] = {1.12837917f,    -0.376126269f,    0.112835975f,   -0.0268543288f,
                               0.00518931194f, -0.000801885499f, 7.88249711e-05f};
  static const float far[] = {0.564189583f,  0.564188442f, 0.282237851f, -0.287237677f, -0.622389868f,
                              -0.846659162f, 4.96518455f,  -6.21403407f, 2.70136723f};
  Vec<float> u = x < 0.f ? -x : x;
  Vec<float> t = 1.f / (1.f + u);
  Vec<float> tail = t * polynomial(far, t) * vexp(-u * u);
  tail = x < 0.f ? 2.f - tail : tail;
  return u < 1.f ? 1.f - x * polynomial(near, x * x) : tail;
}

// By the name that the formulas shared with scalars know it.
FUSEDNORM_INLINED inline Vec<float> head_exp(Vec<float> x) { return inlined_exp(x); }
inline Vec<double> head_exp(Vec<double> x) { return vexp(x); }
