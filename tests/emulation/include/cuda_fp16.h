// __half and its conversions, to nearest even.
#pragma once

#include "cuda_runtime.h"

struct __half {
  unsigned short bits;
};
using half = __half;

inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }

inline float __half2float(__half h) {
  const unsigned sign = (h.bits & 0x8000u) << 16, exponent = h.bits >> 10 & 31u, fraction = h.bits & 1023u;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return copysignf(float(fraction) * 0x1p-24f, __uint_as_float(sign));
  return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

inline __half __float2half_rn(float f) {
  const unsigned sign = __float_as_uint(f) >> 16 & 0x8000u, x = __float_as_uint(f) & 0x7fffffffu;
  unsigned result;
  if (x > 0x7f800000u) return {0x7fff};  // the one NaN that hardware makes
  if (x >= 0x477ff000u)                  // 65520, half way to the first number that is none
    result = 0x7c00;
  else if (x < 0x38800000u)  // subnormal: in 0.5 to 1 float's last place is half's, 2^-24
    result = __float_as_uint(__uint_as_float(x) + 0.5f) - 0x3f000000u;
  else
    result = (x - (112u << 23) + 0xfffu + (x >> 13 & 1u)) >> 13;
  return {static_cast<unsigned short>(sign | result)};
}
inline __half __float2half(float f) { return __float2half_rn(f); }
