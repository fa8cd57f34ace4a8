// The map `measured` of a run. Private to sim/validation.
#pragma once

#include "sim/validation/look.h"
#include "sim/validation/read_runs.h"

namespace longhaul {

/// Reads the figures into run.measurements: the most direct statement of the iteration's time,
/// memory of each kind, whether it fitted, the longest sequence. Needs the run's draft. Rates become
/// times: tokens and iterations per second as they stand; FLOP/s and MFU by their convention, where
/// `_with_recompute` adds what the plan recomputes (a forward pass; selective: the attention
/// cores). Figures listed in run.derived are other figures of the run in other words: of times only
/// one is scored anyway, memory is left out. What cannot be scored lands in skipped_quantities.
void read_measured(const Look& look, MeasuredRun& run);

}  // namespace longhaul
