// A CUDA that runs on the CPU: threads are fibers (../runtime), and what the kernels call is in emulation/.
#pragma once

// System headers come first: they must not see CUDA's macros.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulation/qualifiers.h"
#include "emulation/vector_types.h"
#include "emulation/runtime.h"
#include "emulation/block.h"
#include "emulation/warp.h"
#include "emulation/memory.h"
#include "emulation/atomics.h"
#include "emulation/device_math.h"
#include "emulation/api.h"
#include "emulation/launch.h"
