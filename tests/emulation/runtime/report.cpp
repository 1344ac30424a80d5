// Errors, in plain words.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "state.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
std::string kernel_name(const void* kernel) {
  char name[500] = "?";
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_symbolize_pc(const_cast<char*>(static_cast<const char*>(kernel)) + 1, "%f", name, sizeof(name));
#endif
  return name;
}

namespace {

constexpr unsigned kLines = 4;

void print_place(const Thread& thread) {
  const uint3 b = thread.block->index, t = thread.index;
  fprintf(stderr, "block (%u, %u, %u), thread (%u, %u, %u)", b.x, b.y, b.z, t.x, t.y, t.z);
}

std::string whereabouts(const Thread& thread) {
  static const char* const kBarriers[] = {"__syncthreads()", "this_cluster().sync()", "this_grid().sync()"};
  switch (thread.state) {
    case State::exited:
      return "has exited";
    case State::at_barrier:
      return std::string("waits at ") + kBarriers[unsigned(thread.scope)];
    case State::in_warp:
      return "waits in " + describe(thread.call);
    default:
      return "runs";
  }
}

// The first lane that has not come to the thread's warp function.
std::string missing_lane(const Thread& thread) {
  const unsigned first = thread.rank - thread.rank % 32;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(thread.call.mask >> lane & 1)) continue;
    const std::string who = " for lane " + std::to_string(lane) + ", which ";
    if (first + lane >= thread.block->size) return who + "does not exist";
    const Thread& other = thread.block->threads[first + lane];
    if (other.state != State::in_warp || other.call.mask != thread.call.mask) return who + whereabouts(other);
  }
  return "";
}

void print_waiting(State state) {
  unsigned lines = 0, more = 0;
  for (unsigned i = 0; i < running->resident; ++i) {
    for (unsigned rank = 0; rank < places[i].size; ++rank) {
      const Thread& thread = places[i].threads[rank];
      if (thread.state != state) continue;
      if (lines == kLines) {
        ++more;
        continue;
      }
      ++lines;
      fprintf(stderr, "  ");
      print_place(thread);
      fprintf(stderr, " %s%s\n", whereabouts(thread).c_str(),
              state == State::in_warp ? missing_lane(thread).c_str() : "");
    }
  }
  if (more)
    fprintf(stderr, "  and %u more threads %s\n", more, state == State::exited ? "have exited" : "wait likewise");
}

}  // namespace

std::string describe(const WarpCall& call) {
  static const char* const kNames[] = {"__syncwarp",  "__ballot_sync",   "__any_sync",     "__all_sync",
                                       "__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync", "__shfl_down_sync"};
  char text[64];
  snprintf(text, sizeof(text), "%s(mask 0x%08x)", kNames[unsigned(call.op)], call.mask);
  return text;
}

void fail(const char* format, ...) {
  fprintf(stderr, "\nemulation: ");
  if (running) fprintf(stderr, "kernel %s%s", kernel_name(running->kernel).c_str(), current ? ", " : "");
  if (current) print_place(*current);
  fprintf(stderr, ": ");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, "\nemulation: FUSEDNORM_EMULATION_SEED=%u\n", seed());
  abort();
}

void fail_stuck() {
  fprintf(stderr, "\nemulation: kernel %s: deadlock, no thread can go on:\n", kernel_name(running->kernel).c_str());
  print_waiting(State::in_warp);
  print_waiting(State::at_barrier);
  print_waiting(State::exited);
  fprintf(stderr, "emulation: FUSEDNORM_EMULATION_SEED=%u\n", seed());
  abort();
}

}  // namespace emulation
