// What representative BN (RBN, Gao et al., 2021, eqs. 5-9) and gates look at in a plane, and the way back to its
// moments; shared by host and device. mean, v: of the plane; mu, r: what it is standardized with. Included inside the
// includer's namespace, after head_math.h. dm, dv, dmu, dvar are added to.

// d sqrt(v)/dv; a constant plane has no direction in which its deviation grows: 0.
template <class A>
FUSEDNORM_HD double root_slope(A v) {
  return v > A(0) ? 0.5 / head_sqrt(double(v)) : 0.0;
}

// k_hat, the mean of x_hat
template <class A>
FUSEDNORM_HD A standardized_mean(double mean, double mu, A r) {
  return A(mean - mu) * r;
}
template <class A>
FUSEDNORM_HD void standardized_mean_gradient(A dk, double mean, double mu, A r, A& dm, double& dmu, double& dvar) {
  const double through = double(dk) * double(r);
  dm += A(through);
  dmu -= through;
  dvar -= 0.5 * through * (mean - mu) * double(r) * double(r);
}

// The biased variance of x_hat
template <class A>
FUSEDNORM_HD A standardized_var(A v, A r) {
  return v * r * r;
}
template <class A>
FUSEDNORM_HD void standardized_var_gradient(A d, A v, A r, A& dv, double& dvar) {
  const double through = double(d) * double(r) * double(r);
  dv += A(through);
  dvar -= through * double(v) * double(r) * double(r);
}

// G of global response, the L2 norm of a plane of x_hat: sqrt(S (var_hat + k_hat²)); 0 has no direction to grow in.
template <class A>
FUSEDNORM_HD A plane_norm(int64_t S, double mean, A v, double mu, A r) {
  const A k = standardized_mean(mean, mu, r);
  return head_sqrt(A(S) * (standardized_var(v, r) + k * k));
}
template <class A>
FUSEDNORM_HD void plane_norm_gradient(A dG, A G, int64_t S, double mean, A v, double mu, A r, A& dm, A& dv, double& dmu,
                                      double& dvar) {
  const A d = G == A(0) ? A(0) : dG * A(S) / (A(2) * G);
  standardized_var_gradient(d, v, r, dv, dvar);
  standardized_mean_gradient(A(2) * d * standardized_mean(mean, mu, r), mean, mu, r, dm, dmu, dvar);
}

// K of scaling: the mean or the std of x_hat, or the mean of x.
enum class ScalingSource { mean, std, input_mean };

template <class A>
FUSEDNORM_HD A scaling_statistic(ScalingSource kind, double mean, A v, double mu, A r) {
  if (kind == ScalingSource::mean) return standardized_mean(mean, mu, r);
  return kind == ScalingSource::std ? head_sqrt(v) * r : A(mean);
}
template <class A>
FUSEDNORM_HD void scaling_statistic_gradient(ScalingSource kind, A dk, double mean, A v, double mu, A r, A& dm, A& dv,
                                             double& dmu, double& dvar) {
  if (kind == ScalingSource::mean) {
    standardized_mean_gradient(dk, mean, mu, r, dm, dmu, dvar);
  } else if (kind == ScalingSource::std) {
    const double through = double(dk) * double(r);
    dv += A(through * root_slope(v));
    dvar -= 0.5 * through * head_sqrt(double(v)) * double(r) * double(r);
  } else {
    dm += dk;
  }
}

// K of centering: the mean or the std of x. The centred map's plane has mean + center_weight K for its mean, mc.
template <class A>
FUSEDNORM_HD double centering_statistic(bool std, double mean, A v) {
  return std ? head_sqrt(double(v)) : mean;
}
template <class A>
FUSEDNORM_HD double centering(bool std, A center_weight, double mean, A v) {
  return double(center_weight) * centering_statistic(std, mean, v);
}
// From dmc and dmu (mu = M - center_weight K, M of the centred map). Besides,
//   dcenter_weight[c] = sum_n K (dmc - dmu)
// With the batch's statistics dmc - dmu sums to 0: any constant may be taken off K, which may be large.
template <class A>
FUSEDNORM_HD void centering_gradient(bool std, A center_weight, double dmc, double dmu, A v, A& dm, A& dv) {
  const double dk = double(center_weight) * (dmc - dmu);
  dm += A(std ? dmc : dmc + dk);
  if (std) dv += A(dk * root_slope(v));
}
