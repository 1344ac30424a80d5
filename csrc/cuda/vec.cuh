// 16 bytes of a map at a time, and the types that values have in memory and in registers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace fusednorm {

using bf16 = __nv_bfloat16;
using f16 = __half;

template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// Values that a thread takes at a time.
template <class T, bool vectorized>
constexpr int kValues = vectorized ? int(16 / sizeof(T)) : 1;

// V values as they are in memory.
template <class T, int V>
struct Raw {
  uint4 bits;
};
template <class T>
struct Raw<T, 1> {
  T bits;
};

namespace detail {

__device__ __forceinline__ float to_compute(float v) { return v; }
__device__ __forceinline__ double to_compute(double v) { return v; }
__device__ __forceinline__ float to_compute(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_compute(f16 v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T from_compute(Compute<T> v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 from_compute<bf16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ f16 from_compute<f16>(float v) {
  return __float2half_rn(v);
}

template <class T>
struct BitsOf;
template <>
struct BitsOf<float> {
  using type = uint32_t;
};
template <>
struct BitsOf<double> {
  using type = uint64_t;
};
template <>
struct BitsOf<bf16> {
  using type = uint16_t;
};
template <>
struct BitsOf<f16> {
  using type = uint16_t;
};

// The values of 16 bytes as integers; with them loops over register arrays stay in registers.
template <class T>
union Words {
  uint4 all;
  typename BitsOf<T>::type each[16 / sizeof(T)];
};

template <class T>
__device__ __forceinline__ T from_bits(typename BitsOf<T>::type bits) {
  T value;
  memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
__device__ __forceinline__ typename BitsOf<T>::type to_bits(T value) {
  typename BitsOf<T>::type bits;
  memcpy(&bits, &value, sizeof(T));
  return bits;
}

}  // namespace detail

// Reads p[0..V), 16 bytes at a 16-byte boundary, or one value.
template <class T, int V>
__device__ __forceinline__ Raw<T, V> load(const T* p) {
  if constexpr (V == 1)
    return {*p};
  else
    return {__ldg(reinterpret_cast<const uint4*>(p))};
}

// Likewise, of a map that the kernel itself may write over: __ldg is for what nobody writes meanwhile.
template <class T, int V>
__device__ __forceinline__ Raw<T, V> load_written(const T* p) {
  if constexpr (V == 1)
    return {*p};
  else
    return {__ldcg(reinterpret_cast<const uint4*>(p))};
}

// Writes p[0..V); `stream`: nobody will read it from the caches. Intrinsics both: the compiler splits a plain assignment.
template <class T, int V>
__device__ __forceinline__ void store(T* p, const Raw<T, V>& raw, bool stream) {
  if constexpr (V == 1)
    *p = raw.bits;
  else if (stream)
    __stcs(reinterpret_cast<uint4*>(p), raw.bits);
  else
    __stcg(reinterpret_cast<uint4*>(p), raw.bits);
}

// Value j of them. (j is known at compile time, so nothing is indexed.)
template <class T, int V>
__device__ __forceinline__ Compute<T> value_of(const Raw<T, V>& raw, int j) {
  if constexpr (V == 1) {
    return detail::to_compute(raw.bits);
  } else {
    detail::Words<T> words;
    words.all = raw.bits;
    return detail::to_compute(detail::from_bits<T>(words.each[j]));
  }
}

// Makes `value` the j-th of them. (Likewise.)
template <class T, int V>
__device__ __forceinline__ void set_value(Raw<T, V>& raw, int j, Compute<T> value) {
  if constexpr (V == 1) {
    raw.bits = detail::from_compute<T>(value);
  } else {
    detail::Words<T> words;
    words.all = raw.bits;
    words.each[j] = detail::to_bits<T>(detail::from_compute<T>(value));
    raw.bits = words.all;
  }
}

}  // namespace fusednorm
