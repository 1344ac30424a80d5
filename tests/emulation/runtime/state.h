// What a launch consists of. Many OS threads, but only the one that has the baton does anything, so nothing here is
// locked and every run with the same seed is the same.
#pragma once

#include <deque>
#include <semaphore>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"

namespace emulation {

inline constexpr size_t kSharedPerBlock = 232448;  // what a block may ask for
inline constexpr size_t kSharedPerMultiprocessor = 233472;
inline constexpr size_t kSharedUnasked = 48 << 10;  // without asking with cudaFuncSetAttribute
inline constexpr size_t kSharedReserved = 1024;     // of each block's, for the system
inline constexpr unsigned kThreadsPerBlock = 1024, kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
inline constexpr unsigned kClusterSize = 8;

enum class State : unsigned char { ready, spinning, at_barrier, in_warp, exited };

struct WarpCall {
  WarpOp op;
  unsigned mask, argument, width;
  uint64_t value;  // then the result
};

struct Block;

struct Thread {
  Fiber fiber;
  Block* block;
  unsigned rank;
  uint3 index;
  State state;
  Scope scope;    // of the barrier it waits at
  WarpCall call;  // the warp function it waits in
};

// A place for a block, with an OS thread, whose thread-local memory is the block's shared memory.
struct Block {
  std::binary_semaphore baton{0};
  unsigned char* shared = nullptr;
  Fiber scheduler;
  std::deque<Thread> threads;  // as many as the largest block so far needed

  // Of the block that is here now:
  uint3 index;
  unsigned cluster, rank;  // its cluster's number among the resident ones, and its own in the cluster
  unsigned size, live;
  unsigned waiting[3];  // threads at a barrier, by its scope
  bool able;            // some thread may go on
  bool begun;
  bool dependency_awaited;  // cudaGridDependencySynchronize was called
};

struct Launch {
  const void* kernel;
  void (*call)(void*);
  void* closure;
  dim3 grid, block, cluster{1, 1, 1};
  size_t shared;
  bool cooperative = false, programmatic = false;

  unsigned cluster_size, block_size;
  unsigned resident;            // blocks at a time: one cluster's, or all of them
  std::vector<unsigned> order;  // of clusters
  size_t next = 0;              // in `order`
  unsigned idle_turns = 0;      // of blocks in which every thread only spun
};

inline Launch* running = nullptr;
inline Thread* current = nullptr;                           // null outside of kernels
inline std::deque<Block>& places = *new std::deque<Block>;  // the first `resident` are in use, cluster by cluster;
inline std::binary_semaphore& launcher = *new std::binary_semaphore(0);  // neither ends while threads wait in them

// block.cpp
void start_place(Block& place);
void wait(State state);  // switches away from the current thread
// run.cpp
void run(Launch& launch);
void pass_baton();
// barrier.cpp
void release_if_complete(Block& block, Scope scope);
// warp.cpp
void complete_warp(Thread& thread);  // if all lanes it waits for are there
// random.cpp
unsigned random_below(unsigned n);
unsigned seed();
template <typename T>
void shuffle(std::vector<T>& items) {
  for (size_t n = items.size(); n > 1; --n) std::swap(items[n - 1], items[random_below(unsigned(n))]);
}
// report.cpp
[[noreturn]] void fail_stuck();
std::string kernel_name(const void* kernel);
std::string describe(const WarpCall& call);
// device.cpp
unsigned multiprocessors();
unsigned blocks_per_multiprocessor(unsigned threads, size_t shared);

}  // namespace emulation
