// The activations, for vectors on the CPU and scalars on a GPU: the includer supplies vexp, verfc and a type V in which
// `condition ? a : b` works elementwise. Comparisons are written so that NaN falls through to the result, as in
// PyTorch. Included inside the includer's namespace; for a GPU FUSEDNORM_HD is defined before.

#ifndef FUSEDNORM_HD
#define FUSEDNORM_HD inline
#endif

template <class A>
struct ActConstants {
  static constexpr A leaky_slope = A(0.01);
  static constexpr A sqrt_half = A(0.70710678118654752440);
  static constexpr A inv_sqrt_2pi = A(0.39894228040143267794);
};

// act(z)
template <class A, class V>
FUSEDNORM_HD V act_value(Act act, V z) {
  using K = ActConstants<A>;
  const V zero = V{}, six = V{} + A(6);
  switch (act) {
    case Act::identity:
      return z;
    case Act::relu:
      return z < A(0) ? zero : z;
    case Act::relu6: {
      V low = z < A(0) ? zero : z;
      return low > A(6) ? six : low;
    }
    case Act::leaky_relu:
      return z > A(0) ? z : z * K::leaky_slope;
    case Act::silu:
      return z / (A(1) + vexp(-z));
    case Act::hardswish: {
      V t = z + A(3);
      t = t < A(0) ? zero : t;
      t = t > A(6) ? six : t;
      return z * t / A(6);
    }
    case Act::gelu:
      return z * (A(0.5) * verfc(z * -K::sqrt_half));
  }
  return z;
}

// Where the gradient of a ReLU-like activation passes whole: the mask's bits.
template <class A, class V>
FUSEDNORM_HD auto act_passes(Act act, V z) {
  if (act == Act::relu) return !(z <= A(0));
  if (act == Act::relu6) return !((z <= A(0)) | (z >= A(6)));
  return z > A(0);
}

// What the gradient is multiplied with where the mask's bit is 0.
template <class A>
FUSEDNORM_HD A act_blocked_slope(Act act) {
  return act == Act::leaky_relu ? ActConstants<A>::leaky_slope : A(0);
}

// dy * act'(z)
template <class A, class V>
FUSEDNORM_HD V act_gradient(Act act, V dy, V z) {
  using K = ActConstants<A>;
  switch (act) {
    case Act::identity:
      return dy;
    case Act::relu:
    case Act::relu6:
      return act_passes<A>(act, z) ? dy : V{};
    case Act::leaky_relu:
      return act_passes<A>(act, z) ? dy : dy * K::leaky_slope;
    case Act::silu: {
      V sigma = A(1) / (A(1) + vexp(-z));
      return dy * sigma * (A(1) + z * (A(1) - sigma));
    }
    case Act::hardswish: {
      V slope = z >= A(3) ? V{} + A(1) : z / A(3) + A(0.5);
      return dy * (z <= A(-3) ? V{} : slope);
    }
    case Act::gelu: {
      V cdf = A(0.5) * verfc(z * -K::sqrt_half);
      V pdf = vexp(z * z * A(-0.5)) * K::inv_sqrt_2pi;
      return dy * (cdf + z * pdf);
    }
  }
  return dy;
}
