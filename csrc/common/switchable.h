// Switchable Normalization's standardization (SN, Luo et al., 2019, eqs. 3-5), shared by host and device:
//   mu = sum_k w_k mu_k,  var = sum_k w'_k var_k over the scopes k,  w = softmax(mean_weight),  w' = softmax(var_weight)
// calculated as m + sum_k w_k (mu_k - m), for w sums to 1 only up to rounding and m may be large. Included inside the
// includer's namespace, after head_math.h.
// Way back: head_math.h's mean_gradient and variance_gradient of each scope, with dmu_k = sum w_k dmu and
// dvar_k = factor sum w'_k dvar over the planes that share; dv times plane_variance_factor. m's own coefficient,
// 1 - sum_k w_k, is 0.

constexpr int kMostScopes = 4;

// The planes that share a scope's mean and variance: of all samples, or a group of channels of one sample.
struct Sharers {
  bool batch, given;  // given: running statistics
  int64_t channels;   // of a group
  int64_t count;      // planes that share
  double factor;      // of the variance, over planes of one position: unbiased as those over positions would be

  FUSEDNORM_HD Sharers(const HeadArgs& k, Over over)
      : batch(over == Over::batch),
        given(batch && k.running()),
        channels(over == Over::layer   ? k.C
                 : over == Over::group ? k.C / k.groups
                                       : 1),
        count(batch ? k.N : channels),
        factor(k.unbiased && k.S == 1 && !given ? unbiased_factor(double(count)) : 1.0) {}

  // Where the moments of plane (n, c) lie, and how many there are.
  FUSEDNORM_HD int64_t index(int64_t n, int64_t c, int64_t C) const {
    return batch ? c : n * (C / channels) + c / channels;
  }
  FUSEDNORM_HD int64_t entries(int64_t N, int64_t C) const { return batch ? C : N * (C / channels); }
};

// What v is multiplied with: the official code's unbiased plane variance, of which the other scopes' are made.
FUSEDNORM_HD double plane_variance_factor(const HeadArgs& k) { return k.unbiased ? unbiased_factor(double(k.S)) : 1.0; }

// w of `count` control parameters.
template <class A>
FUSEDNORM_HD void ratios(const A* weight, int64_t count, double* w) {
  double largest = double(weight[0]), total = 0;
  for (int64_t i = 1; i < count; ++i) largest = double(weight[i]) > largest ? double(weight[i]) : largest;
  for (int64_t i = 0; i < count; ++i) total += w[i] = head_exp(double(weight[i]) - largest);
  for (int64_t i = 0; i < count; ++i) w[i] /= total;
}

// dw -> the control parameters' gradient
template <class A>
FUSEDNORM_HD void ratios_gradient(const double* w, const double* dw, int64_t count, A* dweight) {
  double inner = 0;
  for (int64_t i = 0; i < count; ++i) inner += w[i] * dw[i];
  for (int64_t i = 0; i < count; ++i) dweight[i] = A(w[i] * (dw[i] - inner));
}

// What a scope adds to mu.
FUSEDNORM_HD double mixed_mean(double w, double mu, double mean) { return w * (mu - mean); }
