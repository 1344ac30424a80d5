// What the headers ask of the runtime.
#pragma once

namespace emulation {

// Prints the kernel, the block, the thread and the message, and aborts.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

enum class Scope : unsigned char { block, cluster, grid };
void barrier(Scope scope);
void yield();

enum class WarpOp : unsigned char { sync, ballot, any, all, shuffle, shuffle_xor, shuffle_up, shuffle_down };
// Waits for all lanes of the mask; for votes returns the lanes whose value is not 0.
uint64_t warp_call(WarpOp op, unsigned mask, uint64_t value, unsigned argument, unsigned width);
unsigned lane();

unsigned cluster_rank();
unsigned cluster_size();
// Where the block `rank` of this cluster has what this block has at `shared`.
void* map_shared(const void* shared, unsigned rank);

}  // namespace emulation
