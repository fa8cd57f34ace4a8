// Results for people: aligned text. Every number is defined in docs/models/result.md.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "sim/search/compare.h"
#include "sim/search/result.h"

namespace longhaul {

/// Whether to mark headings and verdicts with ANSI colours.
struct TextStyle {
  bool colour = false;
};

/// "llama3-8b, 8.03 B parameters, on 32 x NVIDIA H100 ... (cluster dgx-h100)" and a line with the
/// workload; nothing of the plan, so that it can head a table of plans.
std::string scenario_text(const Scenario& scenario);

/// One prediction in full: what was run, time, where the time goes, memory, bottleneck, trust.
std::string result_text(const Scenario& scenario, const Result& result, TextStyle style);

/// One table of alternatives, the rejected ones below it with their reasons, then one line each on
/// trust and on what holds the best one back.
std::string comparison_text(const std::vector<Alternative>& rows, TextStyle style);

/// One line: how far to trust a result.
std::string trust_text(const Result& result);

/// A line that opens a part of a report.
std::string heading(const std::string& text, TextStyle style);

}  // namespace longhaul
