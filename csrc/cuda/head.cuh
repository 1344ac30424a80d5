// The head in stages that a team of blocks goes through together (team.cuh), for kernels that hold the planes
// themselves and for head.cu's. `shared`: head_shared_bytes(blockDim.x) bytes, free again on return. Kernels take
// HeadArgs and HeadGradArgs as __grid_constant__, or the calls here copy them into local memory.
#pragma once

#include "head_backward.cuh"
#include "head_forward.cuh"
