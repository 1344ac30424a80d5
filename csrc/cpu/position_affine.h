// position_affine, position_affine_reduce, _spread and _grad; docs/positions.md
//   e = scale*(x - center) + shift + outer*t,  q = R(gate_weight*u + gate_bias),  z = gain*e*q + bias + residual
//   g = dy*act'(z),  h = gain*g*q,  da = g*gain*e*R',  de = h + e_offset + e_slope*e
// Traffic: position_affine reads x (and residual), writes y: 2 units (3). reduce and spread read dy and x (and residual):
// 2 units (3), one more with g to write. grad reads dy and x, writes dx: 3 units.
// Included once per instruction set, inside that set's namespace.

// q: 1; sigmoid, and tanh as sigmoid of twice its argument; hsigmoid.
enum class Gate { none, smooth, hard };

// What a kernel asks about its arguments in the innermost loop.
struct AffineOptions {
  Act act;
  bool with_t, with_slope;
  float steepness;

  explicit AffineOptions(const PositionAffineArgs& k)
      : act(k.act), with_t(k.e.t), with_slope(k.e_slope), steepness(k.restrict_ == Restrict::tanh ? 2 : 1) {}
};

// Values per plane and values per position: Value is Same or Each (position_values.h).
template <class Value>
struct PlaneTerms {
  Value center, scale, shift, outer, gain, bias, gate_weight, gate_bias;

  template <class F>
  static PlaneTerms from(const PositionAffineArgs& k, F&& value) {
    return {value(k.e.center), value(k.e.scale), value(k.e.shift),     value(k.e.outer),
            value(k.gain),     value(k.bias),    value(k.gate_weight), value(k.gate_bias)};
  }
};
template <class Value>
struct PlaceTerms {
  Value t, u, offset, slope;

  template <class F>
  static PlaceTerms from(const PositionAffineArgs& k, F&& value) {
    return {value(k.e.t), value(k.u), value(k.e_offset), value(k.e_slope)};
  }
};

// The maps' runs: read in place or gathered, written in place or scattered.
template <class T>
struct MapRun {
  const T *x, *residual, *dy;
  T* y;
  bool stream;
};

// channels_last: the runs of a few positions, at equal distances.
template <class T>
struct MapRows {
  MapRun<T> first;
  int64_t x, residual, dy, y;

  MapRun<T> operator[](int64_t r) const {
    auto row = [r](auto* p, int64_t stride) { return p ? p + r * stride : p; };
    return {row(first.x, x), row(first.residual, residual), row(first.dy, dy), row(first.y, y), first.stream};
  }
};

// What is read next of the maps, in elements from what is read now. The processor's own prefetchers lose track of
// several short runs side by side.
struct Ahead {
  int64_t x, residual, dy;

  template <class T>
  FUSEDNORM_INLINED void fetch(const MapRun<T>& map, int64_t i) const {
    prefetch(map.x + i + x);
    if (map.dy) prefetch(map.dy + i + dy);
    if (map.residual) prefetch(map.residual + i + residual);
  }
};
template <class T>
inline Ahead ahead_of(const PositionAffineArgs& k) {
  return {ahead_of<T>(k.x, k.shape), ahead_of<T>(k.residual, k.shape), ahead_of<T>(k.dy, k.shape)};
}

template <class T>
class MapReaders {
 public:
  MapRun<T> open(const PositionAffineArgs& k, int64_t n, int64_t c, int64_t p, int64_t length) {
    auto of = [&](const Operand& t) { return Run<T>{t, k.shape, n, c, p, length}; };
    T* y = y_.start(of(k.y));
    return {x_(of(k.x)), residual_(of(k.residual)), dy_(of(k.dy)), y, k.shape.stream && y && can_stream(y)};
  }
  void close(const PositionAffineArgs& k, int64_t n, int64_t c, int64_t p, int64_t length) {
    y_.finish(Run<T>{k.y, k.shape, n, c, p, length});
  }

 private:
  Reader<T> x_, residual_, dy_;
  Writer<T> y_;
};

// channels_last: channels [c, c + length) of `rows` positions from p on.
constexpr int64_t kRows = 8, kRowStep = kRun / kRows;

template <class T>
class RowReaders {
 public:
  RowReaders(const PositionAffineArgs& k, int64_t n) : k_(k), n_(n) {}

