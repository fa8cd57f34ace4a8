// A validation as text and JSON (formats: "Measured runs").
#pragma once

#include <string>

#include "sim/input/json.h"
#include "sim/validation/validate.h"

namespace longhaul {

/// Tables of errors by quantity and phase and by source, decisions, and why runs were skipped.
std::string validation_text(const ValidationReport& report);
/// The `result` of `validate --json`: summary, decisions, runs, skipped.
JsonValue validation_json(const ValidationReport& report);

}  // namespace longhaul
