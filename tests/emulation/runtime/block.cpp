// One block: its threads take turns, in an order that is different every time.
#include <thread>

#include "poison.h"
#include "state.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {
constexpr size_t kMargin = 8 << 10;  // never to be touched
}
namespace fusednorm {
__shared__ __align__(16) unsigned char shared_bytes[emulation::kSharedPerBlock + kMargin];
}

namespace emulation {
namespace {

void begin(Block& block) {
  block.begun = true;
  ASAN_UNPOISON_MEMORY_REGION(block.shared, running->shared);
  memset(block.shared, 0xff, running->shared);  // a NaN, until something is written
}

void end(Block& block) {
  ASAN_POISON_MEMORY_REGION(block.shared, running->shared);
  if (running->programmatic && !block.dependency_awaited) {
    current = &block.threads[0];
    fail(
        "the block ended without cudaGridDependencySynchronize(), though it was launched with programmatic stream "
        "serialization: it may have run before the kernel ahead of it was done");
  }
}

void thread_body() {
  for (;;) {
    running->call(running->closure);
    Block& block = *current->block;
    --block.live;
    release_if_complete(block, Scope::block);  // those who left count at no barrier
    release_if_complete(block, Scope::cluster);
    wait(State::exited);
  }
}

void resume(Block& block, Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
  thread.state = State::ready;
  if (!thread.fiber.bottom) create_fiber(thread.fiber, thread_body);
  switch_fiber(block.scheduler, thread.fiber);
}

// Every lane that can, goes on to its next switch; false: all that did only spun.
bool take_pass(Block& block, unsigned warp) {
  Thread* order[32];
  unsigned count = 0;
  for (unsigned i = warp * 32; i < std::min(warp * 32 + 32, block.size); ++i) {
    Thread& thread = block.threads[i];
    if (thread.state > State::spinning) continue;
    const unsigned place = random_below(++count);  // the list stays shuffled as it grows
    order[count - 1] = order[place];
    order[place] = &thread;
  }
  bool progress = false;
  for (unsigned i = 0; i < count; ++i) {
    resume(block, *order[i]);
    progress |= order[i]->state != State::spinning;
  }
  block.able |= count > 0;
  return progress;
}

// Warps go on one by one, mostly until they must wait for others: on a GPU, too, one may be far ahead.
bool take_round(Block& block) {
  static std::vector<unsigned> warps;
  warps.resize((block.size + 31) / 32);
  for (unsigned warp = 0; warp < warps.size(); ++warp) warps[warp] = warp;
  shuffle(warps);
  bool progress = false;
  block.able = false;
  for (const unsigned warp : warps)
    while (take_pass(block, warp)) {
      progress = true;
      if (random_below(16) == 0) break;
    }
  current = nullptr;
  return progress;
}

void take_turn(Block& block) {
  blockIdx = block.index;
  if (!block.begun) begin(block);
  bool progress = false;
  while (take_round(block)) progress = true;
  running->idle_turns = progress ? 0 : running->idle_turns + 1;
  if (block.live == 0) end(block);
}

void place_body(Block& place) {
  place.shared = fusednorm::shared_bytes;
  ASAN_POISON_MEMORY_REGION(place.shared, sizeof(fusednorm::shared_bytes));
  launcher.release();
  for (;;) {
    place.baton.acquire();
    take_turn(place);
    pass_baton();
  }
}

}  // namespace

void wait(State state) {
  Thread& thread = *current;
  thread.state = state;
  if (state == State::in_warp) complete_warp(thread);
  if (state == State::at_barrier) {
    ++thread.block->waiting[unsigned(thread.scope)];
    release_if_complete(*thread.block, thread.scope);
  }
  switch_fiber(thread.fiber, thread.block->scheduler);
}

void start_place(Block& place) {
  std::thread(place_body, std::ref(place)).detach();
  launcher.acquire();
}

}  // namespace emulation
