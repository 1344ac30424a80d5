// How the kernels walk a tensor: as runs of at most kRun consecutive elements of the innermost dimension (positions
// where planar, channels where channels_last). A tensor whose run is not contiguous in memory is staged through a small
// buffer, so that every stride is served without copying the whole tensor.
// Included once per instruction set, inside that set's namespace.

constexpr int64_t kRun = 4096;           // 16 KiB of float32: a run stays in L1 between two sweeps over it
constexpr int64_t kSegment = 16 * kRun;  // planes larger than this are split among threads, always in the same places

template <class T>
inline T* at(const Operand& t, const Shape& s, int64_t n, int64_t c, int64_t position) {
  T* plane = static_cast<T*>(t.data) + n * t.n + c * t.c;
  if (t.flat) return plane + position * t.p0;
  const int64_t row = position / s.P0, p2 = row / s.P1;
  return plane + p2 * t.p2 + (row - p2 * s.P1) * t.p1 + (position - row * s.P0) * t.p0;
}

template <class A>
inline A& at(const PerPlane& t, int64_t n, int64_t c) {
  return static_cast<A*>(t.data)[n * t.n + c * t.c];
}

// Planar: positions [p, p + length) of a plane, contiguous or not, as one run.
// channels_last: channels [c, c + length) of a position.
template <class T>
struct Run {
  const Operand& t;
  const Shape& s;
  int64_t n, c, p, length;

  T* start() const { return at<T>(t, s, n, c, p); }
  bool in_place() const { return s.channels_last ? t.c == 1 : t.flat && t.p0 == 1; }
  template <class F>
  void each(F&& f) const {  // f(index in the run, address)
    for (int64_t i = 0; i < length; ++i) f(i, s.channels_last ? at<T>(t, s, n, c + i, p) : at<T>(t, s, n, c, p + i));
  }
};

// A run to read: in place where contiguous, else gathered; null for an absent tensor.
template <class T, int64_t size = kRun>
struct Reader {
  T buffer[size];
  const T* operator()(const Run<T>& run) {
    if (run.t.data == nullptr) return nullptr;
    if (run.in_place()) return run.start();
    run.each([&](int64_t i, const T* p) { buffer[i] = *p; });
    return buffer;
  }
};

// A run to write: in place where contiguous, else scattered by `finish`.
template <class T, int64_t size = kRun>
struct Writer {
  T buffer[size];
  T* start(const Run<T>& run) {
    if (run.t.data == nullptr) return nullptr;
    return run.in_place() ? run.start() : buffer;
  }
  void finish(const Run<T>& run) {
    if (run.t.data == nullptr || run.in_place()) return;
    run.each([&](int64_t i, T* p) { *p = buffer[i]; });
  }
};

// A tensor without gaps in the order of the walk: element i of that lies at base + i. Small planes are walked by the
// thousand, and what finding each takes counts. `known` for an absent tensor too, base is null then.
template <class T>
struct Dense {
  T* base;
  bool known;

  Dense(const Operand& t, const Shape& s) : base(static_cast<T*>(t.data)), known(!t.data || is_dense(t, s)) {}
  T* at(int64_t i) const { return base ? base + i : nullptr; }

 private:
  static bool is_dense(const Operand& t, const Shape& s) {
    const int64_t S = s.positions(), inner = s.channels_last ? t.c : t.p0, outer = s.channels_last ? t.p0 : t.c;
    const int64_t inside = s.channels_last ? s.C : S, outside = s.channels_last ? S : s.C;
    return t.flat && (inner == 1 || inside == 1) && (outer == inside || outside == 1) && (t.n == s.C * S || s.N == 1);
  }
};

// Planes of so few values are walked several at a time where dense: sums of their vectors' lanes take as long for four as
// for one, and what has no sums walks them as one stream (woven_planes.h).
constexpr int64_t kSmallPlane = 64;

// A plane, counted through all samples, as sample and channel.
struct PlaneAt {
  int64_t n, c;
  PlaneAt(const Shape& s, int64_t plane) : n(plane / s.C), c(plane - n * s.C), C(s.C) {}
  void next() {
    if (++c == C) ++n, c = 0;
  }

