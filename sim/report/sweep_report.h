// Scores of sweeps as text and JSON (docs/models/validation.md, "Sweeps").
#pragma once

#include <string>

#include "sim/input/json.h"
#include "sim/validation/score_sweeps.h"

namespace longhaul {

/// A row per sweep, summaries by scope and collective, the halves, what was guessed and skipped.
std::string sweep_text(const SweepReport& report);

/// Adds `sweeps`, `sweep_summary`, `sweeps_skipped` and, if there are any, `sweep_halves` and
/// `sweep_half_summary` to the result of `validate --json`. Times are seconds, errors fractions,
/// except for keys that end in _percentage_error.
void add_sweeps(const SweepReport& report, JsonValue& result);

}  // namespace longhaul
