#include "sim/schedule/stages.h"

#include <algorithm>
#include <numeric>

#include "sim/scenario/pipeline_parts.h"
#include "sim/units/check.h"

namespace longhaul {

Stages::Stages(const Scenario& scenario)
    : count_(scenario.plan.pipeline), most_(scenario.model.layers) {
  for (std::int64_t layer = 0; layer < scenario.model.layers; ++layer) {
    mixtures_.push_back(is_expert_layer(scenario.model, layer));
  }
  if (count_ == 1) {
    return;
  }
  layers_.resize(static_cast<std::size_t>(count_));
  parts_ = layers_of_parts(scenario.model.layers, scenario.plan);
  check(!parts_.empty(), "check_scenario sees that layers divide");
  std::int64_t layer = 0;
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    auto& mine = layers_[part % layers_.size()];
    for (std::int64_t i = 0; i < parts_[part]; ++i) {
      mine.push_back(layer++);
    }
  }
  most_ = 0;
  for (const auto& mine : layers_) {
    most_ = std::max(most_, static_cast<std::int64_t>(mine.size()));
  }
}

std::int64_t Stages::most_layers_of_a_part() const {
  return *std::max_element(parts_.begin(), parts_.end());
}

std::int64_t Stages::layers_before(std::int64_t part) const {
  std::int64_t before = 0;
  for (std::int64_t mine = part % count_; mine < part; mine += count_) {
    before += layers_of_part(mine);
  }
  return before;
}

namespace {

// How many each stage has; nothing where all have as many.
std::vector<std::int64_t> sizes_if_uneven(const std::vector<std::vector<std::int64_t>>& lists) {
  std::vector<std::int64_t> sizes;
  for (const auto& mine : lists) {
    sizes.push_back(static_cast<std::int64_t>(mine.size()));
  }
  const bool even = std::all_of(sizes.begin(), sizes.end(),
                                [&](std::int64_t size) { return size == sizes[0]; });
  return even ? std::vector<std::int64_t>{} : sizes;
}

}  // namespace

std::vector<std::int64_t> Stages::uneven_counts() const { return sizes_if_uneven(layers_); }

bool Stages::of_one_kind() const {
  return std::all_of(mixtures_.begin(), mixtures_.end(),
                     [&](bool mixture) { return mixture == mixtures_[0]; });
}

std::vector<std::vector<std::int64_t>> Stages::places_of_kind(bool mixture) const {
  std::vector<std::vector<std::int64_t>> places(layers_.size());
  for (std::size_t stage = 0; stage < layers_.size(); ++stage) {
    for (std::size_t i = 0; i < layers_[stage].size(); ++i) {
      if (mixtures_[static_cast<std::size_t>(layers_[stage][i])] == mixture) {
        places[stage].push_back(static_cast<std::int64_t>(i));
      }
    }
  }
  return places;
}

std::int64_t Stages::most_layers_of_kind(bool mixture) const {
  std::int64_t most = 0;
  for (const auto& places : places_of_kind(mixture)) {
    most = std::max(most, static_cast<std::int64_t>(places.size()));
  }
  return most;
}

std::vector<std::int64_t> Stages::uneven_counts_of_kind(bool mixture) const {
  return sizes_if_uneven(places_of_kind(mixture));
}

std::vector<std::vector<std::int64_t>> Stages::layers_of_kind(bool mixture) const {
  std::vector<std::vector<std::int64_t>> found(layers_.size());
  for (std::size_t stage = 0; stage < layers_.size(); ++stage) {
    for (const std::int64_t layer : layers_[stage]) {
      if (mixtures_[static_cast<std::size_t>(layer)] == mixture) {
        const auto end = mixtures_.begin() + layer;
        found[stage].push_back(std::count(mixtures_.begin(), end, mixture));
      }
    }
  }
  return found;
}

std::vector<std::vector<std::int64_t>> Stages::on(bool first, bool last,
                                                  std::int64_t slots) const {
  if (one()) {
    return {};
  }
  std::vector<std::int64_t> all(static_cast<std::size_t>(slots));
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<std::int64_t>> held(static_cast<std::size_t>(count_));
  if (first) {
    held.front() = all;
  }
  if (last) {
    held.back() = all;
  }
  return held;
}

}  // namespace longhaul
