// Barriers of a block, a cluster, the grid; and a block's way to the others of its cluster.
#include "state.h"

namespace emulation {
namespace {

void release(Block& block, Scope scope) {
  for (unsigned i = 0; i < block.size; ++i) {
    Thread& thread = block.threads[i];
    if (thread.state == State::at_barrier && thread.scope == scope) thread.state = State::ready;
  }
  block.waiting[unsigned(scope)] = 0;
  block.able = true;
}

}  // namespace

// A barrier opens when all who have not exited are there; the grid's waits for those who exited too, as on hardware.
void release_if_complete(Block& block, Scope scope) {
  if (scope == Scope::block) {
    const unsigned there = block.waiting[unsigned(scope)];
    if (there != 0 && there == block.live) release(block, scope);
    return;
  }
  auto first = places.begin(), last = first + running->resident;
  if (scope == Scope::cluster) {
    first += block.cluster * running->cluster_size;
    last = first + running->cluster_size;
  }

  unsigned waiting = 0, expected = 0;
  for (auto place = first; place != last; ++place) {
    waiting += place->waiting[unsigned(scope)];
    expected += scope == Scope::grid ? place->size : place->live;
  }
  if (waiting == 0 || waiting != expected) return;
  for (auto place = first; place != last; ++place) release(*place, scope);
}

void barrier(Scope scope) {
  if (scope == Scope::grid && !running->cooperative)
    fail("this_grid().sync() in a kernel that was not launched cooperatively");
  current->scope = scope;
  wait(State::at_barrier);
}

void yield() { wait(State::spinning); }

unsigned cluster_rank() { return current->block->rank; }
unsigned cluster_size() { return running->cluster_size; }

void* map_shared(const void* shared, unsigned rank) {
  const Block& block = *current->block;
  const size_t offset = size_t(static_cast<const unsigned char*>(shared) - block.shared);
  if (offset >= running->shared) fail("map_shared_rank() of an address that is not in this block's shared memory");
  if (rank >= running->cluster_size) fail("map_shared_rank(%u) in a cluster of %u blocks", rank, running->cluster_size);
  return places[block.cluster * running->cluster_size + rank].shared + offset;
}

}  // namespace emulation

void cudaGridDependencySynchronize() { emulation::current->block->dependency_awaited = true; }
