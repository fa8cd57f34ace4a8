// What both forms of nccl-tests output are gathered in before they become sweeps. Private to
// sim/validation.
#pragma once

#include <string>
#include <vector>

#include "sim/validation/sweep.h"

namespace longhaul {

/// A line "#  Rank ..." or an entry of config.devices.
struct LogRank {
  int rank = -1;
  std::string group;
  std::string host;
  std::string device;   ///< index and bus id, as printed; empty: not said
  std::string process;  ///< empty: not said
  std::string gpu;
};

/// What a log says outside its tables.
struct LogFacts {
  std::vector<LogRank> ranks;
  std::string collective;  ///< by the name of the program; empty: not said
  std::string nccl;
  std::string algorithm;  ///< of NCCL_ALGO; empty: not set
  std::string protocol;
  std::vector<std::string> notes;  ///< settings that change times and are not modelled
  int adapters = 0;     ///< of one host, by NCCL's INFO lines
  std::string adapter;  ///< "InfiniBand", "RoCE", "EFA", "TCP sockets"; empty: not said
};

/// One table of sizes.
struct LogTable {
  std::vector<SweepRow> rows;
  std::string dtype;
  std::optional<Printed> average;
  Place place;
};

/// The collective that a program's name tells, "/opt/all_reduce_perf"; else empty.
std::string program_collective(const std::string& word);

/// Adapters from "NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/RoCE ..." and the like.
void read_adapters(const std::string& line, const std::vector<std::string>& words, LogFacts& facts);

/// Puts a table and the facts known at its end together, and checks the result. `index` counts the
/// tables of the file from 0.
Sweep sweep_of_table(const LogTable& table, const LogFacts& facts, const SourcePtr& source,
                     std::size_t index, Diagnostics& diagnostics);

/// The JSON of nccl-tests -J.
std::vector<Sweep> read_nccl_tests_json(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
