// position_affine, position_affine_reduce, _spread and _grad; docs/positions.md
//   e = scale*(x - center) + shift + outer*t,  q = R(gate_weight*u + gate_bias),  z = gain*e*q + bias + residual
//   g = dy*act'(z),  h = gain*g*q,  da = g*gain*e*R',  de = h + e_offset + e_slope*e
// Traffic: position_affine reads x (and residual), writes y: 2 units (3). reduce and spread read dy and x (and residual):
// 2 units (3), one more with g to write. grad reads dy and x, writes dx: 3 units.
// Included once per instruction set, inside that set's namespace.

// What a kernel asks about its arguments in the innermost loop.
struct AffineOptions {
  Act act;
  Restrict restrict_;
  bool with_t, with_slope, stream;

  explicit AffineOptions(const PositionAffineArgs& k)
      : act(k.act), restrict_(k.restrict_), with_t(k.e.t), with_slope(k.e_slope), stream(k.shape.stream) {}
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

template <class T, int64_t size>
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
  Reader<T, size> x_, residual_, dy_;
  Writer<T, size> y_;
};

template <class A>
struct Forward {
  Vec<A> d, e, m, a, q, z;  // m: gain*e, a: R's argument
};

template <bool gated, class T, class Plane, class Place, class Width>
FUSEDNORM_INLINED inline Forward<Compute<T>> forward_at(const AffineOptions& o, const MapRun<T>& map,
                                                        const PlaneTerms<Plane>& c, const PlaceTerms<Place>& p,
                                                        int64_t i, Width width) {
  using A = Compute<T>;
  Forward<A> f;
  f.d = load(map.x + i, width) - c.center(i, width);
  f.e = c.scale(i, width) * f.d + c.shift(i, width);
  if (o.with_t) f.e += c.outer(i, width) * p.t(i, width);
  f.m = c.gain(i, width) * f.e;
  if constexpr (gated) {
    f.a = c.gate_weight(i, width) * p.u(i, width) + c.gate_bias(i, width);
    f.q = restricted(o.restrict_, f.a);
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

template <bool gated, Source source, class T, class Plane, class Place, class Width>
FUSEDNORM_INLINED inline Backward<Compute<T>> backward_at(const AffineOptions& o, const MapRun<T>& map,
                                                          const PlaneTerms<Plane>& c, const PlaceTerms<Place>& p,
                                                          int64_t i, Width width) {
  using A = Compute<T>;
  const Forward<A> f = forward_at<gated>(o, map, c, p, i, width);
  Backward<A> b;
  b.d = f.d, b.e = f.e;
  b.g = load(map.dy + i, width);
  if constexpr (source == Source::relu) b.g = act_gradient<A>(Act::relu, b.g, f.z);
  if constexpr (source == Source::other) b.g = act_gradient<A>(o.act, b.g, f.z);
  b.de = c.gain(i, width) * b.g;
  if constexpr (gated) {
    b.q = f.q;
    b.de *= f.q;
    b.da = b.g * f.m * restricted_slope(o.restrict_, f.a, f.q);
  }
  if (o.with_slope) b.de += p.offset(i, width) + p.slope(i, width) * f.e;
  return b;
}

// f(gated, source) as constants.
template <bool value_>
struct BoolConstant {
  static constexpr bool value = value_;
};
template <class F>
inline void with_gate(const PositionAffineArgs& k, F&& f) {
  if (k.u)
    f(BoolConstant<true>{});
  else
    f(BoolConstant<false>{});
}
template <class F>
inline void with_gate_and_source(const PositionAffineArgs& k, F&& f) {
  with_gate(k, [&](auto gated) {
    if (k.act == Act::identity)
      f(gated, SourceConstant<Source::identity>{});
    else if (k.act == Act::relu)
      f(gated, SourceConstant<Source::relu>{});
    else
      f(gated, SourceConstant<Source::other>{});
  });
}

// channels_last: the arrays of a sample, from which a run's values are taken in the same order.
constexpr int kPlaneTerms = 8;
template <class A>
struct SampleTerms {
  SampleValues<A, kPlaneTerms + 6> values;  // and six of grad's own, or one of spread's
  PlaneTerms<const A*> arrays;

  SampleTerms(const PositionAffineArgs& k, int64_t n)
      : values(k.shape, n), arrays(PlaneTerms<const A*>::from(k, values)) {}
  PlaneTerms<Each<A>> at(int64_t c) const {
    auto from = [&](const A* p) { return Each<A>{p ? p + c : nullptr}; };
    return {from(arrays.center), from(arrays.scale), from(arrays.shift),       from(arrays.outer),
            from(arrays.gain),   from(arrays.bias),  from(arrays.gate_weight), from(arrays.gate_bias)};
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
      MapReaders<T, kRun> maps;
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
    SampleTerms<A> terms(k, n);
    const auto arrays = extras.sample(terms.values);
    MapReaders<T, kRun> maps;
    for (int64_t p = begin; p < end; ++p) {
      const auto there = place<A>(k, n * S + p);
      for (int64_t c = 0; c < s.C; c += kRun) {
        const int64_t length = min64(kRun, s.C - c);
        const auto map = maps.open(k, n, c, p, length);
        const auto here = terms.at(c);
        const auto own = extras.channels_last(arrays, c, n * S + p);
        step_through<A>(length,
                        [&](int64_t i, auto width) FUSEDNORM_INLINED { element(map, here, there, own, i, width); });
        maps.close(k, n, c, p, length);
      }
    }
  });
}

struct NoExtras {
  Nothing planar(int64_t, int64_t, int64_t) const { return {}; }
  template <class Values>
  Nothing sample(Values&) const {
    return {};
  }
  Nothing channels_last(Nothing, int64_t, int64_t) const { return {}; }
};

template <class T>
void position_affine(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const AffineOptions o(k);
  with_gate(k, [&](auto gated) {
    position_elements<T>(
        k, NoExtras{},
        [=](const auto& map, const auto& c, const auto& p, Nothing, int64_t i, auto width) FUSEDNORM_INLINED {
          const Vec<A> z = forward_at<gated.value>(o, map, c, p, i, width).z;
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
  struct Arrays {
    const A *a, *b, *outer0, *outer1, *outer2, *weight;
  };
  template <class Values>
  Arrays sample(Values& values) const {
    return {values(k.a), values(k.b), values(k.outers[0]), values(k.outers[1]), values(k.outers[2]), values(k.weight)};
  }
  GradTerms<Each<A>, Same<A>> channels_last(const Arrays& arrays, int64_t c, int64_t i) const {
    auto from = [&](const A* p) { return Each<A>{p ? p + c : nullptr}; };
    auto place = [&](const void* t) { return position_value<A>(t, i); };
    return {from(arrays.a),      from(arrays.b),   from(arrays.outer0), from(arrays.outer1), from(arrays.outer2),
            from(arrays.weight), place(k.rows[0]), place(k.rows[1]),    place(k.rows[2]),    place(k.h)};
  }
};

template <class T>
void position_affine_grad(const PositionAffineArgs& k) {
  using A = Compute<T>;
  const AffineOptions o(k);
  const bool moments = k.a.data, weighted = k.h;
  const int outers = k.outer_count;
  const Kind kind = k.kind;
  with_gate_and_source(k, [&](auto gated, auto source) {
    position_elements<T>(k, GradExtras<A>{k},
                         [=](const auto& map, const auto& c, const auto& p, const auto& own, int64_t i, auto width)
                             FUSEDNORM_INLINED {
                               const auto b = backward_at<gated.value, source.value>(o, map, c, p, i, width);
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
