// The scalar formulas of the head (docs/engine.md), shared by host and device. m is the plane mean rounded, the
// kernels' pivot; mu and var are what a plane is standardized with, r = 1/sqrt(var + eps). Included inside the
// includer's namespace; head_sqrt is the includer's, and FUSEDNORM_HD on a GPU.

#ifndef FUSEDNORM_HD
#define FUSEDNORM_HD inline
#endif

template <class A>
FUSEDNORM_HD A inverse_deviation(double var, double eps) {
  return A(1 / head_sqrt(var + eps));
}

// FRN's nu²: with it for the variance and 0 for the mean, a plane's mean of squares (Singh & Krishnan, 2020, eq. 1).
template <class A>
FUSEDNORM_HD double mean_square(double mean, A v) {
  return double(v) + mean * mean;
}

// What a plane adds to d nu², as var_gradient. Unrounded: of planes of one position dx is what eps leaves of it.
template <class A>
FUSEDNORM_HD double mean_square_gradient(A scale, A dscale, A dshift, double mean, A v, double eps) {
  return -0.5 * double(scale) * (double(dscale) + mean * double(dshift)) / (mean_square(mean, v) + eps);
}

// Of running statistics, which have the compute type.
template <class A>
FUSEDNORM_HD A running_inverse(A var, double eps) {
  return A(1) / head_sqrt(var + A(eps));
}

// Beta + scale (m - mu)
template <class A>
FUSEDNORM_HD A shift_at_pivot(A beta, A scale, A m, double mu) {
  return beta + scale * A(double(m) - mu);
}

// What a biased variance of `count` values is multiplied with to be unbiased.
FUSEDNORM_HD double unbiased_factor(double count) { return count > 1 ? count / (count - 1) : 1; }

// dGamma = r (dscale + (m - mu) dshift)
template <class A>
FUSEDNORM_HD A gamma_gradient(A r, A dscale, A dshift, A m, double mu) {
  return r * (dscale + A(double(m) - mu) * dshift);
}

// What a plane adds to dmu and to dvar.
template <class A>
FUSEDNORM_HD double mu_gradient(A scale, A dshift) {
  return -double(scale * dshift);
}
template <class A>
FUSEDNORM_HD double var_gradient(A dgamma, A scale, A r) {
  return -0.5 * double(dgamma * scale * r);
}

// dm and dv of one of the `count` planes that mu and var are made of.
template <class A>
FUSEDNORM_HD A mean_gradient(double dmu, double dvar, double mean, double mu, int64_t count) {
  return A((dmu + 2 * dvar * (mean - mu)) / double(count));
}
template <class A>
FUSEDNORM_HD A variance_gradient(double dvar, int64_t count) {
  return A(dvar / double(count));
}

// dx = scale*g + a*(x - center) + b
template <class A>
FUSEDNORM_HD A a_of(A dv, int64_t S) {
  return A(2) * dv / A(S);
}
template <class A>
FUSEDNORM_HD A b_of(A dm, int64_t S) {
  return dm / A(S);
}
