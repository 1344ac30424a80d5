// One launch: which blocks are resident, and which of them has the baton.
#include "state.h"

namespace emulation {
namespace {

constexpr unsigned kIdleTurns = 10000;

uint3 unflatten(unsigned i, dim3 size) { return {i % size.x, i / size.x % size.y, i / size.x / size.y}; }

void prepare_threads(Block& block) {
  while (block.threads.size() < running->block_size) block.threads.emplace_back();
  for (unsigned rank = 0; rank < running->block_size; ++rank) {
    Thread& thread = block.threads[rank];
    thread.block = &block;
    thread.rank = rank;
    thread.index = unflatten(rank, running->block);
    thread.state = State::ready;
  }
}

// The next blocks move in; false: there are none.
bool load_blocks() {
  Launch& launch = *running;
  if (launch.next == launch.order.size()) return false;
  const dim3 size = launch.cluster;
  const dim3 clusters(launch.grid.x / size.x, launch.grid.y / size.y, launch.grid.z / size.z);
  for (unsigned i = 0; i < launch.resident; ++i) {
    Block& block = places[i];
    block.cluster = i / launch.cluster_size;
    block.rank = i % launch.cluster_size;
    const uint3 base = unflatten(launch.order[launch.next + block.cluster], clusters);
    const uint3 inner = unflatten(block.rank, size);
    block.index = {base.x * size.x + inner.x, base.y * size.y + inner.y, base.z * size.z + inner.z};
    block.size = block.live = launch.block_size;
    block.waiting[0] = block.waiting[1] = block.waiting[2] = 0;
    block.able = true;
    block.begun = block.dependency_awaited = false;
    prepare_threads(block);
  }
  launch.next += launch.resident / launch.cluster_size;
  return true;
}

// A block that may go on, any of them.
Block* choose() {
  static std::vector<Block*> able;
  able.clear();
  unsigned live = 0;
  for (unsigned i = 0; i < running->resident; ++i) {
    if (places[i].able) able.push_back(&places[i]);
    live += places[i].live;
  }
  if (!able.empty()) return able[random_below(unsigned(able.size()))];
  if (live != 0) fail_stuck();
  return nullptr;
}

}  // namespace

void pass_baton() {
  if (running->idle_turns > kIdleTurns) fail("threads wait with __nanosleep() for what no thread will do");
  Block* next = choose();
  if (!next && load_blocks()) next = choose();
  (next ? next->baton : launcher).release();
}

void run(Launch& launch) {
  launch.order.resize(launch.grid.x * size_t(launch.grid.y) * launch.grid.z / launch.cluster_size);
  for (size_t i = 0; i < launch.order.size(); ++i) launch.order[i] = unsigned(i);
  shuffle(launch.order);
  while (places.size() < launch.resident) start_place(places.emplace_back());

  running = &launch;
  gridDim = launch.grid;
  blockDim = launch.block;
  load_blocks();
  pass_baton();
  launcher.acquire();
  running = nullptr;
}

}  // namespace emulation
