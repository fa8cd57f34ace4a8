// From a checked scenario to a result: lower, simulate, summarize.
#pragma once

#include "sim/input/diagnostic.h"
#include "sim/scenario/scenario.h"
#include "sim/search/explain.h"
#include "sim/search/result.h"

namespace longhaul {

/// Predicts one step (phase train), pass (forward, prefill) or attention iteration. Memory that
/// does not fit is a result, not an error. Throws InputError for what longhaul cannot model yet
/// (the diagnostics say what); records warnings (missing profiles).
Result predict(const Scenario& scenario, Diagnostics& diagnostics);

/// A result with what its step and its peak consist of.
struct Explained {
  Result result;
  Explanation explanation;
};

/// The same prediction, explained (docs/models/explain.md).
Explained predict_explained(const Scenario& scenario, Diagnostics& diagnostics);

}  // namespace longhaul
