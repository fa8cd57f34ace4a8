// ZeRO 1 by owner: every weight's optimizer states are one rank's, which broadcasts what it updated
// (InternEvo's HybridZeroOptimizer, PyTorch's ZeroRedundancyOptimizer).
#include <algorithm>
#include <numeric>

#include "sim/schedule/parameters.h"

namespace longhaul {

// Largest first, each to the member that has least so far: both optimizers deal so.
void Parameters::deal_to_owners() {
  for (std::int64_t stage = 0; stage < stages_.count(); ++stage) {
    deal_stage(stage);
  }
  for (std::size_t i = 0; i < stored_.size(); ++i) {
    store_owned(stored_[i], i);
  }
}

void Parameters::deal_stage(std::int64_t stage) {
  std::vector<Owned> mine;
  for (std::size_t i = 0; i < stored_.size(); ++i) {
    const Tensor& weight = build_.of(stored_[i].full);
    std::vector<std::int64_t> slots(static_cast<std::size_t>(weight.slots));
    std::iota(slots.begin(), slots.end(), 0);
    if (!weight.stage_slots.empty()) {
      slots = weight.stage_slots[static_cast<std::size_t>(stage)];
    }
    for (std::size_t slot = 0; slot < slots.size(); ++slot) {
      mine.push_back({i, stage, static_cast<std::int64_t>(slot), slots[slot]});
    }
  }
  const auto size_of = [&](const Owned& one) {
    return build_.of(stored_[one.stored].full).elements();
  };
  std::stable_sort(mine.begin(), mine.end(), [&](const Owned& a, const Owned& b) {
    return size_of(a) > size_of(b);
  });
  const Group owners{"", owner_axes_};
  std::vector<std::int64_t> load(
      static_cast<std::size_t>(group_size(build_.program().mesh, owners)), 0);
  for (Owned& one : mine) {
    const auto least = std::min_element(load.begin(), load.end());
    one.owner = least - load.begin();
    *least += size_of(one);
    one.place = std::count_if(owned_.begin(), owned_.end(), [&](const Owned& other) {
      return other.stored == one.stored && other.stage == stage && other.owner == one.owner;
    });
    owned_.push_back(one);
  }
}

void Parameters::store_owned(Stored& stored, std::size_t index) {
  const auto members =
      static_cast<std::size_t>(group_size(build_.program().mesh, {"", owner_axes_}));
  TensorSpec spec = full_spec(stored);
  spec.category = MemoryCategory::optimizer;
  spec.type = scenario_.precision.states == States::compute ? spec.type : DataType::fp32;
  spec.owner_axes = owner_axes_;
  spec.stage_slots.assign(static_cast<std::size_t>(stages_.count()) * members, {});
  for (const Owned& one : owned_) {
    if (one.stored == index) {
      spec.stage_slots[static_cast<std::size_t>(one.stage) * members +
                       static_cast<std::size_t>(one.owner)]
          .push_back(one.whole);
    }
  }
  spec.slots = 0;
  for (const std::vector<std::int64_t>& slots : spec.stage_slots) {
    spec.slots = std::max(spec.slots, static_cast<std::int64_t>(slots.size()));
  }
  stored.master =
      updates_in_place() ? stored.full : build_.tensor("master." + stored.shape.name, spec);
  stored.moment1 = build_.tensor("moment1." + stored.shape.name, spec);
  stored.moment2 = build_.tensor("moment2." + stored.shape.name, spec);
}

// Nobody steps before all gradients are summed: both optimizers wait for them (and read their norm).
void Parameters::optimize_owned() const {
  build_.wait_for("wait for summed gradients", Stream::data);
  const std::int64_t passes = scenario_.stack().gradient_copies;
  const auto take_out = [&](const Some& stored, Index slot) {
    pass_over("take out summed gradients", refs(stored, &Stored::local, slot), passes);
  };
  at_bottom([&](const Some& stored) { take_out(stored, Index::of(0)); });
  on_top([&](const Some& stored) { take_out(stored, Index::of(0)); });
  over_layers("take out gradients", LayerOrder::first_to_last,
              [&](Index layer) { take_out(some(Section::layers), layer); });
  update_owned();
  broadcast_owned();
}

void Parameters::update_owned() const {
  const Mesh& mesh = build_.program().mesh;
  for (const Owned& one : owned_) {
    const Stored& stored = stored_[one.stored];
    const auto on_stage = [&](const TensorRef& ref) { return build_.at(ref, Index::of(one.slot)); };
    const auto owned = [&](const TensorRef& ref) { return build_.at(ref, Index::of(one.place)); };
    const TensorRef master = updates_in_place() ? on_stage(stored.full) : owned(stored.master);
    const std::size_t conditions = owner_axes_.size() + (stages_.one() ? 0 : 1);
    if (!stages_.one()) {
      build_.begin_when({Index::coordinate(Axis::pipeline), one.stage, one.stage});
    }
    std::int64_t rest = one.owner;
    for (const Axis axis : owner_axes_) {
      const std::int64_t at = rest % mesh.size(axis);
      build_.begin_when({Index::coordinate(axis), at, at});
      rest /= mesh.size(axis);
    }
    build_.compute(Op::adam, "adam " + stored.shape.name,
                   {master, on_stage(stored.gradient), owned(stored.moment1), owned(stored.moment2)},
                   {master, owned(stored.moment1), owned(stored.moment2)});
    if (!updates_in_place()) {
      build_.compute(Op::copy, "update " + stored.shape.name, {master}, {on_stage(stored.full)});
    }
    for (std::size_t i = 0; i < conditions; ++i) {
      build_.end_when();
    }
  }
}

// What an owner has updated travels as one message, in the order of the owners.
void Parameters::broadcast_owned() const {
  const GroupId group = *build_.group("owners", owner_axes_);
  const std::int64_t members = group_size(build_.program().mesh, {"", owner_axes_});
  build_.part(Part::parameter_gather);
  for (std::int64_t stage = 0; stage < stages_.count(); ++stage) {
    for (std::int64_t owner = 0; owner < members; ++owner) {
      std::vector<TensorRef> updated;
      for (const Owned& one : owned_) {
        if (one.stage == stage && one.owner == owner) {
          updated.push_back(build_.at(stored_[one.stored].full, Index::of(one.slot)));
        }
      }
      if (updated.empty()) {
        continue;
      }
      on_stage({Index::coordinate(Axis::pipeline), stage, stage}, [&] {
        build_.collective(Op::broadcast, Stream::data, group, "broadcast updated weights", updated,
                          updated)
            .root = static_cast<int>(owner);
      });
    }
  }
  build_.part(Part::optimizer);
}

}  // namespace longhaul
