#include "sim/schedule/parameters.h"

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

namespace {

// Axes over which tokens are dealt: replicas whose gradients must be summed, in mesh order.
std::vector<Axis> token_axes(const Mesh& mesh, bool context, bool data) {
  std::vector<Axis> axes;
  for (const Axis axis : mesh.order) {
    const bool is_context = axis == Axis::ulysses || axis == Axis::ring;
    if ((is_context && context) || (axis == Axis::data && data)) {
      axes.push_back(axis);
    }
  }
  return axes;
}

std::int64_t product(const std::vector<std::int64_t>& shape) {
  std::int64_t all = 1;
  for (const std::int64_t size : shape) {
    all *= size;
  }
  return all;
}

bool is_norm(const std::string& name) { return name.starts_with("norm_"); }

}  // namespace

Parameters::Parameters(ProgramBuilder& build, const Scenario& scenario, const Shapes& shapes,
                       bool training)
    : build_(build), scenario_(scenario), shapes_(shapes), training_(training) {
  const bool over_context = scenario.plan.shard_over_context;
  shard_axes_ = token_axes(build.program().mesh, over_context, true);
  other_axes_ = token_axes(build.program().mesh, !over_context, false);
  stage_ = training || scenario.plan.zero == 3 ? scenario.plan.zero : 0;
  shards_ = stage_ > 0 ? group_size(build.program().mesh, {"", shard_axes_}) : 1;
  const Model& model = scenario.model;
  const std::vector<Shard> by_vocab =
      shapes.tensor > 1 ? std::vector<Shard>{{Axis::tensor, SequenceOrder::contiguous}}
                        : std::vector<Shard>{};
  // A vocabulary that the tensor group does not divide is padded, as Megatron-LM does.
  const std::int64_t vocab = (model.vocab + shapes.tensor - 1) / shapes.tensor;
  store({"embedding", {vocab, model.hidden}, {by_vocab, {}}, 0}, false);
  if (model.positions == PositionEmbedding::learned) {
    store({"position_embedding", {model.max_positions, model.hidden}, {{}, {}}, 0}, false);
  }
  std::int64_t small = 0;
  for (const WeightShape& shape : layer_weight_shapes(model, shapes)) {
    store(shape, true);
    small += shape.extra_elements;
  }
  if (small > 0) {
    store({"biases", {small}, {{}}, 0}, true);
  }
  store({"norm_final", {model.hidden}, {{}}, 0}, false);
  if (!model.tied_embeddings) {
    store({"head", {vocab, model.hidden}, {by_vocab, {}}, 0}, false);
  }
}

TensorSpec Parameters::full_spec(const Stored& stored) const {
  TensorSpec spec;
  spec.shape = stored.shape.shape;
  spec.shards = stored.shape.shards;
  spec.type = shapes_.type;
  spec.slots = stored.of_layer ? scenario_.model.layers : 1;
  spec.persistent = true;
  spec.category = MemoryCategory::parameters;
  return spec;
}

// This rank's part: the first dimension cut over the shard group. Where that does not divide, a
// flat part rounded up (sizes and times are right to a rounding; it cannot be computed with).
TensorSpec Parameters::shard_spec(const Stored& stored) const {
  TensorSpec spec = full_spec(stored);
  if (shards_ == 1) {
    return spec;
  }
  if (spec.shape[0] % shards_ == 0) {
    spec.shape[0] /= shards_;
    for (auto axis = shard_axes_.rbegin(); axis != shard_axes_.rend(); ++axis) {
      spec.shards[0].push_back({*axis, SequenceOrder::contiguous});
    }
    return spec;
  }
  spec.shape = {(product(spec.shape) + shards_ - 1) / shards_};
  spec.shards = {{}};
  return spec;
}

void Parameters::store(const WeightShape& shape, bool of_layer) {
  Stored stored;
  stored.shape = shape;
  stored.of_layer = of_layer;
  TensorSpec parameter = stage_ == 3 ? shard_spec(stored) : full_spec(stored);
  parameter.role = Role::parameter;
  stored.shard = build_.tensor(shape.name, parameter);
  stored.full = stored.shard;
  if (stage_ == 3 && shards_ > 1) {
    TensorSpec gathered = full_spec(stored);
    gathered.slots = of_layer ? 2 : 1;
    stored.full = build_.tensor(shape.name + "_gathered", gathered);
  }
  if (training_) {
    store_gradient(stored);
    store_optimizer(stored);
  }
  stored_.push_back(stored);
}

