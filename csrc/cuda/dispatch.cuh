// From what is known at run time to a kernel's template arguments.
#pragma once

#include <type_traits>

#include "../common/arguments.h"
#include "plan.h"
#include "vec.cuh"

namespace fusednorm {

// f(T{}) for the type of a map's values.
template <class F>
void with_type(Type type, F&& f) {
  switch (type) {
    case Type::f32:
      return f(float{});
    case Type::f64:
      return f(double{});
    case Type::bf16:
      return f(bf16{});
    case Type::f16:
      return f(f16{});
  }
}

// f(std::true_type or std::false_type)
template <class F>
void with_bool(bool value, F&& f) {
  if (value)
    f(std::true_type{});
  else
    f(std::false_type{});
}

template <Acts acts>
using ActsConstant = std::integral_constant<Acts, acts>;

// f(T{}, channels_last, vectorized, acts) for an affine kernel. Where steps are single values, one instantiation knows all
// activations: those maps are rare, and every instantiation costs time to compile.
template <class F>
void with_kernel(const AffineArgs& k, const Plan& plan, F&& f) {
  with_type(k.shape.type, [&](auto type) {
    with_bool(k.shape.channels_last, [&](auto channels_last) {
      if (!plan.vectorized)
        f(type, channels_last, std::false_type{}, ActsConstant<Acts::all>{});
      else if (acts_with(k.act) == Acts::smooth)
        f(type, channels_last, std::true_type{}, ActsConstant<Acts::smooth>{});
      else
        f(type, channels_last, std::true_type{}, ActsConstant<Acts::relu_like>{});
    });
  });
}

// f(T{}, channels_last, vectorized) for a kernel of docs/positions.md. Double has single values only.
template <class F>
void with_position_kernel(const Shape& s, const Plan& plan, F&& f) {
  with_type(s.type, [&](auto type) {
    with_bool(s.channels_last, [&](auto channels_last) {
      if constexpr (sizeof(type) == sizeof(double))
        f(type, channels_last, std::false_type{});
      else
        with_bool(plan.vectorized, [&](auto vectorized) { f(type, channels_last, vectorized); });
    });
  });
}

// f(T{}, acts) for a resident kernel; double has none.
template <class F>
void with_resident_kernel(const AffineArgs& k, F&& f) {
  auto with_acts = [&](auto acts) {
    if (k.shape.type == Type::f32)
      f(float{}, acts);
    else if (k.shape.type == Type::bf16)
      f(bf16{}, acts);
    else
      f(f16{}, acts);
  };
  if (acts_with(k.act) == Acts::smooth)
    with_acts(ActsConstant<Acts::smooth>{});
  else
    with_acts(ActsConstant<Acts::relu_like>{});
}

// f(T{}, channels_last) for a kernel that keeps samples (sample.h); double has none.
template <class F>
void with_kept_kernel(const Shape& s, F&& f) {
  with_bool(s.channels_last, [&](auto channels_last) {
    if (s.type == Type::f32)
      f(float{}, channels_last);
    else if (s.type == Type::bf16)
      f(bf16{}, channels_last);
    else
      f(f16{}, channels_last);
  });
}

}  // namespace fusednorm
