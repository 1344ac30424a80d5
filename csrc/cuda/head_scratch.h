// What the head keeps between its stages: one piece of memory from the caller, divided up here.
#pragma once

#include <type_traits>

#include "head_math.cuh"

namespace fusednorm {

// Planes are standardized with mu and r of the batch, or of a group of channels of their sample.
FUSEDNORM_HD bool over_batch(const HeadArgs& k) { return k.standardize == Standardize::batch && !k.running(); }
FUSEDNORM_HD bool over_groups(const HeadArgs& k) { return k.standardize == Standardize::group; }

// Which of the two heads serves: one for what most layers are, short of stages and memory (head_*.cuh), and one for any
// pair of parts (any_*.cuh), which keeps what it finds of every plane.
FUSEDNORM_HD bool any_pair(const HeadArgs& k) {
  return (k.standardize != Standardize::batch && k.standardize != Standardize::group &&
          k.standardize != Standardize::identity) ||
         (k.recalibrate != Recalibrate::affine && k.recalibrate != Recalibrate::attentive);
}

// Gates of the whole of z = weight x_hat + bias: Gamma = q weight, Beta = q bias.
FUSEDNORM_HD bool gates_all(const HeadArgs& k) {
  return k.recalibrate == Recalibrate::squeeze_excite || k.recalibrate == Recalibrate::channel_attention ||
         k.recalibrate == Recalibrate::style || k.recalibrate == Recalibrate::gather_excite;
}

// Whose gates look at planes of other channels or samples, but for layers of K components.
FUSEDNORM_HD bool looks_beyond(const HeadArgs& k) {
  return k.recalibrate == Recalibrate::channel_attention || k.recalibrate == Recalibrate::style ||
         k.recalibrate == Recalibrate::global_response;
}

FUSEDNORM_HD bool norm_over_batch(const HeadArgs& k) { return k.K > 0 && k.attention_norm && !k.norm_mean; }

// Whether a sample's scale and shift depend on other samples.
inline bool looks_at_batch(const HeadArgs& k) {
  bool batch = k.standardize == Standardize::batch || k.standardize == Standardize::representative;
  for (int i = 0; k.standardize == Standardize::switchable && i < k.scopes; ++i)
    batch = batch || k.over[i] == Over::batch;
  return (batch && !k.running()) || norm_over_batch(k) || (k.recalibrate == Recalibrate::style && !k.norm_mean);
}

// Whether a channel's depend on no other channel.
inline bool channel_by_channel(const HeadArgs& k) {
  const bool own = k.recalibrate == Recalibrate::affine || k.recalibrate == Recalibrate::scaling ||
                   k.recalibrate == Recalibrate::style || k.recalibrate == Recalibrate::gather_excite;
  return own && !over_groups(k) && k.standardize != Standardize::switchable;
}

// How many values a row of s has, the attention's input.
FUSEDNORM_HD int64_t attention_width(const HeadArgs& k) {
  return k.recalibrate == Recalibrate::attentive && AttentionInput(k.source) == AttentionInput::mean_std ? 2 * k.C
                                                                                                         : k.C;
}

// Whether head_backward_parameters has anything to do. (Batch statistics, affine: head_backward_maps does it.)
FUSEDNORM_HD bool head_has_parameters(const HeadGradArgs& to) {
  if (to.head.K > 0 || to.dmean_weight || to.dcenter_weight || to.dgate_weight) return true;
  return (any_pair(to.head) || !over_batch(to.head)) && (to.dweight || to.dbias);
}

// A scope of the statistics, and its moments: one pair for each channel, or for each group of channels of a sample.
struct ScopeScratch {
  double *mu, *var;    // null: given, or the plane's own
  double *dmu, *dvar;  // backward
  bool given;
  int per_sample;  // pairs that a sample has for itself; 0: all samples share them
  int channels;    // of a sample that share a pair
  double share;    // of one of the planes
  double factor;   // of the variance
};

template <class A>
struct HeadScratch {
  double* mu;                        // what planes are standardized with, null where that is given:
  A* r;                              // mu[n per_sample + c/sharing] and 1/deviation
  int64_t per_sample;                // 0: all samples share them
  unsigned sharing;                  // channels of a sample that share them
  double *norm_mean, *norm_inverse;  // K: of z over the batch, and 1/deviation
  double *dmu, *dvar;                // backward, as mu
  double* da;                        // backward: N×K, the derivative by Act's argument (dlambda, for a while)
  A *lambda, *dz, *dgamma, *s;       // backward: N×K, N×K, N×C, N×width. squeeze-excite: relu(z), dz, -, u
  // any_pair
  int scopes;
  ScopeScratch scope[kMostScopes];
  double* ratios;           // units×ratio_rows×scopes×2: the control parameters' softmax, mean's and variance's
  int ratio_rows;           // groups of channels with control parameters of their own
  unsigned ratio_channels;  // of such a group
  double plane_factor;      // of a plane's variance
  A *plane_dmu, *plane_dvar, *dm, *dv;                      // backward: N×C, what a plane adds
  A *weight_part, *bias_part, *gate_part, *statistic_part;  // backward: N×C, to be summed over samples
  double* ratio_part;                                       // backward: N×ratio_groups×scopes×2, likewise
  double* window_part;                                      // backward: N×window, likewise
  size_t bytes;                                             // of all of it
};

// The parts within `memory` (16 byte aligned), each aligned so. With `memory` null: how much it must be.
template <class A>
inline HeadScratch<A> head_scratch(const HeadArgs& k, bool grad, void* memory) {
  HeadScratch<A> s{};
  auto part = [&](auto*& to, int64_t count) {
    to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(uintptr_t(memory) + s.bytes);
    s.bytes += (size_t(count) * sizeof(*to) + 15) / 16 * 16;
  };
  const bool any = any_pair(k), attentive = k.recalibrate == Recalibrate::attentive;
  const bool groups = over_groups(k);
  const int64_t planes = k.N * k.C;
  s.per_sample = any ? k.C : groups ? k.groups : 0;
  s.sharing = unsigned(groups && !any ? k.C / k.groups : 1);
  const int64_t pairs = any ? planes : groups ? k.N * k.groups : over_batch(k) ? k.C : 0;
  if (pairs > 0) {
    part(s.mu, pairs);
    part(s.r, pairs);
  }
  if (norm_over_batch(k)) {
    part(s.norm_mean, k.K);
    part(s.norm_inverse, k.K);
  }
  if (any) {
    const bool switchable = k.standardize == Standardize::switchable;
    const bool own = k.standardize == Standardize::identity || k.standardize == Standardize::filter_response;
    s.scopes = switchable ? int(k.scopes) : own ? 0 : 1;
    s.ratio_rows = int(k.ratio_groups), s.ratio_channels = unsigned(k.C / k.ratio_groups);
    if (switchable) part(s.ratios, 2 * k.N * k.ratio_groups * k.scopes);
    s.plane_factor = plane_variance_factor(k);
    for (int i = 0; i < s.scopes; ++i) {
      const Over over = switchable ? k.over[i] : groups ? Over::group : Over::batch;
      const Sharers of(k, over);
      ScopeScratch& t = s.scope[i];
      t.given = of.given;
      t.per_sample = of.batch ? 0 : int(k.C / of.channels);
      t.channels = int(of.channels);
      t.share = 1 / double(of.count), t.factor = of.factor;
      if (t.given || over == Over::instance) continue;
      const int64_t entries = of.entries(k.N, k.C);
      part(t.mu, entries);
      part(t.var, entries);
      if (grad) part(t.dmu, entries);
      if (grad) part(t.dvar, entries);
    }
  }
  if (!grad) return s;
  if (attentive && !any) {
    part(s.dmu, pairs);
    part(s.dvar, pairs);
  }
  if (k.K > 0) {
    part(s.da, k.N * k.K);
    part(s.lambda, k.N * k.K);
    part(s.dz, k.N * k.K);
    part(s.s, k.N * attention_width(k));
  }
  if (attentive) part(s.dgamma, planes);
  if (!any) return s;
  for (A** array : {&s.plane_dmu, &s.plane_dvar, &s.dm, &s.dv}) part(*array, planes);
  if (!attentive) part(s.weight_part, planes);
  if (gates_all(k)) part(s.bias_part, planes);
  if (!attentive && k.gate_weight) part(s.gate_part, planes);
  if (k.recalibrate == Recalibrate::scaling) part(s.statistic_part, planes);
  if (s.ratios) part(s.ratio_part, 2 * k.N * k.ratio_groups * k.scopes);
  if (k.window > 0) part(s.window_part, k.N * k.window);
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