  MapRows<T> open(int64_t p, int64_t rows, int64_t c, int64_t length) {
    MapRows<T> map;
    map.first.x = read(k_.x, x_, map.x, p, rows, c, length);
    map.first.residual = read(k_.residual, residual_, map.residual, p, rows, c, length);
    map.first.dy = read(k_.dy, dy_, map.dy, p, rows, c, length);
    map.first.y = in_place(k_.y, map.y) ? at<T>(k_.y, k_.shape, n_, c, p) : k_.y.data ? y_ : nullptr;
    map.first.stream = k_.shape.stream && k_.y.data && can_stream(map.first.y) && can_stream(map.first.y + map.y);
    return map;
  }
  void close(int64_t p, int64_t rows, int64_t c, int64_t length) {
    int64_t stride;
    if (k_.y.data == nullptr || in_place(k_.y, stride)) return;
    for (int64_t r = 0; r < rows; ++r)
      Run<T>{k_.y, k_.shape, n_, c, p + r, length}.each([&](int64_t i, T* to) { *to = y_[r * kRowStep + i]; });
  }

 private:
  static bool in_place(const Operand& t, int64_t& stride) {
    const bool here = t.data && t.c == 1 && t.flat;
    stride = here ? t.p0 : kRowStep;
    return here;
  }
  const T* read(const Operand& t, T* buffer, int64_t& stride, int64_t p, int64_t rows, int64_t c, int64_t length) {
    if (in_place(t, stride)) return at<T>(t, k_.shape, n_, c, p);
    if (t.data == nullptr) return nullptr;
    for (int64_t r = 0; r < rows; ++r)
      Run<T>{t, k_.shape, n_, c, p + r, length}.each(
          [&](int64_t i, const T* from) { buffer[r * kRowStep + i] = *from; });
    return buffer;
  }

  const PositionAffineArgs& k_;
  int64_t n_;
  T x_[kRun], residual_[kRun], dy_[kRun], y_[kRun];
};

// f(first position, positions, first channel, channels) over [begin, end) and all channels, a few rows at a time.
template <class F>
inline void row_groups(int64_t begin, int64_t end, int64_t C, F&& f) {
  for (int64_t p = begin; p < end; p += kRows)
    for (int64_t c = 0; c < C; c += kRowStep) f(p, min64(kRows, end - p), c, min64(kRowStep, C - c));
}

template <class A>
struct Forward {
  Vec<A> d, e, m, a, q, z;  // m: gain*e, a: R's argument
};
template <Gate gate>
constexpr Restrict kRestrict = gate == Gate::hard ? Restrict::hsigmoid : Restrict::sigmoid;

template <Gate gate, class T, class Plane, class Place, class Width>
FUSEDNORM_INLINED inline Forward<Compute<T>> forward_at(const AffineOptions& o, const MapRun<T>& map,
                                                        const PlaneTerms<Plane>& c, const PlaceTerms<Place>& p,
                                                        int64_t i, Width width) {
  using A = Compute<T>;
  Forward<A> f;
  f.d = load(map.x + i, width) - c.center(i, width);
  f.e = c.scale(i, width) * f.d + c.shift(i, width);
  if (o.with_t) f.e += c.outer(i, width) * p.t(i, width);
  f.m = c.gain(i, width) * f.e;
  if constexpr (gate != Gate::none) {
    f.a = c.gate_weight(i, width) * p.u(i, width) + c.gate_bias(i, width);
    if constexpr (gate == Gate::smooth) f.a *= A(o.steepness);
    f.q = restricted(kRestrict<gate>, f.a);
    f.z = f.m * f.q + c.bias(i, width);
  } else {
    f.z = f.m + c.bias(i, width);
  }
  if (map.residual) f.z += load(map.residual + i, width);
  return f;
}

template <class A>
struct Backward {
  Vec<A> d, e, q, g, de, da;
};