// Stage 0: full gradients, summed in place. Stage 1: full gradients and this rank's sum of them.
// Stages 2, 3: gradients of two layers at a time, and this rank's sums.
void Parameters::store_gradient(Stored& stored) {
  TensorSpec sum = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  sum.type = scenario_.precision.gradients;
  sum.category = MemoryCategory::gradients;
  sum.role = Role::gradient;
  stored.gradient = build_.tensor("grad." + stored.shape.name, sum);
  stored.local = stored.gradient;
  if (shards_ == 1) {
    return;
  }
  TensorSpec local = full_spec(stored);
  local.category = MemoryCategory::gradients;
  if (stage_ == 1) {
    local.type = scenario_.precision.gradients;
  } else {
    local.slots = stored.of_layer ? 2 : 1;
    local.persistent = false;
  }
  stored.local = build_.tensor("local_grad." + stored.shape.name, local);
}

void Parameters::store_optimizer(Stored& stored) {
  TensorSpec spec = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  spec.type = DataType::fp32;
  spec.category = MemoryCategory::optimizer;
  stored.master = build_.tensor("master." + stored.shape.name, spec);
  stored.moment1 = build_.tensor("moment1." + stored.shape.name, spec);
  stored.moment2 = build_.tensor("moment2." + stored.shape.name, spec);
}

std::vector<const Parameters::Stored*> Parameters::of_layers(bool layers) const {
  std::vector<const Stored*> found;
  for (const Stored& stored : stored_) {
    if (stored.of_layer == layers) {
      found.push_back(&stored);
    }
  }
  return found;
}

std::optional<GroupId> Parameters::shard_group() const {
  return build_.group(other_axes_.empty() ? "data x context" : "data", shard_axes_);
}

Weight Parameters::weight(const Stored& stored, Index layer, Index turn) const {
  const bool gathers = stored.full.tensor != stored.shard.tensor;
  const bool fresh = training_ && stored.local.tensor != stored.gradient.tensor && stage_ >= 2;
  Weight made;
  made.name = stored.shape.name;
  made.value = build_.at(stored.full, !stored.of_layer ? Index::of(0) : gathers ? turn : layer);
  made.gradient = build_.at(stored.local, !stored.of_layer ? Index::of(0) : fresh ? turn : layer);
  return made;
}

LayerWeights Parameters::layer(Index layer, Index turn) const {
  LayerWeights weights;
  for (const Stored* stored : of_layers(true)) {
    const Weight made = weight(*stored, layer, turn);
    const std::string& name = stored->shape.name;
    (name == "norm_attention" ? weights.norm_attention
     : name == "w_qkv"        ? weights.qkv
     : name == "w_o"          ? weights.output
     : name == "norm_mlp"     ? weights.norm_mlp
     : name == "w_down"       ? weights.down
                              : weights.up) =
        name == "biases" ? weights.up : made;
  }
  return weights;
}

Weight Parameters::root(const std::string& name) const {
  for (const Stored& stored : stored_) {
    if (!stored.of_layer && stored.shape.name == name) {
      return weight(stored, Index::of(0), Index::of(0));
    }
  }
  check(name == "head", "a weight outside the layers must be stored");
  return root("embedding");  // tied
}

void Parameters::gather_layer(Index layer, Index turn) const {
  if (stage_ != 3 || shards_ == 1) {
    return;
  }
  std::vector<TensorRef> shards;
  std::vector<TensorRef> full;
  for (const Stored* stored : of_layers(true)) {
    shards.push_back(build_.at(stored->shard, layer));
    full.push_back(build_.at(stored->full, turn));
  }
  const Part before = build_.part();
  build_.part(Part::parameter_gather);
  build_.collective(Op::all_gather, Stream::data, *shard_group(), "gather layer weights", shards,
                    full);
  build_.part(before);
}

void Parameters::gather_root() const {
  if (stage_ != 3 || shards_ == 1) {
    return;
  }
  std::vector<TensorRef> shards;
  std::vector<TensorRef> full;
  for (const Stored* stored : of_layers(false)) {
    shards.push_back(stored->shard);
    full.push_back(stored->full);
  }
  build_.part(Part::parameter_gather);
  build_.collective(Op::all_gather, Stream::data, *shard_group(), "gather embedding and head",
                    shards, full);
}

void Parameters::zero_gradients() const {
  build_.part(Part::forward);
  const auto zero = [&](const std::vector<const Stored*>& all, Index slot) {
    std::vector<TensorRef> refs;
    for (const Stored* stored : all) {
      refs.push_back(build_.at(stored->gradient, slot));
      if (stage_ == 1 && shards_ > 1) {
        refs.push_back(build_.at(stored->local, slot));
      }
    }
    build_.compute(Op::zero, "zero gradients", {}, refs);
  };
  const LoopId loop = build_.begin_loop("zero gradients", scenario_.model.layers, true);
  zero(of_layers(true), Index::counter(loop));
  build_.end_loop(loop);
  zero(of_layers(false), Index::of(0));
}

