// The GPU's head (csrc/cuda/head*.cuh, emulated) against the CPU's, by every kind of team and through head.cu.
#include <cstdio>

#include "csrc/cpu/kernels.h"
#include "csrc/cuda/any_forward.cuh"
#include "csrc/cuda/any_parameters.cuh"
#include "csrc/cuda/head.cuh"
#include "csrc/cuda/head.h"
#include "csrc/cuda/partials.cuh"
#include "problem.h"

namespace fusednorm {

void parallel(int64_t items, int64_t, void (*body)(void*, int64_t, int64_t), void* context) { body(context, 0, items); }

// What a team has, as in the resident kernels.
enum class Part : int { all, sample, group };

__device__ Unit part_of(const HeadArgs& k, Part part, int64_t i) {
  if (part == Part::all) return {0, k.N, 0, k.C};
  if (part == Part::sample) return {i, i + 1, 0, k.C};
  const int64_t size = k.C / k.groups, n = i / k.groups, c = i % k.groups * size;
  return {n, n + 1, c, c + size};
}

template <class A>
__global__ void forward_kernel(const __grid_constant__ HeadArgs k, const __grid_constant__ HeadScratch<A> s,
                               Scope scope, int cluster, Part part) {
  wait_for_previous_kernel();
  const Unit unit = part_of(k, part, blockIdx.x / cluster);
  if (any_pair(k)) return any_head_forward(k, s, unit, team_of(scope, cluster), shared_bytes);
  head_forward(k, s, unit, team_of(scope, cluster), shared_bytes);
}

template <class A>
__global__ void backward_kernel(const __grid_constant__ HeadGradArgs to, const __grid_constant__ HeadScratch<A> s,
                                Scope scope, int cluster, Part part) {
  wait_for_previous_kernel();
  const Team team = team_of(scope, cluster);
  const Unit unit = part_of(to.head, part, blockIdx.x / cluster);
  if (any_pair(to.head))
    any_head_backward_maps(to, s, unit, team, shared_bytes);
  else
    head_backward_maps(to, s, unit, team, shared_bytes);
  if (part != Part::all) return;
  team.sync();
  if (any_pair(to.head))
    any_head_backward_parameters(to, s, unit, team, shared_bytes);
  else
    head_backward_parameters(to, s, team, shared_bytes);
}

class Scratch {
 public:
  explicit Scratch(size_t bytes) : memory_(aligned_alloc(16, bytes + 16)) { memset(memory_, 0xff, bytes); }
  ~Scratch() { free(memory_); }
  void* data() { return memory_; }

 private:
  void* memory_;
};

struct Way {
  Part part;
  Scope scope;
  int size, block;  // blocks of a team
};

template <class A>
void run(Problem& p, bool back, Way way) {
  if (back && any_pair(p.k())) way.part = Part::all;  // as where there are parameters
  const Stream s{nullptr, 8, 9, 1 << 20, 227 << 10};
  Launch l{"head", way.part == Part::all ? 1 : way.part == Part::sample ? p.c.N : p.c.N * p.c.groups, way.block};
  l.grid *= way.size;
  l.cooperative = way.scope == Scope::grid;
  l.cluster = way.scope == Scope::cluster ? way.size : 1;
  l.shared = size_t(head_shared_bytes(way.block));
  Scratch scratch(back ? head_grad_scratch_bytes(p.k()) : head_scratch_bytes(p.k()));
  const HeadScratch<A> parts = head_scratch<A>(p.k(), back, scratch.data());
  if (!back) return launch(l, s, forward_kernel<A>, p.k(), parts, way.scope, l.cluster, way.part);
  launch(l, s, backward_kernel<A>, p.to, parts, way.scope, l.cluster, way.part);
  if (way.part != Part::all) head_grad_parameters(p.to, scratch.data(), s);
}

// The planes' moments or sums taken apart: what a streaming pass with segments leaves.
struct Segments {
  Partials partials;
  std::vector<double> first, second;

