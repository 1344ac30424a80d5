// The loop that the three affine kernels share: which thread handles which part of the tensor, run by run.
//   State state(item)                        made for every item, on its thread
//   run(k, x, residual, dy, y, mask, length, state, offset)
//                                            a run: its coefficients, its pointers (null where absent), its offset in a
//                                            row
//   finish(item, state)                      after the item's last run
// Included once per instruction set, inside that set's namespace.

template <class T>
struct RunPointers {
  const T *x, *residual, *dy;
  T *y, *g;  // g: plane_affine_grad's second output
  uint8_t* mask;
  int64_t length;
};

// The operands, packed or not.
template <class T>
struct DenseOperands {
  Dense<T> x, residual, dy, y, g;
  bool all() const { return x.known && residual.known && dy.known && y.known && g.known; }
  // The run that begins with element `first` of the walk, where all are.
  RunPointers<T> run(int64_t first, uint8_t* mask, int64_t length) const {
    return {x.at(first), residual.at(first), dy.at(first), y.at(first), g.at(first), mask, length};
  }
  explicit DenseOperands(const AffineArgs& k)
      : x(k.x, k.shape), residual(k.residual, k.shape), dy(k.dy, k.shape), y(k.y, k.shape), g(k.g, k.shape) {}
};

// A thread's buffers for those that are not.
template <class T>
struct Buffers {
  Reader<T> x, residual, dy;
  Writer<T> y, g;
};

// f(pointers) for the run at sample n, channel c, position p: element `first` of the walk.
template <class T, class F>
FUSEDNORM_INLINED inline void with_pointers(const AffineArgs& k, const DenseOperands<T>& packed, Buffers<T>& buffers,
                                            int64_t n, int64_t c, int64_t p, int64_t length, int64_t first,
                                            uint8_t* mask, F&& f) {
  auto of = [&](const Operand& t) { return Run<T>{t, k.shape, n, c, p, length}; };
  auto in = [&](const Dense<T>& t, const Operand& o, Reader<T>& r) { return t.known ? t.at(first) : r(of(o)); };
  auto out = [&](const Dense<T>& t, const Operand& o, Writer<T>& w) { return t.known ? t.at(first) : w.start(of(o)); };
  f(RunPointers<T>{in(packed.x, k.x, buffers.x), in(packed.residual, k.residual, buffers.residual),
                   in(packed.dy, k.dy, buffers.dy), out(packed.y, k.y, buffers.y), out(packed.g, k.g, buffers.g), mask,
                   length});
  if (!packed.y.known) buffers.y.finish(of(k.y));
  if (!packed.g.known) buffers.g.finish(of(k.g));
}

// Planar: one item a plane, or a segment of a large one: item = plane * segments + segment.
inline int64_t planar_segments(const Shape& s) { return ceil_div(s.positions(), kSegment); }

template <class T, class MakeState, class RunBody, class Finish>
inline void planar_items(const AffineArgs& k, MakeState make_state, RunBody run, Finish finish, int64_t step = kRun,
                         Order order = Order::backwards) {
  const Shape& s = k.shape;
  const int64_t S = s.positions(), segments = planar_segments(s), mask_bytes = ceil_div(S, 8);
  const DenseOperands<T> packed(k);
  parallel_items(order, s.N * s.C * segments, min64(S, kSegment), [&](int64_t item) {
    const int64_t plane = segments == 1 ? item : item / segments, n = plane / s.C, c = plane - n * s.C;
    const int64_t begin = (item - plane * segments) * kSegment, end = min64(begin + kSegment, S);
    const Uniform<Compute<T>> coefficients(k, n, c);
    Buffers<T> buffers;
    auto state = make_state(item);
    for (int64_t p = begin; p < end; p += step) {
      uint8_t* mask = k.mask ? k.mask + plane * mask_bytes + p / 8 : nullptr;
      with_pointers<T>(k, packed, buffers, n, c, p, min64(step, end - p), plane * S + p, mask,
                       [&](const RunPointers<T>& pointers) { run(coefficients, pointers, state, int64_t(0)); });
    }
    finish(item, state);
    if (s.stream) stream_fence();
  });
}

// channels_last: one item a block of positions of a sample: item = n * blocks + block.
inline int64_t channels_last_blocks(const Shape& s) { return ceil_div(s.positions(), positions_per_item(s)); }

// How many rows are packed as one: more than one where rows are short and every tensor dense.
template <class T>
inline int64_t rows_per_run(const AffineArgs& k) {
  const Shape& s = k.shape;
  if (s.C >= 256 || (k.mask && s.C % 8 != 0)) return 1;
  for (const Operand* t : {&k.x, &k.residual, &k.dy, &k.g, &k.y})
    if (t->data && !(t->flat && t->c == 1 && t->p0 == s.C)) return 1;
  return max64(1, min64(512 / s.C, s.positions()));
}

template <class T, class MakeState, class RunBody, class Finish>
inline void channels_last_items(const AffineArgs& k, MakeState make_state, RunBody run, Finish finish,
                                Order order = Order::backwards) {
  const Shape& s = k.shape;
  const int64_t S = s.positions(), C = s.C, step = positions_per_item(s), blocks = channels_last_blocks(s);
  const int64_t group = rows_per_run<T>(k), mask_bytes = ceil_div(C, 8);
  const DenseOperands<T> packed(k);
  parallel_items(order, s.N * blocks, step * C, [&](int64_t item) {
    const int64_t n = item / blocks, begin = item % blocks * step, end = min64(begin + step, S);
    const AlongMemory<Compute<T>> coefficients(k, n, group);
    Buffers<T> buffers;
    auto state = make_state(item);
    for (int64_t p = begin; p < end; p += group) {
      const int64_t rows = min64(group, end - p), row = rows * C;
      for (int64_t c = 0; c < row; c += kRun) {
        uint8_t* mask = k.mask ? k.mask + (n * S + p) * mask_bytes + c / 8 : nullptr;
        with_pointers<T>(k, packed, buffers, n, c, p, min64(kRun, row - c), (n * S + p) * C + c, mask,
                         [&](const RunPointers<T>& pointers) { run(coefficients.view.from(c), pointers, state, c); });
      }
    }
    finish(item, state);
    if (s.stream) stream_fence();
  });
}

struct Nothing {};  // the state of kernels without sums
