// A thread's place, and what it does with the rest of its block.
#pragma once

// The scheduler sets these whenever it switches to another thread; only one runs at a time.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

inline void __syncthreads() { emulation::barrier(emulation::Scope::block); }
inline void __nanosleep(unsigned) { emulation::yield(); }
[[noreturn]] inline void __trap() { emulation::fail("__trap()"); }

// Threads run one at a time, so memory is always in order.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}

void cudaGridDependencySynchronize();
inline void cudaTriggerProgrammaticLaunchCompletion() {}
