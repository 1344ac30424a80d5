// Stacks of their own, switched by hand.
#pragma once

#include <cstddef>

#if defined(__x86_64__)
#define FUSEDNORM_EMULATION_FAST_SWITCH
#else
#include <ucontext.h>
#endif

namespace emulation {

struct Fiber {
  const void* bottom = nullptr;  // of the stack; of an OS thread's own, learnt at the first switch
  size_t size = 0;
  void (*body)() = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
#if defined(FUSEDNORM_EMULATION_FAST_SWITCH)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

// A fiber that will run `body`, which never returns.
void create_fiber(Fiber& fiber, void (*body)());
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace emulation
