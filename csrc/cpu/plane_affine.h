// plane_affine: y = act(scale*(x - center) + shift + residual), and one bit a value where asked for; docs/engine.md
// Traffic: reads x (and residual), writes y: 2 units (3), the mask 1/32 unit of float32.
// Work: planar, one item a plane (or a segment of a large one, or a group of small ones); channels_last, one item a
// block of positions of a sample.
// Included once per instruction set, inside that set's namespace.

template <class T, class Coefficients>
inline void affine_run(const AffineArgs& args, const RunPointers<T>& p, const Coefficients& k) {
  using A = Compute<T>;
  constexpr int W = lanes<A>;
  constexpr int group = 4 * W;  // whole bytes of the mask on every instruction set
  const Act act = args.act;
  const int64_t n = p.length;
  const bool stream = args.shape.stream && can_stream(p.y);
  auto step = [&](int64_t i, auto width) -> uint64_t {
    Vec<A> z = affine(p.x, p.residual, k, i, width);
    store_out(p.y + i, act == Act::relu ? act_value<A>(Act::relu, z) : act_value<A>(act, z), width, stream);
    return p.mask ? to_bits(act_passes<A>(act, z)) : 0;
  };
  int64_t i = 0;
  for (; i + group <= n; i += group) {
    uint64_t bits = 0;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) bits |= step(i + j * W, Full{}) << (j * W);
    if (p.mask) __builtin_memcpy(p.mask + i / 8, &bits, group / 8);
  }
  if (i == n) return;
  const int64_t rest = i;
  uint64_t bits = 0;
  for (; i + W <= n; i += W) bits |= step(i, Full{}) << (i - rest);
  if (i < n) bits |= (step(i, Part{int(n - i)}) & ((uint64_t(1) << (n - i)) - 1)) << (i - rest);
  if (p.mask) store_bytes(p.mask + rest / 8, bits, (n - rest + 7) / 8);
}

// For kernels without sums.
template <class T, class RunBody>
inline void affine_items(const AffineArgs& k, RunBody run) {
  auto make_state = [](int64_t) { return Nothing{}; };
  auto body = [&](const auto& coefficients, const RunPointers<T>& p, Nothing, int64_t) { run(coefficients, p); };
  auto finish = [](int64_t, Nothing) {};
  if (k.shape.channels_last) return channels_last_items<T>(k, make_state, body, finish);
  if (const Weave<Compute<T>> weave(k); weave.fits)
    if (const DenseOperands<T> dense(k); dense.all()) return woven_items<T>(k, weave, dense, run);
  planar_items<T>(k, make_state, body, finish);
}

template <class T>
void plane_affine(const AffineArgs& k) {
  affine_items<T>(k, [&](const auto& coefficients, const RunPointers<T>& p) { affine_run(k, p, coefficients); });
}
