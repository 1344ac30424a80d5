// Which layers are kept on the chip, and how: resident.h has the table.
#include <algorithm>

#include "head_scratch.h"
#include "resident.h"
#include "tuning.h"

namespace fusednorm {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Planar: how whole steps lie in the planes of all operands.
struct Alignment {
  bool alike = true;    // at the same positions
  bool perfect = true;  // from the first position of every plane to the last
};

Alignment alignment_of(const Shape& s, std::initializer_list<const Operand*> operands) {
  if (s.channels_last) return {};
  const Operand& x = **operands.begin();
  const int64_t V = 16 / element_bytes(s.type);
  auto whole = [&](int64_t n, int64_t c, uintptr_t bytes) {
    return bytes % 16 == 0 && (s.N == 1 || n % V == 0) && (s.C == 1 || c % V == 0);
  };
  const auto base = [](const Operand& t) { return reinterpret_cast<uintptr_t>(t.data); };
  Alignment found;
  for (const Operand* t : operands)
    if (t->data) found.alike = found.alike && whole(t->n - x.n, t->c - x.c, base(*t) - base(x));
  found.perfect = found.alike && whole(x.n, x.c, base(x)) && s.positions() % V == 0;
  return found;
}

struct Chooser {
  const Shape& s;
  const HeadArgs& head;
  const Stream& stream;
  Alignment alignment;
  int pieces;  // tensors kept: x, or dy and x
  bool mask;   // to be written
  int threads;
  int64_t V = 16 / element_bytes(s.type);

  // A team of `blocks` blocks for each of `units`; nothing if that is more than a block may have. Of all ways to lay the
  // threads over a unit, the one that leaves the fewest places empty, which are the fewest steps for the busiest thread too.
  std::optional<Resident> fit(Scope scope, int blocks, int64_t units, int64_t groups, const Unit& unit) const {
    std::optional<Resident> best;
    const int64_t bytes = (unit.n1 - unit.n0) * (unit.c1 - unit.c0) * s.positions() * element_bytes(s.type) * pieces;
    if (bytes > int64_t(blocks) * int64_t(stream.shared)) return best;
    const Walk whole = walk_of(s, unit, threads, true);
    for (int lanes = least_lanes(whole, s); lanes <= whole.lanes; lanes *= 2)
      for (int rounds = 0; rounds <= 3; ++rounds) {  // 0: planes are not split
        Resident r{whole, scope, blocks, units, groups, 0, 0, 0};
        set_lanes(r.walk, lanes);
        split(r.walk, s, Pass::writing, std::max<int64_t>(1, int64_t(rounds) * blocks * r.walk.groups / r.walk.lines));
        measure(r);
        if (!best || r.bytes() < best->bytes()) best = r;
      }
    return best->bytes() <= stream.shared ? best : std::nullopt;
  }

  void measure(Resident& r) const {
    const Walk& w = r.walk;
    r.rounds = int(ceil_div(w.lines * w.segments, int64_t(r.cluster) * w.groups));
    const int64_t steps = ceil_div(w.length, w.step);
    r.slots = pieces * int(ceil_div(steps, w.lanes) + (alignment.perfect ? 0 : 1));
    const size_t reductions = reduction_entries(w) * (8 + 16 * size_t(s.channels_last ? V : 1));
    const size_t bits = mask && !s.channels_last ? size_t(w.groups) * size_t(ceil_div(w.length, 32)) * 4 : 0;
    r.area = (std::max({reductions, bits, size_t(head_shared_bytes(w.threads()))}) + 15) / 16 * 16;
  }

  std::optional<Resident> whole_map() const {
    const int64_t steps = s.N * s.C * s.positions() / V;
    const int blocks =
        int(std::clamp<int64_t>(ceil_div(steps, int64_t(threads) * tuning::kSteps), 1, int64_t(stream.sms)));
    return fit(blocks == 1 ? Scope::block : Scope::grid, blocks, 1, 1, everything(s));
  }

  std::optional<Resident> parts(int64_t groups) const {
    const int64_t channels = s.C / groups, units = s.N * groups;
    for (int cluster = 1; cluster <= stream.cluster; cluster *= 2) {
      if (units * cluster * tuning::kResidentIdle < stream.sms) continue;
      auto r = fit(cluster == 1 ? Scope::block : Scope::cluster, cluster, units, groups, {0, 1, 0, channels});
      if (r) return r;
    }
    return std::nullopt;
  }

  std::optional<Resident> choose() const {
    if (looks_at_batch(head)) return whole_map();
    if (over_groups(head) && head.groups > 1 && head.recalibrate == Recalibrate::affine) {
      const int64_t channels = s.C / head.groups;
      // channels_last: a group's part of a row must be whole steps, a sector (32 bytes) at least, and whole bytes of a mask.
      const int64_t whole = mask ? 8 : V;
      if (!s.channels_last || (channels % whole == 0 && channels * element_bytes(s.type) >= 32))
        if (auto r = parts(head.groups)) return r;
    }
    return parts(1);
  }
};

std::optional<Resident> choose(const AffineArgs& k, const HeadArgs& head, const Stream& s, int pieces, bool mask,
                               int threads, std::initializer_list<const Operand*> operands) {
  const Alignment alignment = alignment_of(k.shape, operands);
  if (k.shape.type == Type::f64 || any_pair(head) || !all_in_vectors(k.shape, operands) || !alignment.alike) return {};
  const int64_t sample = k.shape.C * k.shape.positions() * element_bytes(k.shape.type) * pieces;
  const int64_t unit = head.recalibrate == Recalibrate::affine && over_groups(head) ? sample / head.groups : sample;
  if (unit <= tuning::kSmallUnit) threads = std::min(threads, tuning::kThreads);
  return Chooser{k.shape, head, s, alignment, pieces, mask, threads}.choose();
}

}  // namespace

std::optional<Resident> resident_forward_plan(const AffineArgs& k, const HeadArgs& head, const Stream& s) {
  if (!head.needs_moments()) return {};  // two units as it is
  const int threads = tuning::resident_forward_threads(acts_with(k.act) == Acts::smooth);
  return choose(k, head, s, 1, k.mask != nullptr, threads, {&k.x, &k.residual, &k.y});
}

std::optional<Resident> resident_backward_plan(const AffineArgs& k, const HeadArgs& head, const Stream& s) {
  const bool smooth = acts_with(k.act) == Acts::smooth;
  const int threads = tuning::resident_backward_threads(smooth, int(element_bytes(k.shape.type)));
  return choose(k, head, s, 2, false, threads, {&k.x, &k.residual, &k.dy, &k.g, &k.y});
}

}  // namespace fusednorm
