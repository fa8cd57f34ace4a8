// All ranks of a program, step by step, meeting in collectives.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "sim/program/program.h"
#include "sim/reference/kernels.h"
#include "sim/reference/reference.h"
#include "sim/reference/trace.h"

namespace longhaul {

/// Runs what ReferenceRun asks for; throws ReferenceError as described there.
class Execution {
 public:
  Execution(const Program& program, std::vector<ReferenceMemory>& memory,
            const std::set<std::pair<RankId, std::size_t>>& left_out, ExecutionOrder order,
            std::uint64_t seed);
  void run();

 private:
  struct At {
    RankId rank;
    std::size_t step = 0;
  };
  /// A collective: group, its first member, and how many the group had before.
  using Meeting = std::tuple<GroupId, RankId, std::int64_t>;

  void prepare(RankId rank, const std::set<std::pair<RankId, std::size_t>>& left_out,
               ExecutionOrder order);
  At take_next();
  void execute(const At& at);
  void execute_alone(const At& at);
  void allocate_or_release(const At& at);
  void arrive(const At& at);
  void execute_together(const std::vector<At>& members);
  void post_messages(const At& at);
  void take_messages(const At& at);
  void move_operand(const std::vector<At>& members, std::size_t operand);
  void finish(const At& at);
  Call call_of(const At& at);
  void store(const At& at, std::size_t write, Array value);
  [[noreturn]] void report_deadlock() const;
  [[nodiscard]] const Step& step(const At& at) const;
  [[nodiscard]] const Instruction& instruction(const At& at) const;
  [[nodiscard]] std::string describe(const At& at) const;

  const Program& program_;
  std::vector<ReferenceMemory>& memory_;
  bool random_;
  std::mt19937_64 choice_;
  std::vector<std::vector<Step>> steps_;                           ///< by rank
  std::vector<std::vector<std::size_t>> blockers_;                 ///< by rank, step
  std::vector<std::vector<std::vector<std::size_t>>> dependents_;  ///< by rank, step
  std::vector<At> ready_;
  std::map<Meeting, std::vector<At>> waiting_;
  std::map<MessageId, Array> messages_;      ///< sent and not yet received
  std::map<MessageId, At> waiting_messages_;  ///< who waits for them
  std::size_t left_ = 0;  ///< steps not yet done, all ranks
};

}  // namespace longhaul
