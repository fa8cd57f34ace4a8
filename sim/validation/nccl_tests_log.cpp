#include "sim/validation/nccl_tests_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace longhaul {

namespace {

std::string base_name(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// "h100_all_gather.log"; the longest name first: all_reduce is not reduce.
std::string file_collective(const std::string& path) {
  const std::string name = base_name(path);
  for (const char* known : {"reduce_scatter", "all_reduce", "all_gather", "alltoall", "broadcast",
                            "sendrecv", "reducescatter", "allreduce", "allgather", "all_to_all"}) {
    if (name.find(known) != std::string::npos) {
      return collective_name(known);
    }
  }
  return {};
}

// Bus over algorithm bandwidth as the rows have it; nothing where they are too small to tell.
std::optional<double> measured_factor(const LogTable& table) {
  const SweepRow* largest = nullptr;
  for (const SweepRow& row : table.rows) {
    const bool whole = row.algorithm_bandwidth && row.bus_bandwidth &&
                       row.algorithm_bandwidth->value > 200.0 * row.algorithm_bandwidth->rounding;
    if (whole && (largest == nullptr || row.bytes > largest->bytes)) {
      largest = &row;
    }
  }
  if (largest == nullptr) {
    return std::nullopt;
  }
  return largest->bus_bandwidth->value / largest->algorithm_bandwidth->value;
}

// Only all_reduce has a factor above 1, from 3 ranks on; the others share theirs with a sibling.
void guess_collective(const LogTable& table, Sweep& sweep) {
  const auto factor = measured_factor(table);
  if (factor && sweep.gpus > 2 &&
      std::abs(*factor / bus_factor("all_reduce", sweep.gpus) - 1.0) < 0.02) {
    sweep.collective = "all_reduce";
    sweep.notes.push_back("all_reduce by busbw / algbw: the log does not name it");
  }
}

void name_collective(const LogTable& table, const LogFacts& facts, Sweep& sweep) {
  sweep.collective = facts.collective;
  if (sweep.collective.empty()) {
    sweep.collective = file_collective(sweep.file);
    if (!sweep.collective.empty()) {
      sweep.notes.push_back(sweep.collective + " by the file's name: the log does not name it");
    }
  }
  if (sweep.collective.empty()) {
    guess_collective(table, sweep);
  }
  sweep.kind = collective_kind(sweep.collective);
  const auto factor = measured_factor(table);
  const double expected = bus_factor(sweep.collective, sweep.gpus);
  if (!sweep.collective.empty() && sweep.gpus > 1 && factor &&
      std::abs(*factor / expected - 1.0) > 0.02) {
    sweep.skip_reason = fmt::format(
        "busbw / algbw is {:.3f}, but {} on {} ranks has {:.3f}: another collective, or "
        "other ranks",
        *factor, sweep.collective, sweep.gpus, expected);
  }
}

std::string reason_against_ranks(const std::vector<LogRank>& ranks) {
  if (ranks.empty()) {
    return "the log has no '# Rank' lines: hosts and GPUs are not known";
  }
  std::set<int> seen;
  std::set<std::string> devices;
  for (const LogRank& rank : ranks) {
    if (rank.gpu.find("MIG") != std::string::npos) {
      return "it ran on slices of GPUs (MIG)";
    }
    if (rank.rank < 0) {
      return "a '# Rank' line has no rank";
    }
    if (!seen.insert(rank.rank).second) {
      return fmt::format(
          "rank {} is listed twice: several processes ran on their own (built without MPI?), or "
          "groups that ran at once",
          rank.rank);
    }
    if (!rank.device.empty() && !devices.insert(rank.host + " " + rank.device).second) {
      return fmt::format(
          "host {} lists device {} twice: hosts that share a name, or ranks that share a GPU",
          rank.host, rank.device);
    }
    if (rank.group != ranks.front().group) {
      return "several groups ran at once";
    }
    if (rank.gpu != ranks.front().gpu) {
      return "its GPUs are of different kinds";
    }
  }
  if (*seen.rbegin() != static_cast<int>(seen.size()) - 1) {
    return fmt::format("'# Rank' lines are missing: {} lines, highest rank {}", seen.size(),
                       *seen.rbegin());
  }
  return {};
}

void describe_ranks(const std::vector<LogRank>& ranks, Sweep& sweep) {
  sweep.skip_reason = reason_against_ranks(ranks);
  if (!sweep.skip_reason.empty()) {
    return;
  }
  std::map<std::string, int> per_host;
  for (const LogRank& rank : ranks) {
    ++per_host[rank.host];
  }
  sweep.gpu = ranks.front().gpu;
  sweep.gpus = static_cast<int>(ranks.size());
  sweep.nodes = static_cast<int>(per_host.size());
  sweep.gpus_per_node = per_host.begin()->second;
  for (const auto& [host, count] : per_host) {
    if (count != sweep.gpus_per_node) {
      sweep.skip_reason = fmt::format("hosts have different numbers of ranks ({} and {})",
                                      sweep.gpus_per_node, count);
    }
  }
}

// nccl-tests -g 8: the launches of all GPUs follow one another, 15 to 90 us for eight.
void note_launches(const std::vector<LogRank>& ranks, Sweep& sweep) {
  std::map<std::string, std::set<std::string>> processes;
  for (const LogRank& rank : ranks) {
    processes[rank.host].insert(rank.process);
  }
  const auto& first = *processes.begin();
  const bool known = !first.second.begin()->empty();
  if (known && sweep.gpus_per_node > 1 && first.second.size() == 1) {
    sweep.notes.push_back("one process launches for all GPUs of a host: small sizes take longer");
  }
}

void read_pins(const LogFacts& facts, Sweep& sweep) {
  sweep.notes.insert(sweep.notes.end(), facts.notes.begin(), facts.notes.end());
  sweep.algorithm = algorithm_pin(facts.algorithm);
  sweep.protocol = protocol_pin(facts.protocol);
  if (!facts.algorithm.empty()) {
    sweep.notes.push_back("NCCL_ALGO=" + facts.algorithm +
                          (sweep.algorithm ? "" : " is not understood: not pinned"));
  }
  if (!facts.protocol.empty()) {
    sweep.notes.push_back("NCCL_PROTO=" + facts.protocol +
                          (sweep.protocol ? "" : " is not understood: not pinned"));
  }
}

}  // namespace

std::string program_collective(const std::string& word) {
  const std::size_t perf = word.find("_perf");
  return perf == std::string::npos ? "" : collective_name(base_name(word.substr(0, perf)));
}

void read_adapters(const std::string& line, const std::vector<std::string>& words,
                   LogFacts& facts) {
  if (line.find("NET/IB : Using") != std::string::npos) {
    int count = 0;
    bool roce = false;
    for (const std::string& word : words) {
      const bool adapter = word.starts_with('[') && word.find("]mlx") != std::string::npos;
      count += adapter ? 1 : 0;
      roce = roce || (adapter && word.find("/RoCE") != std::string::npos);
    }
    facts.adapters = count;
    facts.adapter = roce ? "RoCE" : "InfiniBand";
  } else if (line.find("NET/OFI Selected") != std::string::npos &&
             line.find("efa") != std::string::npos) {
    facts.adapter = "EFA";
  } else if (line.find("NET/Socket : Using") != std::string::npos && facts.adapter.empty()) {
    facts.adapter = "TCP sockets";
  }
}

Sweep sweep_of_table(const LogTable& table, const LogFacts& facts, const SourcePtr& source,
                     std::size_t index, Diagnostics& diagnostics) {
  Sweep sweep;
  sweep.file = source->name;
  sweep.place = table.place;
  sweep.nccl = facts.nccl;
  sweep.dtype = table.dtype;
  sweep.rows = table.rows;
  if (table.average) {
    sweep.average_bus_bandwidth = table.average->value;
  }
  describe_ranks(facts.ranks, sweep);
  if (sweep.skip_reason.empty()) {
    note_launches(facts.ranks, sweep);
    name_collective(table, facts, sweep);
  }
  if (sweep.nodes > 1 && !facts.adapter.empty()) {
    sweep.inter =
        facts.adapters > 0 ? fmt::format("{}x {}", facts.adapters, facts.adapter) : facts.adapter;
  }
  read_pins(facts, sweep);
  sweep.id = fmt::format("{}#{}", base_name(source->name), index + 1);
  check_sweep(sweep, diagnostics);
  return sweep;
}

}  // namespace longhaul