void Parameters::prepare_layer_gradients(Index turn) const {
  if (stage_ < 2 || shards_ == 1) {
    return;
  }
  for (const Stored* stored : of_layers(true)) {
    const TensorRef local = build_.at(stored->local, turn);
    build_.allocate(local);
    if (is_norm(stored->shape.name) || stored->shape.name == "biases") {
      build_.compute(Op::zero, "zero " + stored->shape.name, {}, {local});
    }
  }
}

// Embedding and norm gradients are added to, so they start at zero; the head's is written.
void Parameters::prepare_root_gradients() const {
  if (stage_ < 2 || shards_ == 1) {
    return;
  }
  for (const Stored* stored : of_layers(false)) {
    build_.allocate(stored->local);
    if (stored->shape.name != "head") {
      build_.compute(Op::zero, "zero " + stored->shape.name, {}, {stored->local});
    }
  }
}

// Under sequence parallelism every rank of the tensor group has seen only its tokens' part of the
// norms' gradients.
void Parameters::sum_norms_over_tensor(const std::vector<const Stored*>& stored,
                                       Index slot) const {
  const auto group = build_.group("tensor", {Axis::tensor});
  if (!group || !scenario_.plan.sequence_parallel) {
    return;
  }
  std::vector<TensorRef> norms;
  for (const Stored* each : stored) {
    if (is_norm(each->shape.name)) {
      norms.push_back(build_.at(each->local, slot));
    }
  }
  build_.collective(Op::all_reduce, Stream::tensor, *group, "sum norm gradients", norms, norms);
}

void Parameters::reduce(const std::vector<const Stored*>& stored, Index layer, Index turn,
                        bool last) const {
  const bool each_micro_batch = stage_ >= 2 && shards_ > 1;
  if (!last && !each_micro_batch) {
    return;
  }
  const Part before = build_.part();
  build_.part(Part::gradient_reduction);
  const Index local_slot = each_micro_batch ? turn : layer;
  sum_norms_over_tensor(stored, local_slot);
  std::vector<TensorRef> local;
  std::vector<TensorRef> sum;
  for (const Stored* each : stored) {
    local.push_back(build_.at(each->local, local_slot));
    sum.push_back(build_.at(each->gradient, layer));
  }
  if (const auto others = build_.group("context", other_axes_); others && !other_axes_.empty()) {
    build_.collective(Op::all_reduce, Stream::data, *others, "sum gradients over context", local,
                      local);
  }
  if (const auto group = shard_group()) {
    if (shards_ == 1) {
      build_.collective(Op::all_reduce, Stream::data, *group, "sum gradients", local, local);
    } else {
      build_
          .collective(Op::reduce_scatter, Stream::data, *group, "sum and scatter gradients", local,
                      sum)
          .accumulate = true;
    }
  }
  if (each_micro_batch) {
    for (const TensorRef& ref : local) {
      build_.release({ref});
    }
  }
  build_.part(before);
}

void Parameters::reduce_layer(Index layer, Index turn, bool last) const {
  reduce(of_layers(true), layer, turn, last);
}

void Parameters::reduce_root(bool last) const {
  reduce(of_layers(false), Index::of(0), Index::of(0), last);
}

void Parameters::optimize_one(const Stored& stored, Index slot) const {
  const auto here = [&](const TensorRef& ref) { return build_.at(ref, slot); };
  build_.compute(Op::adam, "adam " + stored.shape.name,
                 {here(stored.master), here(stored.gradient), here(stored.moment1),
                  here(stored.moment2)},
                 {here(stored.master), here(stored.moment1), here(stored.moment2)});
  if (stage_ == 3 || shards_ == 1) {
    build_.compute(Op::copy, "update " + stored.shape.name, {here(stored.master)},
                   {here(stored.shard)});
    return;
  }
  TensorSpec spec = shard_spec(stored);
  spec.category = MemoryCategory::communication;
  spec.slots = 1;
  spec.persistent = false;
  const TensorRef updated = build_.fresh("updated." + stored.shape.name, spec);
  build_.compute(Op::copy, "update " + stored.shape.name, {here(stored.master)}, {updated});
  build_.part(Part::parameter_gather);
  build_.collective(Op::all_gather, Stream::data, *shard_group(), "gather updated weights",
                    {updated}, {here(stored.full)});
  build_.part(Part::optimizer);
  build_.release({updated});
}

void Parameters::optimize() const {
  build_.part(Part::optimizer);
  for (const Stored* stored : of_layers(false)) {
    optimize_one(*stored, Index::of(0));
  }
  const LoopId loop = build_.begin_loop("optimizer", scenario_.model.layers, true);
  for (const Stored* stored : of_layers(true)) {
    optimize_one(*stored, Index::counter(loop));
  }
  build_.end_loop(loop);
}

}  // namespace longhaul
