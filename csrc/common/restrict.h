// The functions between 0 and 1 that gates end with, for scalars on host and device and for the
// CPU's vectors: the includer supplies head_exp. Included inside the includer's namespace.

#ifndef FUSEDNORM_HD
#define FUSEDNORM_HD inline
#endif

// R(a): sigmoid; (1 + tanh a)/2, which is sigmoid(2a); hsigmoid. NaN passes.
template <class V>
FUSEDNORM_HD __attribute__((always_inline)) V restricted(Restrict kind, V a) {
  const V zero = V{}, one = zero + 1, six = zero + 6;
  if (kind == Restrict::hsigmoid) {
    V t = a + 3;
    t = t < zero ? zero : t;
    return (t > six ? six : t) * (one / six);
  }
  return one / (one + head_exp(kind == Restrict::tanh ? a * -2 : -a));
}

// dR(a)/da, from a and q = R(a). At hsigmoid's corners the gradient passes, as torch.clamp's does.
template <class V>
FUSEDNORM_HD __attribute__((always_inline)) V restricted_slope(Restrict kind, V a, V q) {
  const V zero = V{}, one = zero + 1, sixth = one / 6;
  if (kind == Restrict::hsigmoid) return ((a >= zero - 3) & (a <= zero + 3)) ? sixth : zero;
  const V slope = q * (one - q);
  return kind == Restrict::tanh ? slope * 2 : slope;
}
