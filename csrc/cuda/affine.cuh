// What the three affine kernels share: z = scale*(x - center) + shift + residual, the activation and its gradient on the V
// values of a step, and the mask's bits. docs/engine.md
#pragma once

#include "host_device.cuh"
#include "walk.cuh"

namespace fusednorm {

template <class A, int V, bool channels_last>
struct Coefficients {
  Coefficient<A, V, channels_last> center, scale, shift;

  __device__ __forceinline__ Coefficients(const AffineArgs& k, int64_t n, int64_t c, bool real)
      : center(k.mean ? coefficient<A, V, channels_last>(k.mean, k.shape.C, 1, n, c, real)
                      : coefficient<A, V, channels_last>(k.center, n, c, real)),
        scale(coefficient<A, V, channels_last>(k.scale, n, c, real)),
        shift(coefficient<A, V, channels_last>(k.shift, n, c, real)) {}

  __device__ __forceinline__ A z(int j, A x) const { return scale[j] * (x - center[j]) + shift[j]; }
};

// f(value, passes) with functions z -> act(z) and z -> whether the gradient passes whole. The switch is outside of f, whose
// loop over a step's values is then free of it.
template <Acts acts, class A, class F>
__device__ __forceinline__ void with_act(Act act, F&& f) {
  const auto never = [](A) { return false; };  // no mask is asked for with a smooth one
  if constexpr (acts != Acts::relu_like) {
    if (act == Act::silu) return f([](A z) { return act_value<A>(Act::silu, z); }, never);
    if (act == Act::hardswish) return f([](A z) { return act_value<A>(Act::hardswish, z); }, never);
    if (acts == Acts::smooth || act == Act::gelu) return f([](A z) { return act_value<A>(Act::gelu, z); }, never);
  }
  if constexpr (acts == Acts::smooth) return;
  f(
      [=](A z) {
        const A low = act == Act::identity || !(z < A(0)) ? z
                      : act == Act::leaky_relu            ? z * ActConstants<A>::leaky_slope
                                                          : A(0);
        return act == Act::relu6 && low > A(6) ? A(6) : low;
      },
      [=](A z) { return act_passes<A>(act, z); });
}

// f(gradient) with a function (dy, z, bit) -> dy*act'(z). With `masked`, bit decides; else z.
template <Acts acts, class A, class F>
__device__ __forceinline__ void with_gradient(Act act, bool masked, F&& f) {
  if constexpr (acts != Acts::relu_like) {
    if (act == Act::silu) return f([](A dy, A z, bool) { return act_gradient<A>(Act::silu, dy, z); });
    if (act == Act::hardswish) return f([](A dy, A z, bool) { return act_gradient<A>(Act::hardswish, dy, z); });
    if (acts == Acts::smooth || act == Act::gelu)
      return f([](A dy, A z, bool) { return act_gradient<A>(Act::gelu, dy, z); });
  }
  if constexpr (acts == Acts::smooth) return;
  f([=](A dy, A z, bool bit) {
    const bool passes = act == Act::identity || (masked ? bit : bool(act_passes<A>(act, z)));
    return passes ? dy : act == Act::leaky_relu ? dy * ActConstants<A>::leaky_slope : A(0);
  });
}

// The mask as a thread walks it: bit `i` of a run of `run` values, 1 byte for 8.
// Planar: runs along positions of a plane; channels_last: along channels of a position.
__device__ __forceinline__ unsigned read_bits(const uint8_t* run, int64_t bit, int count) {
  const uint8_t* byte = run + bit / 8;
  const int offset = int(bit % 8);
  unsigned bits = *byte;
  if (offset + count > 8) bits |= unsigned(byte[1]) << 8;
  return bits >> offset;
}

}  // namespace fusednorm
