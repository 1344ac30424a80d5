// What the head keeps between its stages: one piece of memory from the caller, divided up here.
#pragma once

#include <type_traits>

#include "host_device.cuh"

namespace fusednorm {

// How many pairs (mu, r) there are: one a channel, or one a group of a sample; running ones are read where they are.
FUSEDNORM_HD int64_t statistics_count(const HeadArgs& k) {
  return k.groups == 0 ? k.C : k.groups > 0 ? k.N * k.groups : 0;
}

FUSEDNORM_HD bool norm_over_batch(const HeadArgs& k) { return k.K > 0 && k.attention_norm && !k.norm_mean; }

// How many values a row of s has, the attention's input.
FUSEDNORM_HD int64_t attention_width(const HeadArgs& k) { return k.attention_input == 1 ? 2 * k.C : k.C; }

// Whether head_backward_parameters has anything to do. (Batch statistics, affine: head_backward_maps does it.)
FUSEDNORM_HD bool head_has_parameters(const HeadGradArgs& to) {
  return to.head.K > 0 || (to.head.groups != 0 && (to.dweight || to.dbias));
}

template <class A>
struct HeadScratch {
  double* mu;                        // statistics_count()
  A* r;                              // likewise
  double *norm_mean, *norm_inverse;  // K: of z over the batch, and 1/deviation
  double *dmu, *dvar;                // backward: statistics_count()
  double* da;                        // backward: N×K, the derivative by Act's argument (dlambda, for a while)
  A *lambda, *dz, *dgamma, *s;       // backward: N×K, N×K, N×C, N×width
  size_t bytes;                      // of all of it
};

// The parts within `memory` (16 byte aligned), each aligned so. With `memory` null: how much it must be.
template <class A>
inline HeadScratch<A> head_scratch(const HeadArgs& k, bool grad, void* memory) {
  HeadScratch<A> s{};
  auto part = [&](auto*& to, int64_t count) {
    to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(uintptr_t(memory) + s.bytes);
    s.bytes += (size_t(count) * sizeof(*to) + 15) / 16 * 16;
  };
  part(s.mu, statistics_count(k));
  part(s.r, statistics_count(k));
  if (norm_over_batch(k)) {
    part(s.norm_mean, k.K);
    part(s.norm_inverse, k.K);
  }
  if (!grad || k.K == 0) return s;
  part(s.dmu, statistics_count(k));
  part(s.dvar, statistics_count(k));
  part(s.da, k.N * k.K);
  part(s.lambda, k.N * k.K);
  part(s.dz, k.N * k.K);
  part(s.dgamma, k.N * k.C);
  part(s.s, k.N * attention_width(k));
  return s;
}

inline size_t head_scratch_bytes(const HeadArgs& k) {
  return k.f64 ? head_scratch<double>(k, false, nullptr).bytes : head_scratch<float>(k, false, nullptr).bytes;
}
inline size_t head_grad_scratch_bytes(const HeadArgs& k) {
  return k.f64 ? head_scratch<double>(k, true, nullptr).bytes : head_scratch<float>(k, true, nullptr).bytes;
}

// Bytes of shared memory that the head's device functions need with `block` threads, 16 byte aligned.
FUSEDNORM_HD constexpr int head_shared_bytes(int block) { return 16 * block; }

}  // namespace fusednorm
