// Which layers each stage of a pipeline holds.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/schedule/builder.h"
#include "sim/scenario/scenario.h"

namespace longhaul {

/// Layers dealt to stages. Interleaved, a stage holds several chunks of consecutive layers: chunk c
/// of stage r is part c * stages + r of the model.
class Stages {
 public:
  explicit Stages(const Scenario& scenario);
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] bool one() const { return count_ == 1; }
  /// Layers of a stage, chunks together, at most.
  [[nodiscard]] std::int64_t most_layers() const { return most_; }
  [[nodiscard]] std::int64_t most_layers_of_a_part() const;
  [[nodiscard]] std::int64_t layers_of_part(std::int64_t part) const {
    return parts_[static_cast<std::size_t>(part)];
  }
  /// Layers of the same stage in earlier parts.
  [[nodiscard]] std::int64_t layers_before(std::int64_t part) const;
  /// By stage: the layers it holds, in the order of their slots. Empty without a pipeline.
  [[nodiscard]] const std::vector<std::vector<std::int64_t>>& layers() const { return layers_; }
  /// By stage: how many. Empty where all have as many.
  [[nodiscard]] std::vector<std::int64_t> uneven_counts() const;
  /// True if all layers of the model are alike: none has experts, or all have.
  [[nodiscard]] bool of_one_kind() const;
  /// The same of the layers with experts (`mixture`), or of the others. By stage: which of its slots
  /// they are.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> places_of_kind(bool mixture) const;
  [[nodiscard]] std::int64_t most_layers_of_kind(bool mixture) const;
  [[nodiscard]] std::vector<std::int64_t> uneven_counts_of_kind(bool mixture) const;
  /// By stage: which of the model's layers of a kind it holds, counted among these.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> layers_of_kind(bool mixture) const;
  /// stage_slots of a tensor with `slots` slots on the first (or last, or both) of the stages.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> on(bool first, bool last,
                                                          std::int64_t slots) const;
  /// The rank belongs to the first stage, the last one.
  [[nodiscard]] Condition first() const { return at(0); }
  [[nodiscard]] Condition last() const { return at(count_ - 1); }
  [[nodiscard]] Condition either_end() const {
    // Of 0 .. n - 1 only these two are 0 modulo n - 1 (of two, both are).
    return {Index::coordinate(Axis::pipeline, 0, count_ - 1), 0, 0};
  }

 private:
  [[nodiscard]] static Condition at(std::int64_t stage) {
    return {Index::coordinate(Axis::pipeline), stage, stage};
  }
  std::int64_t count_ = 1;
  std::int64_t most_ = 0;
  std::vector<std::int64_t> parts_;  ///< layers, by part
  std::vector<std::vector<std::int64_t>> layers_;
  std::vector<bool> mixtures_;  ///< by layer of the model: whether it has experts
};

}  // namespace longhaul
