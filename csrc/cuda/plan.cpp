#include "plan.h"

#include <algorithm>

#include "tuning.h"

namespace fusednorm {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t power_of_2_up(int64_t n) {
  int64_t power = 1;
  while (power < n) power *= 2;
  return power;
}

int64_t power_of_2_down(int64_t n) {
  int64_t power = 1;
  while (power * 2 <= n) power *= 2;
  return power;
}

// Whether 16 bytes can be read or written at a time. channels_last: every row begins at a 16-byte boundary.
bool in_vectors(const Shape& s, const Operand& t) {
  if (!s.channels_last) return t.flat && (t.p0 == 1 || s.positions() == 1);
  const int64_t values = 16 / element_bytes(s.type);
  return t.flat && t.c == 1 && s.C % values == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         (t.p0 % values == 0 || s.positions() == 1) && (t.n % values == 0 || s.N == 1);
}

}  // namespace

int64_t element_bytes(Type type) { return type == Type::f64 ? 8 : type == Type::f32 ? 4 : 2; }

Walk walk_of(const Shape& s, const Unit& unit, int threads, bool vectorized) {
  const int64_t samples = unit.n1 - unit.n0, channels = unit.c1 - unit.c0;
  const int64_t V = vectorized ? 16 / element_bytes(s.type) : 1;
  Walk w{};
  if (s.channels_last) {
    const int64_t vectors = ceil_div(channels, V);
    w.columns = int(std::min<int64_t>(tuning::kMaxColumns, power_of_2_up(vectors)));
    w.stripes = ceil_div(vectors, w.columns);
    w.lines = samples * w.stripes;
    w.step = 1;
  } else {
    w.columns = 1;
    w.stripes = 1;
    w.lines = samples * channels;
    w.step = int(V);
  }
  w.lanes = threads / w.columns;
  w.groups = 1;
  w.segments = 1;
  w.length = s.positions();
  return w;
}

int least_lanes(const Walk& w, const Shape& s) { return s.channels_last ? 1 : std::min(tuning::kMinLanes, w.lanes); }

void set_lanes(Walk& w, int lanes) {
  w.groups = w.lanes * w.groups / lanes;
  w.lanes = lanes;
}

void split(Walk& w, const Shape& s, Pass pass, int64_t segments) {
  const int64_t S = s.positions(), longest = pass == Pass::writing ? tuning::kMaxLength : tuning::kMaxReduceLength;
  segments = std::max(segments, ceil_div(S, longest));
  const int64_t grain = int64_t(w.lanes) * w.step;  // planar: at least 8 positions, a whole byte of the mask
  w.length = segments == 1 ? S : ceil_div(ceil_div(S, segments), grain) * grain;
  w.segments = ceil_div(S, w.length);
}

bool all_in_vectors(const Shape& s, std::initializer_list<const Operand*> operands) {
  return std::all_of(operands.begin(), operands.end(),
                     [&](const Operand* t) { return t->data == nullptr || in_vectors(s, *t); });
}

Plan streaming(const Shape& s, Pass pass, bool vectorized) {
  Walk w = walk_of(s, everything(s), tuning::kThreads, vectorized);
  const int64_t steps = ceil_div(s.positions(), w.step), lanes = power_of_2_down(ceil_div(steps, tuning::kSteps));
  set_lanes(w, int(std::clamp<int64_t>(lanes, least_lanes(w, s), w.lanes)));
  const int64_t wanted = ceil_div(tuning::kBlocks * w.groups, w.lines), most = steps / (w.lanes * tuning::kSteps);
  split(w, s, pass, std::max<int64_t>(1, std::min(wanted, most)));
  w.backwards = pass == Pass::writing;
  return {w, vectorized};
}

namespace {

Plan streaming(const Shape& s, Pass pass, std::initializer_list<const Operand*> operands) {
  return streaming(s, pass, all_in_vectors(s, operands));
}

}  // namespace

Plan plan_moments(const MomentsArgs& k) { return streaming(k.shape, Pass::reducing, {&k.x}); }
Plan plan_affine(const AffineArgs& k) { return streaming(k.shape, Pass::writing, {&k.x, &k.residual, &k.y}); }
Plan plan_reduce(const AffineArgs& k) { return streaming(k.shape, Pass::reducing, {&k.x, &k.residual, &k.dy, &k.y}); }
Plan plan_grad(const AffineArgs& k) {
  return streaming(k.shape, Pass::writing, {&k.x, &k.residual, &k.dy, &k.g, &k.y});
}

}  // namespace fusednorm