  Segments(Problem& p, bool back, int64_t count) {
    if (count == 1 || (!back && !p.k().needs_moments())) return;
    const int64_t planes = p.c.N * p.c.C, S = p.c.S, length = (S + count - 1) / count;
    partials.segments = count, partials.length = length, partials.N = p.c.N, partials.C = p.c.C, partials.S = S;
    first.resize(size_t(planes * count)), second.resize(size_t(planes * count));
    partials.first = first.data(), partials.second = second.data();
    Array &one = p[back ? "dshift" : "mean"], &two = p[back ? "dscale" : "v"];
    for (int64_t i = 0; i < planes; ++i) {
      double off = 0, between = 0;  // segment s has the mean one + s/10 - off
      for (int64_t s = 0; s < count; ++s) off += double(s) / 10 * double(std::min(length, S - s * length)) / double(S);
      for (int64_t s = 0; s < count; ++s)
        between += double(std::min(length, S - s * length)) * std::pow(double(s) / 10 - off, 2);
      for (int64_t s = 0; s < count; ++s) {
        const size_t at = size_t(s * planes + i);
        first[at] = back ? one[i] * (s == 0 ? double(count) : -1) : one[i] + double(s) / 10 - off;
        second[at] = back ? two[i] / double(count) : (two[i] * double(S) - between) / double(count);
      }
      one.set(i, NAN), two.set(i, NAN);
    }
  }
};

void run_launcher(Problem& p, bool back, int major, int64_t segments) {
  const Stream s{nullptr, 6, major, 1 << 20, 227 << 10};
  Scratch scratch(back ? head_grad_scratch_bytes(p.k()) : head_scratch_bytes(p.k()));
  const Segments parts(p, back, segments);
  back ? head_grad(p.to, parts.partials, scratch.data(), s) : head(p.k(), parts.partials, scratch.data(), s);
}

int checks = 0, failures = 0;

void compare(const std::string& how, Problem& got, Problem& want, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    double largest = 1e-3, off = 0;  // at least: sums of values near 1 may cancel
    for (int64_t i = 0; i < want[name].size(); ++i) {
      const double difference = std::fabs(got[name][i] - want[name][i]);
      largest = std::max(largest, std::fabs(want[name][i]));
      off = difference <= off ? off : difference;  // NaN stays
    }
    if (off <= (got.c.f64 ? 1e-12 : 4e-6) * largest) continue;
    std::printf("%s, %s: %s is off by %g of %g\n", got.c.text().c_str(), how.c_str(), name.c_str(), off, largest);
    ++failures;
  }
}

template <class Run>
void check(const Case& c, const std::string& how, Run run) {
  ++checks;
  Problem got(c, NAN), want(c, 0);
  want.fill_means();
  baseline_kernels.head(want.k());
  run(got, false);
  compare(how, got, want, got.forward_outputs);
  got.forward_done(want);
  want.forward_done(want);
  baseline_kernels.head_grad(want.to);
  run(got, true);
  compare(how, got, want, got.backward_outputs);
}

void check_way(const Case& c, const char* name, const Way& way) {
  check(c, name, [&](Problem& p, bool back) { c.f64 ? run<double>(p, back, way) : run<float>(p, back, way); });
}

void check_launcher(const Case& c, int major, int64_t segments) {
  check(c, "sm_" + std::to_string(major) + "0, segments=" + std::to_string(segments),
        [&](Problem& p, bool back) { run_launcher(p, back, major, segments); });
}

// Small, with all options; teams take turns.
void check_options(const Case& c) {
  static int turn = 0;
  if (++turn % 2)
    check_way(c, "cluster", {Part::all, Scope::cluster, 4, 64});
  else
    check_way(c, "grid", {Part::all, Scope::grid, 5, 128});
  if (!c.batch_statistics() && c.norm != Norm::batch) {
    check_way(c, "a block for each sample", {Part::sample, Scope::block, 1, 96});
    if (c.K > 0 || c.recalibrate == Recalibrate::channel_attention)
      check_way(c, "a cluster for each sample", {Part::sample, Scope::cluster, 2, 64});
  }
  if (c.standardize == Standardize::group && c.recalibrate == Recalibrate::affine)
    check_way(c, "a block for each group", {Part::group, Scope::block, 1, 64});
  check_launcher(c, 9, c.S > 1 ? 3 : 1);
}

