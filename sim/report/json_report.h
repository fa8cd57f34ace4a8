// Results as JSON: the documents that --json prints. Every number is defined in
// docs/models/result.md; the keys are a contract and only grow.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/json.h"
#include "sim/scenario/scenario.h"
#include "sim/search/compare.h"
#include "sim/search/result.h"

namespace longhaul {

/// {"format_version", "ok", "command", "result", "diagnostics"}: the one document of a command that
/// came to its end.
JsonValue success_document(const std::string& command, JsonValue result,
                           const Diagnostics& diagnostics);

/// The same with "ok": false and no result.
JsonValue failure_document(const std::string& command, const Diagnostics& diagnostics);

/// What was run, as checked: every choice spelled out.
JsonValue scenario_json(const Scenario& scenario);
JsonValue plan_json(const Plan& plan);

/// One prediction, with its scenario.
JsonValue result_json(const Scenario& scenario, const Result& result);

/// One table of alternatives for one sequence length.
JsonValue comparison_json(std::int64_t sequence_length, const std::vector<Alternative>& rows);

}  // namespace longhaul
