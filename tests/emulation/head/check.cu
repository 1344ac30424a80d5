// The GPU's head (csrc/cuda/head*.cuh, emulated) against the CPU's, by every kind of team and through head.cu.
#include <cstdio>

#include "csrc/cpu/kernels.h"
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
  head_forward(k, s, part_of(k, part, blockIdx.x / cluster), team_of(scope, cluster), shared_bytes);
}

template <class A>
__global__ void backward_kernel(const __grid_constant__ HeadGradArgs to, const __grid_constant__ HeadScratch<A> s,
                                Scope scope, int cluster, Part part) {
  wait_for_previous_kernel();
  const Team team = team_of(scope, cluster);
  head_backward_maps(to, s, part_of(to.head, part, blockIdx.x / cluster), team, shared_bytes);
  if (part != Part::all) return;
  team.sync();
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
void run(Problem& p, bool back, const Way& way) {
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
    double largest = 1e-6, off = 0;
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
void check_options(const Case& c, int turn) {
  if (turn % 2)
    check_way(c, "cluster", {Part::all, Scope::cluster, 4, 64});
  else
    check_way(c, "grid", {Part::all, Scope::grid, 5, 128});
  if (c.groups != 0 && c.norm != Norm::batch) {
    check_way(c, "a block for each sample", {Part::sample, Scope::block, 1, 96});
    if (c.K > 0) check_way(c, "a cluster for each sample", {Part::sample, Scope::cluster, 2, 64});
  }
  if (c.groups > 0 && c.K == 0) check_way(c, "a block for each group", {Part::group, Scope::block, 1, 64});
  check_launcher(c, 9, c.S > 1 ? 3 : 1);
}

void check_all_options() {
  int turn = 0;
  for (int64_t groups : {0, -1, 1, 4, 36})
    for (bool affine : {true, false})
      for (int64_t S : {1, 49})
        for (bool f64 : {true, false})
          check_options({f64, 9, 36, S, groups, 0, 0, 0, Norm::none, affine, false, S > 1}, ++turn);
  for (int64_t groups : {0, -1, 4})
    for (int input = 0; input < 3; ++input)
      for (int act = 0; act < 4; ++act)
        for (Norm norm : {Norm::none, Norm::batch, Norm::running}) {
          const bool fc_bias = norm == Norm::none || act == 2;
          ++turn;
          check_options(
              {turn % 3 == 0, 9, 36, turn % 2 ? 49 : 1, groups, 5, input, act, norm, true, fc_bias, turn % 5 > 0},
              turn);
        }
}

// The launchers' table, rows longer than shared memory, more components than lanes, blocks of all sizes.
void check_sizes() {
  const Case cases[] = {
      {false, 1, 1, 49, 0, 1, 0, 0, Norm::batch},     {true, 2, 3, 49, 0, 70, 1, 2, Norm::batch},
      {false, 3, 40, 49, -1, 1030, 2, 2, Norm::none}, {false, 33, 64, 49, 0, 10, 2, 3, Norm::batch},
      {true, 40, 100, 49, 4, 10, 1, 2, Norm::batch},  {false, 130, 70, 49, 0, 0, 0, 0, Norm::none},
      {true, 7, 2100, 49, 3, 3, 1, 1, Norm::batch},   {false, 3, 4200, 49, -1, 2, 1, 0, Norm::none},
      {false, 600, 33, 49, 0, 6, 2, 3, Norm::batch},  {false, 5, 1500, 49, 1, 0, 0, 0, Norm::none},
  };
  for (const Case& c : cases) {
    for (int major : {8, 9}) check_launcher(c, major, 2);
    for (int block : {64, 384, 1024}) check_way(c, "grid", {Part::all, Scope::grid, 3, block});
  }
}

}  // namespace fusednorm

int main() {
  fusednorm::check_all_options();
  fusednorm::check_sizes();
  std::printf("%d checks, %d failures\n", fusednorm::checks, fusednorm::failures);
  return fusednorm::failures > 0;
}
