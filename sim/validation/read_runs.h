// Measured runs (format longhaul-runs/1): what people measured, as scenarios and figures.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/scenario/read_scenario.h"

namespace longhaul {

/// Kinds of measured figures that are scored. `memory`: a reading whose kind is not stated, taken
/// as what the logs of its software mean (SoftwareProfile::memory_reading); `device`: of the whole
/// device (nvidia-smi). Both are named "memory".
enum class MeasuredQuantity {
  time, allocated, reserved, memory, device, out_of_memory, longest_sequence
};
const char* name_of(MeasuredQuantity quantity);

/// One measured figure, brought to a base unit: seconds of one iteration, bytes, or tokens.
struct Measurement {
  MeasuredQuantity quantity = MeasuredQuantity::time;
  std::string key;     ///< as the file names it: "step_time", "tokens_per_second_per_gpu"
  double value = 0.0;  ///< seconds, bytes or tokens; out_of_memory: 1 did not fit
};

/// One run: the scenario it ran and what was measured, or why it cannot be predicted.
struct MeasuredRun {
  std::string id;
  std::string group;
  std::string source;  ///< the file
  std::string framework;  ///< what it ran on, in the file's words
  std::string trust;                    ///< "high", "medium", "low"; the source's if the run has none
  std::vector<std::string> unknown;     ///< keys whose value is a default or an inference
  std::vector<std::string> derived;     ///< measured keys computed from another one of the run
  bool fp16 = false;                    ///< ran in fp16, which is priced like bf16
  bool autocast = false;  ///< "fp32" is the type of its parameters alone: products ran in bf16
  bool attention_open = false;          ///< the stack chose its kernel, or it is not stated
  bool recompute_unknown = false;       ///< the plan does not say: validate tries what there is
  bool stack_assumed = false;           ///< no profile is known by its framework's name
  bool fitted = false;                  ///< a profile was fitted on it: scored apart
  std::string skip_reason;  ///< not empty: cannot be predicted yet
  std::optional<ScenarioDraft> draft;
  /// All that the draft's cluster was built from, as text: equal texts are equal clusters.
  std::string machine;
  std::vector<Measurement> measurements;
  std::vector<std::string> skipped_quantities;  ///< measured keys that are not scored, with why
  MeasuredQuantity memory_kind = MeasuredQuantity::memory;  ///< of the key `peak_memory`
  bool last_rank_memory = false;                ///< the reading is that of the last pipeline rank
};

/// Reads a runs file. Mistakes of the file are recorded with their place; a run that is fine but
/// asks for what longhaul cannot predict carries a skip_reason. Rates are turned into times:
/// tokens per second, iterations per second, and TFLOP/s or MFU by their stated convention.
std::vector<MeasuredRun> read_runs(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
