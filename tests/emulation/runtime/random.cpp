#include <cstdlib>

#include "state.h"

namespace emulation {

unsigned seed() {
  static const char* text = getenv("FUSEDNORM_EMULATION_SEED");
  return text ? unsigned(strtoul(text, nullptr, 10)) : 0;
}

// splitmix64; the high half of a product is as good as a remainder.
unsigned random_below(unsigned n) {
  static uint64_t state = seed();
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return unsigned((z >> 32) * n >> 32);
}

}  // namespace emulation
