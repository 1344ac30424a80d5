#include "position_pass.h"

#include <algorithm>

#include "tuning.h"

namespace fusednorm {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

PositionPass pass_over(const Shape& shape, const Operand& map) {
  PositionPass p{};
  p.shape = shape;
  p.maps[0] = map;
  return p;
}

void set_e(PositionPass& p, const Standardized& e) {
  p.coefficients[kCenter] = e.center, p.coefficients[kScale] = e.scale;
  p.coefficients[kShift] = e.shift, p.coefficients[kOuter] = e.outer;
  p.rows[kT] = e.t;
}

// Tiles are read 16 bytes at a time where all planes begin at such a boundary, and end at one.
bool in_tiles(const Shape& s, const Operand& t) {
  const int64_t values = 16 / element_bytes(s.type);
  return s.positions() % values == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         (t.c % values == 0 || s.C == 1) && (t.n % values == 0 || s.N == 1);
}

bool in_vectors(const PositionPass& k) {
  return k.shape.type != Type::f64 && all_in_vectors(k.shape, {&k.maps[0], &k.maps[1], &k.maps[2], &k.out});
}

}  // namespace

PositionPass reduce_pass(const PositionReduceArgs& k) {
  PositionPass p = pass_over(k.shape, k.x);
  p.kind = k.kind;
  p.coefficients[0] = k.center, p.coefficients[1] = k.weight;
  return p;
}

PositionPass pool_pass(const PlanePoolArgs& k) {
  PositionPass p = pass_over(k.shape, k.x);
  p.kind = k.kind;
  p.coefficients[0] = k.center;
  p.rows[0] = k.q;
  return p;
}

PositionPass moments_pass(const PositionMomentsArgs& k) {
  PositionPass p = pass_over(k.shape, k.x);
  set_e(p, k.e);
  return p;
}

PositionPass forward_pass(const PositionAffineArgs& k) {
  PositionPass p = pass_over(k.shape, k.x);
  p.act = k.act, p.restrict = k.restrict_, p.kind = k.kind;
  p.maps[1] = k.residual, p.out = k.y;
  set_e(p, k.e);
  p.coefficients[kGain] = k.gain, p.coefficients[kBias] = k.bias;
  p.coefficients[kGateWeight] = k.gate_weight, p.coefficients[kGateBias] = k.gate_bias;
  p.rows[kU] = k.u;
  return p;
}

PositionPass backward_pass(const PositionAffineArgs& k) {
  PositionPass p = forward_pass(k);
  p.shape.stream = false;  // g is read back by the next pass
  p.maps[0] = k.dy, p.maps[1] = k.x, p.maps[2] = k.act == Act::identity ? Operand{} : k.residual;
  p.rows[kOffset] = k.e_offset, p.rows[kSlope] = k.e_slope;
  return p;
}

PositionPass spread_pass(const PositionAffineArgs& k) {
  PositionPass p = backward_pass(k);
  p.coefficients[kPool] = k.pool;
  return p;
}

PositionPass grad_pass(const PositionAffineArgs& k) {
  PositionPass p = backward_pass(k);
  p.shape.stream = k.shape.stream;
  p.coefficients[kA] = k.a, p.coefficients[kB] = k.b, p.coefficients[kWeight] = k.weight;
  p.rows[kH] = k.h;
  for (int i = 0; i < k.outer_count; ++i) p.coefficients[kOuters + i] = k.outers[i], p.rows[kMoreRows + i] = k.rows[i];
  const bool needs_x = k.act != Act::identity || k.a.data || k.e_slope || (k.h && k.kind != Kind::sum);
  if (!needs_x) p.maps[1] = {};
  return p;
}

Plan plan_over_positions(const PositionPass& k, Pass pass) { return streaming(k.shape, pass, in_vectors(k)); }

Plan plan_over_channels(const PositionPass& k) {
  const Shape& s = k.shape;
  bool vectorized = in_vectors(k);
  if (s.channels_last) return streaming(s, Pass::reducing, vectorized);
  for (const Operand* t : {&k.maps[0], &k.maps[1], &k.maps[2], &k.out})
    vectorized = vectorized && (t->data == nullptr || in_tiles(s, *t));
  Walk w{};
  w.step = vectorized ? int(16 / element_bytes(s.type)) : 1;
  const int64_t vectors = s.positions() / w.step;
  // Columns that leave the fewest threads idle at a plane's end.
  const auto idle = [&](int64_t columns) { return ceil_div(vectors, columns) * columns - vectors; };
  w.columns = tuning::kMaxColumns;
  for (int columns = w.columns; columns >= (vectors < tuning::kMinLanes ? 1 : tuning::kMinLanes); columns /= 2)
    if (idle(columns) < idle(w.columns)) w.columns = columns;
  w.stripes = ceil_div(vectors, w.columns);
  w.lines = s.N * w.stripes;
  w.lanes = 1;
  while (w.lanes * w.columns * 2 <= tuning::kThreads && w.lanes * 2 * tuning::kSteps <= s.C) w.lanes *= 2;
  w.groups = tuning::kThreads / (w.columns * w.lanes);
  const int64_t wanted = ceil_div(tuning::kBlocks * w.groups, w.lines), most = s.C / (w.lanes * tuning::kSteps);
  const int64_t segments = std::max<int64_t>(1, std::min(wanted, most));
  w.length = ceil_div(s.C, segments);
  w.segments = ceil_div(s.C, w.length);
  return {w, vectorized};
}

}  // namespace fusednorm
