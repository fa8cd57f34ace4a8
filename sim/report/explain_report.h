// Explanations and differences as text and JSON (docs/models/explain.md).
#pragma once

#include <string>

#include "sim/input/json.h"
#include "sim/report/text_report.h"
#include "sim/search/explain.h"

namespace longhaul {

/// The largest rows of an explanation, with what the others are together.
std::string explanation_text(const Explanation& explanation, TextStyle style);
JsonValue explanation_json(const Explanation& explanation);

/// Why `after` differs from `before`: the largest changes, with what the others are together.
std::string difference_text(const std::string& before, const std::string& after,
                            const Difference& difference, TextStyle style);
JsonValue difference_json(const std::string& before, const std::string& after,
                          const Difference& difference);

}  // namespace longhaul
