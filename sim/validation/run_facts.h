// What the public configuration of measured runs says and their records leave open.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/input/yaml.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Holds for runs by their ids; what a record says itself goes before.
/// Format longhaul-run-facts/1: docs/models/validation.md.
struct RunFact {
  std::string runs;                     ///< ids of the runs; * stands for any text
  std::string attention;                ///< kernel of runs whose stack chose one; empty: not told
  std::string deterministic_attention;  ///< the same, of those that had to be deterministic
  std::int64_t optimizer_groups = 1;    ///< ZeRO: groups of replicas, each with all the states
  bool compiled_loss = false;           ///< the loss's operators were compiled into few kernels
  bool wide_gathers = false;            ///< fp8 products gather in the compute type all the same
  std::string stack;                    ///< what ran, whatever the record names; empty: not told
  bool cuts_vocabulary = false;         ///< rows that tensor ranks cannot share equally are left out
  Seconds sample_time;                  ///< to read a sequence from storage; 0: not told
};

/// Whether an id is one of a fact's runs.
bool is_among(const std::string& id, const std::string& runs);

/// The facts of a file. Errors go to `diagnostics`, with place and remedy.
std::vector<RunFact> read_run_facts(const SourcePtr& source, Diagnostics& diagnostics);

/// Those that come with longhaul (calibrate/profiles/run_facts.yaml).
const std::vector<RunFact>& all_run_facts();

}  // namespace longhaul