struct Part1 {
  Standardize standardize;
  bool running;
  int64_t groups;
};
const Part1 kPlain[] = {{Standardize::batch, false, 1},          {Standardize::batch, true, 1},
                        {Standardize::group, false, 1},          {Standardize::group, false, 4},
                        {Standardize::group, false, 36},         {Standardize::identity, false, 1},
                        {Standardize::filter_response, false, 1}};

void check_plain() {
  for (const Part1& of : kPlain)
    for (bool affine : {true, false})
      for (int64_t S : {1, 49})
        for (bool f64 : {true, false}) {
          Case c{f64, 9, 36, S, of.standardize, of.running, of.groups, Recalibrate::affine};
          c.affine = affine, c.need_dx = S > 1;
          check_options(c);
        }
  int turn = 0;
  for (const Part1& of : {kPlain[0], kPlain[1], kPlain[3], kPlain[5]})
    for (int input = 0; input < 3; ++input)
      for (int act = 0; act < 4; ++act)
        for (Norm norm : {Norm::none, Norm::batch, Norm::running}) {
          ++turn;
          Case c{turn % 3 == 0,
                 9,
                 36,
                 turn % 2 ? 49 : 1,
                 of.standardize,
                 of.running,
                 of.groups,
                 Recalibrate::attentive,
                 5,
                 input,
                 act,
                 norm};
          c.biases = norm == Norm::none || act == 2, c.need_dx = turn % 5 > 0;
          check_options(c);
        }
}

// A switchable standardization over these scopes.
Case over(Case c, int64_t scopes, int64_t ratio_groups, bool unbiased) {
  c.standardize = Standardize::switchable;
  c.scopes = scopes, c.ratio_groups = ratio_groups, c.unbiased = unbiased;
  return c;
}

HeadArgs of_kinds(Standardize standardize, Recalibrate recalibrate) {
  HeadArgs k{};
  k.standardize = standardize, k.recalibrate = recalibrate;
  return k;
}

// Every standardization with every recalibration, and each part's options in turn.
void check_pairs() {
  int turn = 0;
  auto each_recalibration = [&](Case c) {
    const Recalibrate all[] = {Recalibrate::affine,        Recalibrate::scaling,           Recalibrate::squeeze_excite,
                               Recalibrate::attentive,     Recalibrate::channel_attention, Recalibrate::style,
                               Recalibrate::gather_excite, Recalibrate::global_response};
    for (Recalibrate recalibrate : all) {
      if (!any_pair(of_kinds(c.standardize, recalibrate))) continue;
      for (int repeat = 0; repeat < 2; ++repeat) {
        ++turn;
        c.recalibrate = recalibrate;
        c.f64 = turn % 2, c.S = turn % 3 ? 49 : 1;
        c.source = turn % 3, c.gate = (turn / 2) % 3 + c.attentive();
        c.K = c.attentive() || recalibrate == Recalibrate::squeeze_excite ? 5 : 0;
        c.norm = c.attentive()                       ? Norm(turn / 4 % 3)
                 : recalibrate == Recalibrate::style ? Norm(1 + turn / 2 % 2)
                                                     : Norm::none;
        c.affine = turn % 4 || c.attentive() || recalibrate == Recalibrate::global_response;
        c.biases = turn % 5, c.need_dx = turn % 7;
        check_options(c);
      }
    }
  };
  for (const Part1& of : kPlain) each_recalibration({false, 9, 36, 49, of.standardize, of.running, of.groups});
  for (bool running : {false, true})
    for (bool center_std : {false, true}) {
      Case c{false, 9, 36, 49, Standardize::representative, running, 1};
      c.center_std = center_std;
      each_recalibration(c);
    }
  // instance 1, layer 2, batch 3, group 4
  const Case c{false, 9, 36, 49, Standardize::switchable, false, 4};
  Case running = c;
  running.running = true;
  for (bool unbiased : {false, true}) {
    each_recalibration(over(c, 0x321, 1, unbiased));
    each_recalibration(over(c, 0x4132, unbiased ? 6 : 36, unbiased));
    each_recalibration(over(c, 0x21, unbiased ? 1 : 2, unbiased));
    each_recalibration(over(running, 0x321, unbiased ? 3 : 1, unbiased));
  }
  each_recalibration(over(c, 0x24, 1, true));
  each_recalibration(over(c, 1, 1, true));
  each_recalibration(over(c, 3, 4, false));
}

