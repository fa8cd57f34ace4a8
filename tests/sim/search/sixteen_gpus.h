// Llama 3 8B on two DGX H100, for tests of what is read off a simulation.
#pragma once

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "sim/scenario/read_scenario.h"

namespace longhaul {

/// `workload`: the keys of the section, without its braces.
inline Scenario on_sixteen_gpus(const std::string& plan, const std::string& workload) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{
      "s.yaml",
      fmt::format("model: llama3-8b\ncluster: dgx-h100\ngpus: 16\nsoftware: megatron\n"
                  "workload: {{{}}}\nplan: {}\n",
                  workload, plan)});
  const auto map = YamlValue::parse(source, diagnostics);
  REQUIRE(map);
  const auto scenario = check_scenario(read_scenario(*map, diagnostics), diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(scenario);
  return *scenario;
}

inline Scenario on_sixteen_gpus(const std::string& plan, int global_batch) {
  return on_sixteen_gpus(plan,
                         fmt::format("sequence_length: 8k, global_batch: {}", global_batch));
}

}  // namespace longhaul
