// Scenarios from text and flags, and the check that turns a draft into a Scenario.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// What the user asked for, not yet checked: every choice with the place it was made, so that
/// check_scenario can point at it. Absent choices take the defaults of formats: see docs.
struct ScenarioDraft {
  std::optional<Model> model;
  std::optional<Cluster> cluster;                ///< already built (measured runs); else:
  std::optional<YamlValue> cluster_value;        ///< inline map, if any
  std::string cluster_name;                      ///< preset or path otherwise
  std::optional<std::int64_t> gpus;
  Workload workload;
  Plan plan;
  std::optional<std::int64_t> data;              ///< absent: auto
  Precision precision;
  std::string software = "ideal";
  std::string attention_kernel;                  ///< as in Scenario; empty: the device's best
  /// Where each setting was made, by its path ("plan.context.ring"); missing: the whole input.
  std::vector<std::pair<std::string, Place>> places;
  [[nodiscard]] Place place(const std::string& path) const;
};

/// Reads a scenario map (formats page). Records every mistake; returns the draft as far as read.
ScenarioDraft read_scenario(const YamlValue& map, Diagnostics& diagnostics);

/// Checks a draft against everything that could be wrong with it (divisibility, degrees times
/// each other, GPUs the cluster has, legal orders). From here on the input cannot be wrong.
/// Records every violation with its place and a remedy; returns nothing if there was any.
std::optional<Scenario> check_scenario(const ScenarioDraft& draft, Diagnostics& diagnostics);

}  // namespace longhaul
