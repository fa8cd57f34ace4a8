// What the software stack does to a program: launches by the host, kernels that are not fused,
// GPUs of unequal speed. docs/models/software.md.
#pragma once

#include "sim/program/program.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// Writes the stack's habits into every instruction of the program.
void take_habits(const Scenario& scenario, Program& program);

/// Expected largest of `count` standard normal numbers (Blom 1958): 0 for one.
double expected_largest(std::int64_t count);

}  // namespace longhaul
