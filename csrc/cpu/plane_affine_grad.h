// plane_affine_grad: dx = scale*g + a*(x - center) + b,  g = dy*act'(z); docs/engine.md
// Traffic: reads g or dy, and x, writes dx: 3 units; without a and b and with g at hand x is not read: 2 units. With a place
// for g given, writes it too: 4 units.
// Work: as plane_affine's.
// Included once per instruction set, inside that set's namespace.

template <Source source, class T>
void grad_by_source(const AffineArgs& k) {
  using A = Compute<T>;
  const bool moments = k.a.data != nullptr;
  affine_items<T>(k, [&](const auto& coefficients, const RunPointers<T>& p) {
    // where dx takes dy's place, its lines are in the cache anyway
    const bool stream = k.shape.stream && p.y != p.dy && can_stream(p.y),
               stream_g = k.shape.stream && p.g && can_stream(p.g);
    sweep_masked<A>(p.mask, p.length, [&](int64_t i, auto width, uint64_t bits, auto) {
      Vec<A> g = gradient<source>(k, p.dy, p.x, p.residual, bits, coefficients, i, width);
      Vec<A> dx = coefficients.get_scale(i, width) * g;
      if (moments)
        dx += coefficients.get_a(i, width) * (load(p.x + i, width) - coefficients.get_center(i, width)) +
              coefficients.get_b(i, width);
      if (p.g) store_out(p.g + i, g, width, stream_g);
      store_out(p.y + i, dx, width, stream);
    });
  });
}

template <class T>
void plane_affine_grad(const AffineArgs& k) {
  with_source(k, [&](auto source) { grad_by_source<source.value, T>(k); });
}
