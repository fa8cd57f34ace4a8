// Flags that describe a scenario, the same for every command that takes one. Each is a path into
// the scenario format, so a flag and a line of a file mean the same and are refused with the same
// words; flags override files.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "sim/scenario/read_scenario.h"
#include "sim/search/compare.h"

namespace longhaul {

class ScenarioFlags {
 public:
  /// Binds the flags (and --set) to a command. This object must outlive the parsing.
  void declare(CLI::App& app);

  /// The lengths of --seq, split at commas; empty if it was not given.
  [[nodiscard]] std::vector<std::string> lengths() const;

  /// Reads the flags on top of a draft. --seq is left to the caller (it may be a list).
  void apply(ScenarioDraft& draft, Diagnostics& diagnostics) const;

  /// The flags as the user gave them, without those whose path starts with one of `without`.
  [[nodiscard]] std::vector<std::string> given(const std::vector<std::string>& without) const;

 private:
  struct Given {
    std::string value;
    CLI::Option* option = nullptr;
    [[nodiscard]] bool is() const { return option != nullptr && option->count() > 0; }
  };
  std::vector<Given> values_;
  CLI::Option* sequence_parallel_ = nullptr;
  std::vector<std::string> settings_;  ///< --set PATH=VALUE
};

/// Reads `value` as if it stood at `path` ("workload.sequence_length") of a scenario file. Mistakes
/// are recorded with `shown` as their place. `quoted`: the value is a name, whatever it looks like.
void read_setting(ScenarioDraft& draft, const std::string& path, const std::string& value,
                  bool quoted, const std::string& shown, Diagnostics& diagnostics);

/// A draft from a file ("-": standard input), not yet with flags. Throws InputError at once if it
/// cannot be read at all.
ScenarioDraft read_scenario_file(const std::string& path, Diagnostics& diagnostics);

/// A draft that names a model and a cluster.
ScenarioDraft draft_of(const std::string& model, const std::string& cluster,
                       Diagnostics& diagnostics);

/// True if a word on the command line stands for a model: a preset, a Hugging Face config or its
/// folder, or a YAML file that describes a model.
bool names_model(const std::string& word);

}  // namespace longhaul