// The launchers' table, rows longer than shared memory, more components than lanes, blocks of all sizes.
void check_size(const Case& c) {
  for (int major : {8, 9}) check_launcher(c, major, 2);
  for (int block : {64, 384, 1024}) check_way(c, "grid", {Part::all, Scope::grid, 3, block});
}

void check_sizes() {
  const auto batch = Standardize::batch, group = Standardize::group;
  const auto attentive = Recalibrate::attentive;
  const Case cases[] = {
      {false, 1, 1, 49, batch, false, 1, attentive, 1, 0, 0, Norm::batch},
      {true, 2, 3, 49, batch, false, 1, attentive, 70, 1, 2, Norm::batch},
      {false, 3, 40, 49, batch, true, 1, attentive, 1030, 2, 2, Norm::none},
      {false, 33, 64, 49, batch, false, 1, attentive, 10, 2, 3, Norm::batch},
      {true, 40, 100, 49, group, false, 4, attentive, 10, 1, 2, Norm::batch},
      {false, 130, 70, 49, batch, false, 1, Recalibrate::affine},
      {true, 7, 2100, 49, group, false, 3, attentive, 3, 1, 1, Norm::batch},
      {false, 3, 4200, 49, batch, true, 1, attentive, 2, 1, 0, Norm::none},
      {false, 600, 33, 49, batch, false, 1, attentive, 6, 2, 3, Norm::batch},
      {false, 5, 1500, 49, group, false, 1, Recalibrate::affine},
      {false, 33, 64, 49, batch, false, 1, Recalibrate::squeeze_excite, 4},
      {true, 3, 2100, 49, group, false, 3, Recalibrate::squeeze_excite, 70},
      {false, 130, 70, 49, Standardize::representative, false, 1, Recalibrate::scaling},
      {false, 130, 70, 49, batch, false, 1, Recalibrate::style, 0, 0, 0, Norm::batch},
      {true, 7, 2100, 49, group, false, 3, Recalibrate::style, 0, 0, 0, Norm::running},
      {false, 5, 1500, 49, Standardize::filter_response, false, 1, Recalibrate::channel_attention},
      {false, 33, 64, 49, Standardize::identity, false, 1, Recalibrate::global_response},
      {true, 3, 2100, 49, batch, false, 1, Recalibrate::global_response},
      over({false, 40, 100, 49, batch, false, 4, Recalibrate::affine}, 0x4321, 25, false),
      over({false, 3, 1500, 49, batch, false, 1, Recalibrate::squeeze_excite, 93}, 0x321, 1, true),
      over({true, 1, 1, 49, batch, false, 1, Recalibrate::scaling}, 0x321, 1, true),
  };
  for (const Case& c : cases) check_size(c);
}

}  // namespace fusednorm

int main() {
  fusednorm::check_plain();
  fusednorm::check_pairs();
  fusednorm::check_sizes();
  std::printf("%d checks, %d failures\n", fusednorm::checks, fusednorm::failures);
  return fusednorm::failures > 0;
}
