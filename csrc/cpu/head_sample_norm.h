// BN of K values over samples inside a head (AN eq. 11, choice A2; SRM eq. 5): by the batch's statistics, or given ones.
// In double: it takes out of the gradient most of what there is, and what stays would carry float32's noise. Included
// once per instruction set, inside that set's namespace.

template <class A>
struct SampleNorm {
  const HeadArgs& k;
  const int64_t K;
  Scratch<double> memory;
  double *z_hat, *r;  // N×K, K: as forward left them

  SampleNorm(const HeadArgs& args, int64_t components)
      : k(args), K(components), memory((args.N + 1) * components), z_hat(memory.data), r(z_hat + args.N * components) {}

  // z (N×K) -> weight z_hat + bias, which may lie in the same place; the batch's statistics to k.z_mean and k.z_var
  void forward(const double* z, double* normed) {
    const int64_t N = k.N;
    Scratch<double> moments(2 * K, true);
    double *mean = moments.data, *var = mean + K;
    if (k.norm_mean) {
      for (int64_t i = 0; i < K; ++i) mean[i] = double(in<A>(k.norm_mean)[i]), var[i] = double(in<A>(k.norm_var)[i]);
    } else {
      for (int64_t n = 0; n < N; ++n)
        for (int64_t i = 0; i < K; ++i) mean[i] += z[n * K + i];
      for (int64_t i = 0; i < K; ++i) mean[i] /= double(N);
      for (int64_t n = 0; n < N; ++n)
        for (int64_t i = 0; i < K; ++i) var[i] += (z[n * K + i] - mean[i]) * (z[n * K + i] - mean[i]);
      for (int64_t i = 0; i < K && k.z_mean; ++i) {
        out<A>(k.z_mean)[i] = A(mean[i]);
        out<A>(k.z_var)[i] = A(var[i] / double(N > 1 ? N - 1 : 1));
      }
      for (int64_t i = 0; i < K; ++i) var[i] /= double(N);
    }
    for (int64_t i = 0; i < K; ++i) r[i] = inverse_deviation<double>(var[i], k.norm_eps);
    const A *weight = in<A>(k.norm_weight), *bias = in<A>(k.norm_bias);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < K; ++i) {
        const double hat = (z[n * K + i] - mean[i]) * r[i];
        z_hat[n * K + i] = hat;
        normed[n * K + i] = hat * double(weight[i]) + double(bias[i]);
      }
  }

  // d, by weight z_hat + bias, to that by z, in place; and dnorm_weight, dnorm_bias
  void backward(double* d, const HeadGradArgs& to) const {
    const int64_t N = k.N;
    Scratch<double> sums(3 * K, true);
    double *sum = sums.data, *sum_hat = sum + K, *gain = sum_hat + K;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < K; ++i) {
        sum[i] += d[n * K + i];
        sum_hat[i] += d[n * K + i] * z_hat[n * K + i];
      }
    round_to<A>(to.dnorm_weight, sum_hat, K);
    round_to<A>(to.dnorm_bias, sum, K);
    for (int64_t i = 0; i < K; ++i) {
      gain[i] = double(in<A>(k.norm_weight)[i]) * r[i];
      sum[i] /= double(N), sum_hat[i] /= double(N);
    }
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < K; ++i) {
        double& at = d[n * K + i];
        if (!k.norm_mean) at -= sum[i] + z_hat[n * K + i] * sum_hat[i];
        at *= gain[i];
      }
  }
};
