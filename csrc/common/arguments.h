// What kernels are told: plain structs, the same for the CPU and CUDA. No torch and no standard containers here: an
// inline function of theirs, compiled for AVX-512 in one unit, could be the copy that the linker keeps for all.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define FUSEDNORM_BOTH __host__ __device__
#else
#define FUSEDNORM_BOTH
#endif

namespace fusednorm {

enum class Type { f32, f64, bf16, f16 };

// What a layer ends with. The names of the operators' argument `act`.
enum class Act { identity, relu, relu6, leaky_relu, silu, hardswish, gelu };

// A tensor of x's shape as the kernels walk it: a base and strides in elements; p2, p1, p0 are the position
// dimensions, outermost first. `flat`: position i lies at i*p0. Null where an optional tensor is absent.
struct Operand {
  void* data = nullptr;
  int64_t n = 0, c = 0, p2 = 0, p1 = 0, p0 = 0;
  bool flat = true;
};

// An N×C tensor of the compute type; a value shared by all samples has n == 0.
struct PerPlane {
  void* data = nullptr;
  int64_t n = 0, c = 0;
};

struct Shape {
  Type type;
  bool channels_last;
  int64_t N, C, P2, P1, P0;  // positions, outermost dimension first; 1 where there are fewer than three
  bool stream = false;       // outputs are larger than the caches: write past them
  FUSEDNORM_BOTH int64_t positions() const { return P2 * P1 * P0; }
};

struct AffineArgs {
  Shape shape;
  Act act;
  Operand x, residual, dy, g, y;  // y is the output of whichever kernel: y, g or dx
  PerPlane center, scale, shift, a, b, dscale, dshift;
  const double* mean = nullptr;  // CUDA: dense N×C means to be rounded for the pivots, in place of `center`
  uint8_t* mask = nullptr;
};

struct MomentsArgs {
  Shape shape;
  Operand x;
  PerPlane mean, var;  // mean is double whatever the type
};

// What planes are standardized with, and the affine map after it. The order is fusednorm/engine/native.py's.
enum class Standardize { batch, group, switchable, representative, identity, filter_response };
enum class Recalibrate {
  affine,
  attentive,
  scaling,
  squeeze_excite,
  channel_attention,
  style,
  gather_excite,
  global_response
};
// Scopes of a switchable normalization.
enum class Over { instance, layer, batch, group };
// Functions between 0 and 1 that gates end with.
enum class Restrict { sigmoid, tanh, hsigmoid };

// The N×C part of the hot layers: a standardization and a recalibration. docs/engine.md has the formulas. All arrays are
// dense and, but for the means, of the compute type; null where absent.
struct HeadArgs {
  bool f64;
  int64_t N, C, S;
  Standardize standardize;
  Recalibrate recalibrate;
  double eps;
  const double* mean;                                          // N×C plane means
  const void *m, *v;                                           // N×C: the means rounded, the pivots; plane variances
  const void *weight, *bias;                                   // K×C where attentive, else C
  const void *running_mean = nullptr, *running_var = nullptr;  // C; given, they are the batch's statistics
  int64_t groups = 1;  // of channels: group standardization's, or the scope group's
  // switchable: scopes, in the order of the control parameters' columns
  int64_t scopes = 0;
  Over over[4] = {};
  bool unbiased = false;
  int64_t ratio_groups = 1;                                  // groups of channels with control parameters of their own
  const void *mean_weight = nullptr, *var_weight = nullptr;  // ratio_groups×scopes
  // representative: x + center_weight K, K a plane's mean or std
  const void* center_weight = nullptr;  // C
  bool center_std = false;
  // attentive: lambda = Act(fc(s)), or of BN of it; K components. squeeze-excite: fc is its first layer, K its width
  int64_t K = 0;
  int64_t window = 0;                                       // channel attention: channels that a gate looks at, odd
  const void *fc_weight = nullptr, *fc_bias = nullptr;      // K×C or K×2C, K
  bool attention_norm = false;                              // BN after the fc; style has one always
  const void *norm_weight = nullptr, *norm_bias = nullptr;  // K; style: C
  const void *norm_mean = nullptr, *norm_var = nullptr;     // running statistics of them; null: those of the batch
  int source = 0;  // what is looked at. attentive: AttentionInput; scaling: mean, std of x_hat, mean of x
  int gate = 0;    // attentive: AttentionAct; else Restrict
  double source_eps = 0, norm_eps = 0;  // source_eps: style's and global response's too
  // scaling: C, C; squeeze-excite: its second layer, C×K, C; channel attention: its window; style: C×2, of mean and std
  const void *gate_weight = nullptr, *gate_bias = nullptr;
  // forward's results; read again by backward
  void *scale = nullptr, *shift = nullptr;           // N×C
  void* z = nullptr;                                 // N×K, the fc's output, double
  void *batch_mean = nullptr, *batch_var = nullptr;  // C, for the running statistics: unbiased but where switchable
  void *z_mean = nullptr, *z_var = nullptr;          // K, or C for style, unbiased; likewise

  FUSEDNORM_BOTH bool running() const { return running_mean != nullptr; }
  FUSEDNORM_BOTH bool needs_moments() const {
    return !(recalibrate == Recalibrate::affine &&
             (standardize == Standardize::identity || (standardize == Standardize::batch && running())));
  }
};

struct HeadGradArgs {
  HeadArgs head;
  const void *dscale, *dshift;  // N×C
  void *a, *b;                  // N×C, null where nothing flows through the moments
  // null where absent
  void *dweight, *dbias, *dmean_weight, *dvar_weight, *dcenter_weight, *dfc_weight, *dfc_bias, *dnorm_weight,
      *dnorm_bias, *dgate_weight, *dgate_bias;
};

}  // namespace fusednorm
