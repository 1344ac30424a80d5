// Atomics of integers; of floats there are none, because their sums would depend on the order of arrival.
// One thread runs at a time, and switches nowhere in here.
#pragma once

namespace emulation {

template <typename T>
concept Integer = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;

template <typename T>
T replace(T* address, T value) {
  T old = *address;
  *address = value;
  return old;
}

}  // namespace emulation

template <emulation::Integer T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return emulation::replace(address, value);
}

template <emulation::Integer T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  using U = std::make_unsigned_t<T>;  // wraps around
  return emulation::replace(address, T(U(*address) + U(value)));
}

template <emulation::Integer T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return emulation::replace(address, T(*address | value));
}

template <emulation::Integer T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return emulation::replace(address, T(*address & value));
}

template <emulation::Integer T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return emulation::replace(address, *address < value ? value : *address);
}

template <emulation::Integer T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return emulation::replace(address, value < *address ? value : *address);
}

template <emulation::Integer T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return emulation::replace(address, *address == compare ? value : *address);
}

inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return emulation::replace(address, *address >= limit ? 0 : *address + 1);
}

inline unsigned atomicDec(unsigned* address, unsigned limit) {
  return emulation::replace(address, *address == 0 || *address > limit ? limit : *address - 1);
}
