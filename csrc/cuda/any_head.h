// The kernels of the head of any pair of parts; head.h's functions come to them where any_pair(k).
#pragma once

#include "head_scratch.h"
#include "launch.h"
#include "plan.h"

namespace fusednorm {

// What a team does alone: everything; or, a block each, 32 channels of all samples, or a sample.
enum class Units : int { all, tiles, samples };

struct Work {
  Units units;
  Scope scope;
  Launch launch;
};

void any_head(const HeadArgs& k, const Partials& partials, void* scratch, const Work& work, const Stream& s);
// Units: tiles or all, but samples where there are no parameters.
void any_head_grad(const HeadGradArgs& to, const Partials& partials, void* scratch, const Work& work, const Stream& s);

}  // namespace fusednorm