template <Gate gate, Source source, class T, class Plane, class Place, class Width>
FUSEDNORM_INLINED inline Backward<Compute<T>> backward_at(const AffineOptions& o, const MapRun<T>& map,
                                                          const PlaneTerms<Plane>& c, const PlaceTerms<Place>& p,
                                                          int64_t i, Width width) {
  using A = Compute<T>;
  const Forward<A> f = forward_at<gate>(o, map, c, p, i, width);
  Backward<A> b;
  b.d = f.d, b.e = f.e;
  b.g = load(map.dy + i, width);
  if constexpr (source == Source::relu) b.g = act_gradient<A>(Act::relu, b.g, f.z);
  if constexpr (source == Source::other) b.g = act_gradient<A>(o.act, b.g, f.z);
  b.de = c.gain(i, width) * b.g;
  if constexpr (gate != Gate::none) {
    b.q = f.q;
    b.de *= f.q;
    b.da = b.g * f.m * restricted_slope(kRestrict<gate>, f.a, f.q);
    if constexpr (gate == Gate::smooth) b.da *= A(o.steepness);
  }
  if (o.with_slope) b.de += p.offset(i, width) + p.slope(i, width) * f.e;
  return b;
}

// f(gate, source) as constants.
template <Gate value_>
struct GateConstant {
  static constexpr Gate value = value_;
};
template <class F>
inline void with_gate(const PositionAffineArgs& k, F&& f) {
  if (!k.u)
    f(GateConstant<Gate::none>{});
  else if (k.restrict_ == Restrict::hsigmoid)
    f(GateConstant<Gate::hard>{});
  else
    f(GateConstant<Gate::smooth>{});
}
template <class F>
inline void with_gate_and_source(const PositionAffineArgs& k, F&& f) {
  with_gate(k, [&](auto gate) {
    if (k.act == Act::identity)
      f(gate, SourceConstant<Source::identity>{});
    else if (k.act == Act::relu)
      f(gate, SourceConstant<Source::relu>{});
    else
      f(gate, SourceConstant<Source::other>{});
  });
}

// channels_last: the values of a sample, `more` of the kernel's own after those of PlaneTerms.
constexpr int kPlaneTerms = 8;
template <class A, int more>
struct SampleTerms {
  PackedValues<A, kPlaneTerms + more> values;

  SampleTerms(const PositionAffineArgs& k, int64_t n) : values(k.shape, n) {
    for (const PerPlane* t : {&k.e.center, &k.e.scale, &k.e.shift, &k.e.outer}) values.add(*t);
    for (const PerPlane* t : {&k.gain, &k.bias, &k.gate_weight, &k.gate_bias}) values.add(*t);
  }
  PlaneTerms<Packed<A, kPlaneTerms + more>> at(int64_t c) const {
    return {values(0, c), values(1, c), values(2, c), values(3, c),
            values(4, c), values(5, c), values(6, c), values(7, c)};
  }
};

template <class A>
inline PlaneTerms<Same<A>> plane_terms(const PositionAffineArgs& k, int64_t n, int64_t c) {
  return PlaneTerms<Same<A>>::from(k, [&](const PerPlane& t) { return plane_value<A>(t, n, c); });
}
template <class A>
inline PlaceTerms<Each<A>> places(const PositionAffineArgs& k, int64_t i) {
  return PlaceTerms<Each<A>>::from(k, [&](const void* t) { return position_values<A>(t, i); });
}
template <class A>
inline PlaceTerms<Same<A>> place(const PositionAffineArgs& k, int64_t i) {
  return PlaceTerms<Same<A>>::from(k, [&](const void* t) { return position_value<A>(t, i); });
}

// Kernels without sums: element(map, plane terms, place terms, own, i, width) for every vector. `own` are the kernel's
// own values, which `extras` makes for a run.
template <class T, class Extras, class Element>
inline void position_elements(const PositionAffineArgs& k, const Extras& extras, Element element) {
  using A = Compute<T>;
  const Shape& s = k.shape;
  const int64_t S = s.positions();
  if (!s.channels_last) {
    planar_tiles(s, Tiles(s, kRun), [&](int64_t n, int64_t begin, int64_t end, int64_t, int64_t p, int64_t length) {
      MapReaders<T> maps;
      const auto there = places<A>(k, n * S + p);
      for (int64_t c = begin; c < end; ++c) {
        const auto map = maps.open(k, n, c, p, length);
        const auto here = plane_terms<A>(k, n, c);
        const auto own = extras.planar(n, c, n * S + p);
        step_through<A>(length,
                        [&](int64_t i, auto width) FUSEDNORM_INLINED { element(map, here, there, own, i, width); });
        maps.close(k, n, c, p, length);
      }
      if (s.stream) stream_fence();
    });
    return;
  }
  position_blocks(s, [&](int64_t n, int64_t begin, int64_t end, int64_t) {
    SampleTerms<A, Extras::count> terms(k, n);
    extras.sample(terms.values);
    RowReaders<T> maps(k, n);
    row_groups(begin, end, s.C, [&](int64_t p, int64_t rows, int64_t c, int64_t length) {
      const auto here = terms.at(c);
      const auto all = maps.open(p, rows, c, length);
      for (int64_t r = 0; r < rows; ++r) {
        const auto map = all[r];
        const auto there = place<A>(k, n * S + p + r);
        const auto own = extras.channels_last(terms.values, c, n * S + p + r);
        step_through<A>(length,
                        [&](int64_t i, auto width) FUSEDNORM_INLINED { element(map, here, there, own, i, width); });
      }
      maps.close(p, rows, c, length);
    });
  });
}

