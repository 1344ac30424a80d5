// What the driver would refuse, and errors kept until asked for.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "state.h"

namespace {

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t keep(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

namespace emulation {
namespace {

std::mutex mutex;                              // of launches
std::map<const void*, size_t> shared_allowed;  // by kernel

size_t allowed(const void* kernel) {
  const auto found = shared_allowed.find(kernel);
  return found == shared_allowed.end() ? kSharedUnasked : std::max(found->second, kSharedUnasked);
}

void read_attributes(const cudaLaunchConfig_t& config, Launch& launch) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttributeValue& value = config.attrs[i].val;
    switch (config.attrs[i].id) {
      case cudaLaunchAttributeCooperative:
        launch.cooperative = value.cooperative != 0;
        break;
      case cudaLaunchAttributeClusterDimension:
        launch.cluster = {value.clusterDim.x, value.clusterDim.y, value.clusterDim.z};
        break;
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        launch.programmatic = value.programmaticStreamSerializationAllowed != 0;
        break;
      case cudaLaunchAttributeIgnore:
        break;
    }
  }
}

size_t volume(dim3 size) { return size_t(size.x) * size.y * size.z; }

cudaError_t check(const Launch& launch) {
  const dim3 grid = launch.grid, block = launch.block, cluster = launch.cluster;
  if (volume(grid) == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (block.x > 1024 || block.y > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
  if (volume(block) == 0 || volume(block) > kThreadsPerBlock) return cudaErrorInvalidConfiguration;
  if (launch.shared > allowed(launch.kernel)) return cudaErrorInvalidValue;
  if (volume(cluster) == 0 || volume(cluster) > kClusterSize) return cudaErrorInvalidClusterSize;
  if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) return cudaErrorInvalidClusterSize;
  const size_t resident = multiprocessors() * blocks_per_multiprocessor(unsigned(volume(block)), launch.shared);
  if (launch.cooperative && volume(grid) > resident) return cudaErrorCooperativeLaunchTooLarge;
  return cudaSuccess;
}

// One line a launch into the file that the environment names: kernel, blocks, threads, shared memory, cluster, cooperative.
void log(const Launch& launch) {
  const char* path = getenv("FUSEDNORM_EMULATION_LOG");
  FILE* file = path ? fopen(path, "a") : nullptr;
  if (file == nullptr) return;
  fprintf(file, "%s\t%zu\t%zu\t%zu\t%zu\t%d\n", kernel_name(launch.kernel).c_str(), volume(launch.grid),
          volume(launch.block), launch.shared, volume(launch.cluster), int(launch.cooperative));
  fclose(file);
}

Launch describe(const cudaLaunchConfig_t& config, const void* kernel) {
  Launch launch;
  launch.kernel = kernel;
  launch.grid = config.gridDim;
  launch.block = config.blockDim;
  launch.shared = config.dynamicSmemBytes;
  read_attributes(config, launch);
  return launch;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t* config, const void* kernel, void (*call)(void*), void* closure) {
  const std::lock_guard lock(mutex);
  Launch launch = describe(*config, kernel);
  if (const cudaError_t error = check(launch); error != cudaSuccess) return keep(error);
  launch.call = call;
  launch.closure = closure;
  launch.block_size = unsigned(volume(launch.block));
  launch.cluster_size = unsigned(volume(launch.cluster));
  launch.resident = launch.cooperative ? unsigned(volume(launch.grid)) : launch.cluster_size;
  log(launch);
  run(launch);
  return cudaSuccess;
}

cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || size_t(value) > kSharedPerBlock) return keep(cudaErrorInvalidValue);
  const std::lock_guard lock(mutex);
  shared_allowed[kernel] = size_t(value);
  return cudaSuccess;
}

cudaError_t occupancy(int* blocks, const void* kernel, int threads, size_t shared) {
  const std::lock_guard lock(mutex);
  if (threads < 1 || unsigned(threads) > kThreadsPerBlock) return keep(cudaErrorInvalidValue);
  *blocks = shared > allowed(kernel) ? 0 : int(blocks_per_multiprocessor(unsigned(threads), shared));
  return cudaSuccess;
}

cudaError_t cluster_occupancy(int* clusters, const void* kernel, const cudaLaunchConfig_t* config) {
  const std::lock_guard lock(mutex);
  const Launch launch = describe(*config, kernel);
  if (const cudaError_t error = check(launch); error != cudaSuccess) return keep(error);
  const unsigned blocks = blocks_per_multiprocessor(unsigned(volume(launch.block)), launch.shared) * multiprocessors();
  *clusters = int(blocks / volume(launch.cluster));
  return cudaSuccess;
}

}  // namespace emulation
