#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

#if defined(FUSEDNORM_EMULATION_FAST_SWITCH)
extern "C" void fusednorm_emulation_switch(void** from, void* to);
asm(R"(
.text
.globl fusednorm_emulation_switch
.hidden fusednorm_emulation_switch
.type fusednorm_emulation_switch, @function
fusednorm_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fusednorm_emulation_switch, .-fusednorm_emulation_switch
.section .note.GNU-stack,"",@progbits
.text
)");
#endif

namespace emulation {
namespace {

constexpr size_t kStack = 128 << 10;  // room for a sanitizer's report
constexpr size_t kGuard = 4 << 10;

// The two ends of the last switch.
Fiber* left;
Fiber* entered;

// The first thing after a switch.
void arrive() { __sanitizer_finish_switch_fiber(entered->fake_stack, &left->bottom, &left->size); }

void enter() {
  arrive();
  entered->body();
  abort();
}

}  // namespace

void switch_fiber(Fiber& from, Fiber& to) {
  left = &from;
  entered = &to;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#if defined(FUSEDNORM_EMULATION_FAST_SWITCH)
  fusednorm_emulation_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
  arrive();
}

void create_fiber(Fiber& fiber, void (*body)()) {
  fiber.body = body;
  void* memory =
      mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) {
    perror("emulation: no memory for a thread's stack");
    abort();
  }
  fiber.bottom = static_cast<char*>(memory) + kGuard;
  fiber.size = kStack;
#if defined(FUSEDNORM_EMULATION_FAST_SWITCH)
  // What the switch pops: six registers, enter's address, and 0 for the address that enter would return to.
  void** top = reinterpret_cast<void**>(static_cast<char*>(memory) + kGuard + kStack - 64);
  top[6] = reinterpret_cast<void*>(enter);
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = const_cast<void*>(fiber.bottom);
  fiber.context.uc_stack.ss_size = kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
#endif
}

}  // namespace emulation