 private:
  int64_t C;
};

// A lambda as the C callback that `parallel` takes.
template <class F>
inline void parallel_items(int64_t items, int64_t elements, F&& f) {
  using Body = typename std::remove_reference<F>::type;
  parallel(
      items, elements,
      [](void* context, int64_t begin, int64_t end) {
        Body& body = *static_cast<Body*>(context);
        for (int64_t i = begin; i < end; ++i) body(i);
      },
      &f);
}

// f(i, width) over S <= kSmallPlane values, `vectors` of them, a constant where they are few: the loop is unrolled.
template <class A, class F>
FUSEDNORM_INLINED inline void sweep_vectors(int64_t S, auto vectors, F&& f) {
  constexpr int W = lanes<A>;
  for (int64_t v = 0; v + 1 < vectors; ++v) f(v * W, Full{});
  const int64_t last = (vectors - 1) * W;
  if (S - last == W)
    f(last, Full{});
  else
    f(last, Part{int(S - last)});
}
template <class A, class F>
FUSEDNORM_INLINED inline void with_vectors(int64_t S, F&& f) {
  switch (const int64_t vectors = (S + lanes<A> - 1) / lanes<A>) {
    case 1:
      return f(std::integral_constant<int64_t, 1>{});
    case 2:
      return f(std::integral_constant<int64_t, 2>{});
    case 3:
      return f(std::integral_constant<int64_t, 3>{});
    case 4:
      return f(std::integral_constant<int64_t, 4>{});
    default:
      return f(vectors);
  }
}

// f(first plane, std::integral_constant of how many) over all planes.
template <class F>
inline void planes_in_fours(int64_t planes, int64_t elements, F&& f) {
  parallel_items((planes + 3) / 4, 4 * elements, [&](int64_t item) {
    if (item < planes / 4) return f(4 * item, std::integral_constant<int, 4>{});
    for (int64_t plane = 4 * item; plane < planes; ++plane) f(plane, std::integral_constant<int, 1>{});
  });
}

// parallel_items, each thread walking its items from the last to the first: a second pass over a tensor meets first what the
// pass before it left in the caches. Backwards goes by groups of 64 Ki elements; within one it is forwards, as the
// processor's prefetchers expect.
template <class F>
inline void parallel_items_backwards(int64_t items, int64_t elements, F&& f) {
  const int64_t group = max64(1, 65536 / max64(1, elements));
  auto body = [&](int64_t begin, int64_t end) {
    for (int64_t stop = end; stop > begin; stop -= group)
      for (int64_t i = max64(begin, stop - group); i < stop; ++i) f(i);
  };
  using Body = decltype(body);
  parallel(
      items, elements, [](void* context, int64_t begin, int64_t end) { (*static_cast<Body*>(context))(begin, end); },
      &body);
}

// Backwards: what comes after a pass that went forwards.
enum class Order { forwards, backwards };

template <class F>
inline void parallel_items(Order order, int64_t items, int64_t elements, F&& f) {
  if (order == Order::forwards)
    parallel_items(items, elements, f);
  else
    parallel_items_backwards(items, elements, f);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory for one kernel call, zeroed on request, 64-byte aligned.
template <class T>
struct Scratch {
  T* data;
  explicit Scratch(int64_t count, bool zero = false) {
    size_t bytes = size_t(ceil_div(max64(count, 1) * int64_t(sizeof(T)), 64) * 64);
    data = static_cast<T*>(aligned_alloc(64, bytes));
    if (data == nullptr) abort();  // inside torch's threads nothing could be thrown
    if (zero) memset(static_cast<void*>(data), 0, bytes);
  }
  ~Scratch() { free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

// channels_last: positions handled by one work item. Fixed by the shape alone, so that sums come out the same for any
// number of threads; large enough that its partial sums are small beside what it reads.
inline int64_t positions_per_item(const Shape& s) {
  int64_t fair = ceil_div(65536, s.C);
  return min64(s.positions(), max64(fair, 64));
}
