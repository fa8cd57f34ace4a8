// Device memory that a software stack holds besides the tensors of its schedule.
#pragma once

#include "sim/program/program.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// Adds what libraries and the framework hold throughout: workspaces (which the framework's
/// allocator counts) and the CUDA context (docs/models/memory.md).
void add_software_memory(const Scenario& scenario, Program& program);

}  // namespace longhaul
