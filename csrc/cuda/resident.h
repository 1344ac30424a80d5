// Resident kernels: a layer in one launch that reads x (backward: dy and x) once, keeps it in shared memory while the
// statistics and the head are made of it, and writes the result from there: 2 units of traffic forward, 3 backward.
//
//   what is kept          by                 when
//   a group of a sample   a block            affine over groups (GN, LN, IN): nothing else enters
//   a sample              a block, or 2-8    attention over a sample's own statistics; running statistics
//                         (a cluster, sm_90)
//   the whole map         all blocks         batch statistics, BN of the attention over the batch; cooperative launch
//
// Where it doesn't fit, or would leave most of the GPU idle, the streaming kernels take their second read from L2 as far as it
// reaches (they walk backwards).
#pragma once

#include <optional>

#include "../common/arguments.h"
#include "launch.h"
#include "plan.h"

namespace fusednorm {

// A thread keeps what it read at places of its own, 16 bytes each, a block's threads side by side.
struct Resident {
  Walk walk;  // of one unit; items go round the team's groups
  Scope scope;
  int cluster;     // blocks of a team, where it is not the grid
  int64_t units;   // teams
  int64_t groups;  // of channels that are units of their own; 1: units are samples (or all)
  int rounds;      // items a group of threads takes
  int slots;       // places an item takes: a step each (two with dy), the ragged ends last
  size_t area;     // bytes of shared memory before the places: reductions, the head, the mask
  int64_t blocks() const { return units * cluster; }
  size_t bytes() const { return area + size_t(rounds) * size_t(slots) * size_t(walk.threads()) * 16; }
};

// The most blocks of a cluster, up to 8, that can each have all of a multiprocessor's shared memory on the current device.
int largest_cluster(const Stream& s);

std::optional<Resident> resident_forward_plan(const AffineArgs& k, const HeadArgs& head, const Stream& s);
std::optional<Resident> resident_backward_plan(const AffineArgs& k, const HeadArgs& head, const Stream& s);

// The whole layer; memory for partials where the plan splits planes.
void norm_forward_resident(const Resident& r, const AffineArgs& k, const HeadArgs& head, const Partials& partials,
                           void* scratch, const Stream& s);

// dx (and dresidual) from dy; with a whole map kept the parameters' gradients too, else head_grad_parameters follows.
void norm_backward_resident(const Resident& r, const AffineArgs& k, const HeadGradArgs& head, const Partials& partials,
                            void* scratch, const Stream& s);

}  // namespace fusednorm