struct NoExtras {
  static constexpr int count = 0;
  Nothing planar(int64_t, int64_t, int64_t) const { return {}; }
  template <class Values>
  void sample(Values&) const {}
  template <class Values>
  Nothing channels_last(const Values&, int64_t, int64_t) const {
    return {};
  }
};

template <class T>
void position_affine(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const AffineOptions o(k);
  with_gate(k, [&](auto gate) {
    position_elements<T>(
        k, NoExtras{},
        [=](const auto& map, const auto& c, const auto& p, Nothing, int64_t i, auto width) FUSEDNORM_INLINED {
          const Vec<A> z = forward_at<gate.value>(o, map, c, p, i, width).z;
          const Vec<A> y = o.act == Act::relu ? act_value<A>(Act::relu, z) : act_value<A>(o.act, z);
          store_out(map.y + i, y, width, map.stream);
        });
  });
}

// grad's own values: a, b, outers, weight; rows, h.
template <class PlaneValue, class PlaceValue>
struct GradTerms {
  PlaneValue a, b, outer0, outer1, outer2, weight;
  PlaceValue row0, row1, row2, h;
};

template <class A>
struct GradExtras {
  const PositionAffineArgs& k;

  GradTerms<Same<A>, Each<A>> planar(int64_t n, int64_t c, int64_t i) const {
    auto plane = [&](const PerPlane& t) { return plane_value<A>(t, n, c); };
    auto places = [&](const void* t) { return position_values<A>(t, i); };
    return {plane(k.a),      plane(k.b),        plane(k.outers[0]), plane(k.outers[1]), plane(k.outers[2]),
            plane(k.weight), places(k.rows[0]), places(k.rows[1]),  places(k.rows[2]),  places(k.h)};
  }
  static constexpr int count = 6;
  template <class Values>
  void sample(Values& values) const {
    for (const PerPlane* t : {&k.a, &k.b, &k.outers[0], &k.outers[1], &k.outers[2], &k.weight}) values.add(*t);
  }
  template <class Values>
  auto channels_last(const Values& values, int64_t c, int64_t i) const {
    auto plane = [&](int number) { return values(kPlaneTerms + number, c); };
    auto place = [&](const void* t) { return position_value<A>(t, i); };
    return GradTerms<decltype(plane(0)), Same<A>>{plane(0),         plane(1),  plane(2),         plane(3),
                                                  plane(4),         plane(5),  place(k.rows[0]), place(k.rows[1]),
                                                  place(k.rows[2]), place(k.h)};
  }
};

template <class T>
void position_affine_grad(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const AffineOptions o(k);
  const bool moments = k.a.data, weighted = k.h;
  const int outers = k.outer_count;
  const Kind kind = k.kind;
  with_gate_and_source(k, [&](auto gate, auto source) {
    position_elements<T>(k, GradExtras<A>{k},
                         [=](const auto& map, const auto& c, const auto& p, const auto& own, int64_t i, auto width)
                             FUSEDNORM_INLINED {
                               const auto b = backward_at<gate.value, source.value>(o, map, c, p, i, width);
                               Vec<A> dx = c.scale(i, width) * b.de;
                               if (moments) dx += own.a(i, width) * b.d + own.b(i, width);
                               if (outers > 0) dx += own.outer0(i, width) * own.row0(i, width);
                               if (outers > 1) dx += own.outer1(i, width) * own.row1(i, width);
                               if (outers > 2) dx += own.outer2(i, width) * own.row2(i, width);
                               if (weighted) dx += own.weight(i, width) * own.h(i, width) * kind_slope<A>(kind, b.d);
                               store_out(map.y + i, dx, width, map.stream);
                             });
  });
}
