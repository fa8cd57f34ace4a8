// Scenarios from text and flags, and the check that turns a draft into a Scenario.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// What the user left open, for check_scenario to choose. Drafts made by a program say all.
struct OpenChoices {
  bool ring = false;          ///< ring degree: what the other degrees leave of the GPUs
  bool ulysses = false;       ///< the same for the all-to-all degree
  bool global_batch = false;  ///< one micro-batch per replica
  bool mask = false;          ///< the model's own mask: causal, or its sliding window
  bool zero = false;          ///< as in Plan; compare_methods tries more
  bool recompute = false;     ///< the same
  bool inner_ring = false;    ///< of a double ring: its ranks on one node
  bool operator==(const OpenChoices&) const = default;
};

/// What the user asked for, not yet checked: every choice with the place it was made, so that
/// check_scenario can point at it. Absent choices take the defaults of formats: see docs.
struct ScenarioDraft {
  std::optional<Model> model;
  std::optional<Cluster> cluster;          ///< already built (measured runs); else:
  std::optional<YamlValue> cluster_value;  ///< inline map, if any
  std::string cluster_name;                ///< preset or path otherwise
  std::optional<std::int64_t> gpus;
  Workload workload;
  Plan plan;
  std::optional<std::int64_t> data;  ///< absent: auto
  Precision precision;
  std::string software = "ideal";
  std::shared_ptr<const SoftwareProfile> stack_override = nullptr;  ///< see Scenario
  std::string attention_kernel;  ///< as in Scenario; empty: the device's best
  bool deterministic = false;  ///< kernels give the same bits in every run
  bool expandable_segments = false;  ///< of PyTorch's allocator (PYTORCH_CUDA_ALLOC_CONF)
  OpenChoices open;
  /// Where each setting was made, by its path ("plan.context.ring"); missing: the whole input.
  std::vector<std::pair<std::string, Place>> places;
  /// The place of a path, else of what it lies in ("plan.context", "plan"), else of the input.
  [[nodiscard]] Place place(const std::string& path) const;
  /// True if the user wrote this very path.
  [[nodiscard]] bool has(const std::string& path) const;
};

/// Reads a scenario map (formats page). Records every mistake; returns the draft as far as read.
ScenarioDraft read_scenario(const YamlValue& map, Diagnostics& diagnostics);

/// An empty draft: everything is open or has its default.
ScenarioDraft empty_draft();

/// Reads a map on top of a draft: what the map says overrides, the rest stays (flags over files).
/// A map that names a context method starts its degrees afresh.
void read_scenario_onto(ScenarioDraft& draft, const YamlValue& map, Diagnostics& diagnostics);

/// Builds the draft's cluster once (sized for its GPUs) and settles `gpus`; mistakes are recorded
/// and leave both as they are. check_scenario does it by itself where it was not done.
void resolve_cluster(ScenarioDraft& draft, Diagnostics& diagnostics);

/// Checks a draft against everything that could be wrong with it (divisibility, degrees times
/// each other, GPUs the cluster has, legal orders). From here on the input cannot be wrong.
/// Records every violation with its place and a remedy; returns nothing if there was any.
std::optional<Scenario> check_scenario(const ScenarioDraft& draft, Diagnostics& diagnostics);

}  // namespace longhaul
