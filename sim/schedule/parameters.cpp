#include "sim/schedule/parameters.h"

#include <algorithm>
#include <utility>

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

// Weights that every tensor rank holds and multiplies with its own tokens.
bool is_whole_on_tensor_ranks(const std::string& name) {
  return name == "w_router" || name == "w_q_down" || name == "w_kv_down";
}

// Gradients that kernels only ever add to, so fresh ones must start at zero: norms, lookups, and
// what no kernel of the program writes.
bool is_added_to(const std::string& name) {
  return is_norm(name) || name == "embedding" || name == "position_embedding" ||
         name.starts_with("biases");
}

Index next(Index index, std::int64_t step = 1) {
  index.constant += step;
  return index;
}

// A table of each stage's own number.
Index of_stage(std::vector<std::int64_t> by_stage) {
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(by_stage));
  lookup.axis = Axis::pipeline;
  lookup.axis_coefficient = 1;
  Index index;
  index.lookups.push_back(std::move(lookup));
  return index;
}

}  // namespace

std::vector<LayerRun> layer_runs(const Model& model) {
  std::vector<LayerRun> runs;
  std::int64_t seen[2] = {0, 0};
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    const bool mixture = is_expert_layer(model, layer);
    if (runs.empty() || runs.back().mixture != mixture) {
      runs.push_back({mixture, layer, 0, seen[mixture ? 0 : 1]});
    }
    ++runs.back().count;
    ++seen[mixture ? 1 : 0];
  }
  return runs;
}

Parameters::Parameters(ProgramBuilder& build, const Scenario& scenario, const Shapes& shapes,
                       bool training, bool routed)
    : build_(build),
      scenario_(scenario),
      stages_(scenario),
      shapes_(shapes),
      training_(training),
      routed_(routed),
      cut_(routed ? 1 : 0) {  // of an expert: there are few of them, and they do not divide
  stage_ = training || scenario.plan.zero == 3 ? scenario.plan.zero : 0;
  owners_ = training && scenario.has_owners();
  host_optimizer_ = training && scenario.plan.offloads(Offload::optimizer);
  host_parameters_ = stage_ == 3 && scenario.plan.offloads(Offload::parameters);
  choose_shards();
  reshards_ = !training || scenario.reshards_after_forward();
  ahead_ = std::min(scenario.prefetch(), scenario.model.layers - 1);
  late_gather_ = training && scenario.overlaps_parameter_gather();
  overlaps_ = scenario.overlaps_gradient_reduction();
  on_demand_ = decide_on_demand();
  leaf_ = training && scenario.stack().leaf_gradients && !sums_every_time() &&
          scenario.plan.virtual_pipeline == 1;
  if (scenario.precision.gradients == shapes.type) {  // the first micro-batch's become the sums
    leaf_ = leaf_ && scenario.micro_batches() > 1;
    adds_at_once_ = leaf_;
  }
  at_.mixture = is_expert_layer(scenario.model, 0);
  if (routed) {
    store_layers();
    return;
  }
  store_all();
  store_live();
  if (owners_) {
    deal_to_owners();
  }
  if (has_experts(scenario.model)) {
    experts_.reset(new Parameters(build, scenario, shapes, training, true));
  }
}

void Parameters::choose_shards() {
  const bool over_context = stage_ == 0 || scenario_.plan.shard_over_context;
  const Mesh& mesh = build_.program().mesh;
  hybrid_ = stage_ > 0 && mesh.data_part < mesh.size(Axis::data);
  if (routed_) {
    choose_expert_shards();
    return;
  }
  shard_axes_ = token_axes(mesh, over_context, true);
  if (hybrid_) {
    std::replace(shard_axes_.begin(), shard_axes_.end(), Axis::data, Axis::data_inner);
  }
  owners_ = owners_ && group_size(mesh, {"", shard_axes_}) > 1;
  if (owners_) {  // gradients are summed whole, over all replicas: as without ZeRO
    owner_axes_ = shard_axes_;
    shard_axes_ = token_axes(mesh, true, true);
    hybrid_ = false;
    stage_ = 0;
  }
  other_axes_ = token_axes(mesh, !over_context && !owners_, false);
  shards_ = stage_ > 0 ? group_size(mesh, {"", shard_axes_}) : 1;
}

// Where a ZeRO group holds each expert once, its states are whole and are summed as without ZeRO.
void Parameters::choose_expert_shards() {
  const Mesh& mesh = build_.program().mesh;
  const std::int64_t sharing = mesh.size(hybrid_ ? Axis::expert_data_inner : Axis::expert_data);
  hybrid_ = hybrid_ && sharing > 1;
  shards_ = stage_ > 0 ? sharing : 1;
  shard_axes_ = {hybrid_ ? Axis::expert_data_inner : Axis::expert_data};
}

// Biases and small norms of a kind of layers stand together.
void Parameters::store_layers() {
  std::int64_t small[3] = {0, 0, 0};
  for (const WeightShape& shape : layer_weight_shapes(scenario_, shapes_)) {
    if (shape.of_experts == routed_) {
      store(shape, Section::layers);
      small[static_cast<int>(shape.kind)] += shape.extra_elements;
    }
  }
  constexpr const char* names[] = {"biases", "biases_dense", "biases_mixture"};
  for (int kind = 0; kind < 3; ++kind) {
    if (small[kind] > 0) {
      store({names[kind], {small[kind]}, {{}}, 0, static_cast<LayerKind>(kind)}, Section::layers);
    }
  }
}

// A step of one micro-batch needs no gradients before its backward pass; they go when the next step
// begins, so nothing releases them. Gradients that several ranks sum in place stay in their buckets.
bool Parameters::decide_on_demand() const {
  const std::int64_t replicas = scenario_.plan.data * shapes_.ring * shapes_.ulysses;
  return training_ && !host_gradients() && scenario_.stack().gradients_on_demand &&
         scenario_.micro_batches() == 1 &&
         !hybrid_ && scenario_.plan.pipeline == 1 && !has_experts(scenario_.model) && (two_turns() || replicas == 1);
}

void Parameters::store_all() {
  const Model& model = scenario_.model;
  const std::vector<Shard> by_vocab =
      shapes_.tensor > 1 ? std::vector<Shard>{{Axis::tensor, SequenceOrder::contiguous}}
                         : std::vector<Shard>{};
  // A vocabulary that the tensor group does not divide is padded, as Megatron-LM does.
  const std::int64_t vocab = (model.vocab + shapes_.tensor - 1) / shapes_.tensor;
  if (has_ends(model)) {
    store({"embedding", {vocab, model.hidden}, {by_vocab, {}}, 0}, Section::bottom);
    if (model.positions == PositionEmbedding::learned) {
      store({"position_embedding", {model.max_positions, model.hidden}, {{}, {}}, 0},
            Section::bottom);
    }
  }
  store_layers();
  if (has_ends(model)) {
    store({"norm_final", {model.hidden}, {{}}, 0}, Section::top);
    if (model.norm == Norm::layer_norm) {
      store({"norm_final_bias", {model.hidden}, {{}}, 0}, Section::top);
    }
    if (!model.tied_embeddings) {
      store({"head", {vocab, model.hidden}, {by_vocab, {}}, 0}, Section::top);
    }
  }
}

TensorSpec Parameters::full_spec(const Stored& stored) const {
  TensorSpec spec;
  spec.shape = stored.shape.shape;
  spec.shards = stored.shape.shards;
  // Inference in fp8 keeps the layers' weights in fp8; training casts them on the way in.
  const bool small = !training_ && stored.of_layer() && scenario_.precision.compute == DataType::fp8;
  spec.type = small ? DataType::fp8 : shapes_.type;
  spec.slots = stored.of_layer() ? layers_of(stored.shape.kind) : 1;
  spec.stage_slots = holders(stored);
  spec.persistent = true;
  spec.category = MemoryCategory::parameters;
  return spec;
}

// Stages of a pipeline that hold a weight. The head of tied embeddings is a copy of them.
std::vector<std::vector<std::int64_t>> Parameters::holders(const Stored& stored) const {
  const bool copied = scenario_.model.tied_embeddings && stored.shape.name == "embedding";
  switch (stored.section) {
    case Section::layers:
      return stages_.one() || stored.shape.kind == LayerKind::every
                 ? stages_.layers()
                 : stages_.layers_of_kind(stored.shape.kind == LayerKind::mixture);
    case Section::bottom: return stages_.on(true, copied, 1);
    case Section::top: break;
  }
  return stages_.on(false, true, 1);
}

// This rank's part: the first dimension (of experts the second) cut over the shard group. Where that does not divide, a
// flat part rounded up (sizes and times are right to a rounding; it cannot be computed with).
TensorSpec Parameters::shard_spec(const Stored& stored) const {
  TensorSpec spec = full_spec(stored);
  if (shards_ == 1) {
    return spec;
  }
  const auto cut = static_cast<std::size_t>(cut_);
  if (spec.shape[cut] % shards_ == 0) {
    spec.shape[cut] /= shards_;
    for (auto axis = shard_axes_.rbegin(); axis != shard_axes_.rend(); ++axis) {
      spec.shards[cut].push_back({*axis, SequenceOrder::contiguous});
    }
    return spec;
  }
  spec.shape = {(product(spec.shape) + shards_ - 1) / shards_};
  spec.shards = {{}};
  return spec;
}

void Parameters::store(const WeightShape& shape, Section section) {
  Stored stored;
  stored.shape = shape;
  stored.section = section;
  const bool owns_part = stage_ == 3 || gathers_late();
  TensorSpec parameter = owns_part ? shard_spec(stored) : full_spec(stored);
  parameter.role = Role::parameter;
  parameter.view = gathers_late();  // of this rank's part of the full weights
  parameter.in_host_memory = host_parameters_;
  if (casts()) {
    parameter.type = DataType::fp32;
  }
  stored.shard = build_.tensor(shape.name, parameter);
  stored.full = stored.shard;
  if (gathers() || gathers_late()) {
    stored.full = build_.tensor(shape.name + "_gathered", gathered_spec(stored));
  }
  if (training_) {
    store_gradient(stored);
    if (!owners_) {
      store_optimizer(stored);
    }
  }
  stored_.push_back(stored);
}

// ZeRO 3: a buffer for every layer that is gathered at a time, which layers of both kinds share: those
// of the smaller kind are views into it. Where weights stay gathered, one for every layer.
TensorSpec Parameters::gathered_spec(const Stored& stored) const {
  TensorSpec spec = full_spec(stored);
  if (!gathers()) {
    return spec;
  }
  spec.category = MemoryCategory::communication;
  spec.view = bounds_live();
  if (reshards_ && stored.of_layer()) {
    spec.slots = ahead_ + 1;
    spec.stage_slots = {};
    spec.view = spec.view || is_smaller_kind(stored.shape.kind);
  }
  return spec;
}

// DeepSpeed gathers module by module, ahead until so many elements are there, and keeps those that are
// used again soon: what is there at a time depends on no layer. What is on its way lands in a buffer
// of its own, from which weights are joined: as many as are asked for at once, the last of them whole.
void Parameters::store_live() {
  if (!bounds_live()) {
    return;
  }
  std::int64_t all = 0;
  for (const Stored& stored : stored_) {
    all += product(stored.shape.shape) * (stored.of_layer() ? layers_of(stored.shape.kind) : 1);
  }
  const SoftwareProfile& stack = scenario_.stack();
  const std::int64_t matrix = scenario_.model.hidden * scenario_.model.ffn / shapes_.tensor;
  const std::int64_t arriving = shards_ > 1 ? stack.prefetch_bucket + matrix : 0;
  TensorSpec spec;
  spec.shape = {std::min(all, stack.live_parameters) + std::min(all, arriving)};
  spec.shards = {{}};
  spec.type = shapes_.type;
  spec.persistent = true;
  spec.category = MemoryCategory::communication;
  build_.tensor("live_parameters", spec);
}

// Of two kinds of layers, that whose gathered weights are fewer.
bool Parameters::is_smaller_kind(LayerKind kind) const {
  const bool gathers_experts =
      host_parameters_ || build_.program().mesh.size(Axis::expert_data_inner) > 1;
  std::int64_t elements[3] = {0, 0, 0};
  for (const WeightShape& shape : layer_weight_shapes(scenario_, shapes_)) {
    const bool gathered = !shape.of_experts || gathers_experts;
    elements[static_cast<int>(shape.kind)] += gathered ? product(shape.shape) : 0;
  }
  const std::int64_t dense = elements[static_cast<int>(LayerKind::dense)];
  const std::int64_t mixture = elements[static_cast<int>(LayerKind::mixture)];
  return (kind == LayerKind::dense && dense < mixture) ||
         (kind == LayerKind::mixture && mixture <= dense);
}

// Stage 0: full gradients, summed in place. Stage 1: full gradients, of which this rank's summed
// part is a view, as Megatron-LM's distributed optimizer reduces in place. Stages 2, 3: full
// gradients of two layers at a time, and this rank's sums.
void Parameters::store_gradient(Stored& stored) {
  TensorSpec sum = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  sum.type = scenario_.precision.gradients;
  sum.category = MemoryCategory::gradients;
  sum.role = Role::gradient;
  sum.view = stage_ == 1 && shards_ > 1;
  sum.persistent = !on_demand_;
  sum.in_host_memory = host_gradients();
  if (waits_for_sending()) {
    TensorSpec held = sum;
    held.role = Role::none;
    stored.held = build_.tensor("held_grad." + stored.shape.name, held);
    sum.type = DataType::fp32;
  }
  stored.gradient = build_.tensor("grad." + stored.shape.name, sum);
  stored.local = stored.gradient;
  store_leaf(stored);
  if (shards_ == 1 && !host_gradients()) {
    return;
  }
  TensorSpec local = full_spec(stored);
  local.category = MemoryCategory::gradients;
  if (!two_turns()) {
    local.type = scenario_.precision.gradients;
  } else {
    local.slots = stored.of_layer() ? 2 : 1;
    local.persistent = false;
  }
  stored.local = build_.tensor("local_grad." + stored.shape.name, local);
}

// Autograd's own gradient of a parameter, in the compute type.
void Parameters::store_leaf(Stored& stored) {
  if (!leaf_) {
    return;
  }
  TensorSpec spec = full_spec(stored);
  spec.category = MemoryCategory::gradients;
  spec.persistent = false;
  stored.leaf = build_.tensor("leaf_grad." + stored.shape.name, spec);
}

void Parameters::store_optimizer(Stored& stored) {
  TensorSpec spec = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  spec.category = MemoryCategory::optimizer;
  spec.type = scenario_.precision.states == States::compute ? spec.type : DataType::fp32;
  spec.in_host_memory = host_optimizer_;
  stored.master = updates_in_place() ? stored.shard : build_.tensor("master." + stored.shape.name, spec);
  stored.moment1 = build_.tensor("moment1." + stored.shape.name, spec);
  stored.moment2 = build_.tensor("moment2." + stored.shape.name, spec);
  store_on_host(stored);
}

// Of one kind, or of both; of a pipeline those of the stage that has most.
std::int64_t Parameters::layers_of(LayerKind kind) const {
  if (!stages_.one()) {
    return kind == LayerKind::every ? stages_.most_layers()
                                    : stages_.most_layers_of_kind(kind == LayerKind::mixture);
  }
  const std::int64_t mixtures = expert_layers(scenario_.model);
  switch (kind) {
    case LayerKind::dense: return scenario_.model.layers - mixtures;
    case LayerKind::mixture: return mixtures;
    case LayerKind::every: break;
  }
  return scenario_.model.layers;
}

void Parameters::enter(const LayersAtHand& at) const {
  at_ = at;
  if (experts_) {
    experts_->at_ = at;
  }
}

void Parameters::enter_run(std::size_t run) const {
  const LayerRun entered = layer_runs(scenario_.model)[run];
  enter({entered.mixture, Index::of(-entered.others_before)});
}

// Where a layer's part of a weight stands: those of one kind of layers are numbered among these.
Index Parameters::place_of_layer(const Stored& stored, Index layer) const {
  return stored.shape.kind == LayerKind::every ? layer : plus(std::move(layer), at_.to_kind);
}

// Of the layers: the weights that the layers at hand have.
Parameters::Some Parameters::some(Section section) const {
  const LayerKind other = at_.mixture ? LayerKind::dense : LayerKind::mixture;
  Some found;
  for (const Stored& stored : stored_) {
    const bool absent = stored.of_layer() && stored.shape.kind == other;
    if (stored.section == section && !absent) {
      found.push_back(&stored);
    }
  }
  return found;
}

std::vector<TensorRef> Parameters::refs(const Some& stored, TensorRef Stored::*which,
                                        Index slot) const {
  std::vector<TensorRef> found;
  found.reserve(stored.size());
  for (const Stored* each : stored) {
    found.push_back(build_.at(each->*which, slot));
  }
  return found;
}

std::vector<TensorRef> Parameters::refs_of_layer(const Some& stored, TensorRef Stored::*which,
                                                 Index layer) const {
  std::vector<TensorRef> found;
  found.reserve(stored.size());
  for (const Stored* each : stored) {
    found.push_back(build_.at(each->*which, place_of_layer(*each, layer)));
  }
  return found;
}

// Ranks of different ZeRO groups that hold the same shards.
GroupId Parameters::groups_of_shards() const {
  return routed_ ? *build_.group("expert zero replicas", {Axis::expert_data_outer})
                 : *build_.group("zero replicas", {Axis::data_outer});
}

std::optional<GroupId> Parameters::shard_group() const {
  if (routed_) {
    return build_.group(hybrid_ ? "expert zero group" : "expert data", shard_axes_);
  }
  const char* whole = other_axes_.empty() ? "data x context" : "data";
  return build_.group(hybrid_ ? "zero group" : whole, shard_axes_);
}

Weight Parameters::weight(const Stored& stored, Index layer, Index turn) const {
  const Index root = Index::of(0);
  Weight made;
  made.value = build_.at(stored.full, !stored.of_layer() ? root
                                      : gathers()        ? gathered_slot(stored, layer, turn)
                                                         : place_of_layer(stored, layer));
  if (training_) {
    made.gradient = build_.at(leaf_ ? stored.leaf : stored.local,
                              !stored.of_layer()  ? root
                                            : two_turns()
                                                ? turn
                                                : place_of_layer(stored, layer));
    made.fresh = fresh_gradients();
  }
  return made;
}

namespace {

// A weight of latent attention; true if it is one.
bool assign_latent_weight(LatentWeights& weights, const std::string& name, const Weight& weight) {
  const std::pair<const char*, Weight*> places[] = {
      {"w_q_down", &weights.q_down},   {"norm_q", &weights.norm_q},   {"w_q_up", &weights.q_up},
      {"w_kv_down", &weights.kv_down}, {"norm_kv", &weights.norm_kv}, {"w_kv_up", &weights.kv_up}};
  for (const auto& [known, place] : places) {
    if (name == known) {
      *place = weight;
      return true;
    }
  }
  return false;
}

// A weight of a mixture; biases have no place.
void assign_expert_weight(MixtureWeights& weights, const std::string& name, const Weight& weight) {
  if (name == "w_router") {
    weights.router = weight;
  } else if (name == "w_expert_gate_up") {
    weights.up = weight;
  } else if (name == "w_expert_down") {
    weights.down = weight;
  } else if (name == "w_shared_gate_up") {
    weights.shared_up = weight;
  } else if (name == "w_shared_down") {
    weights.shared_down = weight;
  }
}

}  // namespace

LayerWeights Parameters::layer(Index layer, Index turn) const {
  LayerWeights weights;
  if (experts_) {
    weights = experts_->layer(layer, turn);
  }
  weights.mixture = at_.mixture;
  for (const Stored* stored : some(Section::layers)) {
    const Weight made = weight(*stored, layer, turn);
    const std::string& name = stored->shape.name;
    if (name == "norm_attention") {
      weights.norm_attention = made;
    } else if (name == "w_qkv") {
      weights.qkv = made;
    } else if (name == "w_o") {
      weights.output = made;
    } else if (name == "norm_mlp") {
      weights.norm_mlp = made;
    } else if (name == "w_gate_up" || name == "w_up") {
      weights.up = made;
    } else if (name == "w_down") {
      weights.down = made;
    } else if (!assign_latent_weight(weights.latent, name, made)) {
      assign_expert_weight(weights.experts, name, made);
    }
  }
  return weights;
}

Weight Parameters::root(const std::string& name) const {
  for (const Stored& stored : stored_) {
    if (!stored.of_layer() && stored.shape.name == name) {
      return weight(stored, Index::of(0), Index::of(0));
    }
  }
  check(name == "head", "a weight outside the layers must be stored");
  return root("embedding");  // tied
}

void Parameters::each_layer(const std::string& name, LayerOrder order,
                            const std::function<void(Index, Index)>& body) const {
  each_layer(name, order, scenario_.model.layers,
             [&](Index layer, Index turn, bool) { body(layer, turn); });
}

void Parameters::each_layer(const std::string& name, LayerOrder order, std::int64_t split,
                            const std::function<void(Index, Index, bool)>& body) const {
  const std::vector<PassPlace> places = places_of_pass(order, split);
  const auto count = static_cast<std::int64_t>(places.size());
  const bool up = order == LayerOrder::first_to_last;
  const auto layer_at = [&](std::int64_t place) { return up ? place : count - 1 - place; };
  const std::vector<LayerRun> runs = layer_runs(scenario_.model);
  const auto run_of = [&](std::int64_t place) { return places[static_cast<std::size_t>(place)].run; };
  for (std::int64_t i = 0; gathers_in(order) && i < ahead_; ++i) {
    enter_run(run_of(i));
    gather_layer(Index::of(layer_at(i)), Index::of(i));
  }
  for (std::int64_t begin = 0, end = 0; begin < count; begin = end) {
    const PassPlace& place = places[static_cast<std::size_t>(begin)];
    for (end = begin + 1;
         !place.alone && end < count && places[static_cast<std::size_t>(end)] == place;) {
      ++end;
    }
    if (place.alone) {
      Index turn = Index::of(begin);
      turn.modulus = 2;
      at_place(place, order, Index::of(layer_at(begin)), turn, body);
      continue;
    }
    const LoopId loop = build_.begin_loop(name, end - begin, true);
    at_place(place, order, Index::counter(loop, up ? 1 : -1, layer_at(begin)),
             Index::counter(loop, 1, begin, 2), body);
    build_.end_loop(loop);
  }
}

// Of every layer, in the order of the pass.
std::vector<Parameters::PassPlace> Parameters::places_of_pass(LayerOrder order,
                                                              std::int64_t split) const {
  std::vector<PassPlace> places;
  const std::vector<LayerRun> runs = layer_runs(scenario_.model);
  for (std::size_t run = 0; run < runs.size(); ++run) {
    for (std::int64_t i = 0; i < runs[run].count; ++i) {
      places.push_back({run, runs[run].first + i < split});
    }
  }
  if (order == LayerOrder::last_to_first) {
    std::reverse(places.begin(), places.end());
  }
  const auto count = static_cast<std::int64_t>(places.size());
  for (std::int64_t i = 0; i < count; ++i) {
    PassPlace& place = places[static_cast<std::size_t>(i)];
    if (gathers_in(order) && i + ahead_ < count) {
      place.gathers = places[static_cast<std::size_t>(i + ahead_)].run;
    }
    if (fetches_in(order) && i + 1 < count) {
      const PassPlace& next = places[static_cast<std::size_t>(i + 1)];
      place.fetches = {runs[next.run].mixture, next.below};
    }
    place.alone = i >= count - written_out(order);
  }
  return places;
}

// One layer, or those of a loop: the gather that goes on meanwhile, and the body.
void Parameters::at_place(const PassPlace& place, LayerOrder order, Index layer, Index turn,
                          const std::function<void(Index, Index, bool)>& body) const {
  if (place.gathers) {
    enter_run(*place.gathers);
    const std::int64_t step = order == LayerOrder::first_to_last ? 1 : -1;
    gather_layer(next(layer, ahead_ * step), next(turn, ahead_));
  }
  enter_run(place.run);
  if (gathers_in(order)) {
    take_out_layer(layer, turn);
  }
  body(layer, turn, place.below);
}

// Emits `body` for every layer, apart from passes of the model: a loop for each run.
void Parameters::over_layers(const std::string& name, LayerOrder order,
                             const std::function<void(Index)>& body) const {
  const bool up = order == LayerOrder::first_to_last;
  std::vector<LayerRun> runs = layer_runs(scenario_.model);
  if (!stages_.one()) {
    for (const bool mixture : {false, true}) {
      if (stages_.most_layers_of_kind(mixture) > 0) {
        over_stage_layers(name, mixture, body);
      }
    }
    return;
  }
  if (!up) {
    std::reverse(runs.begin(), runs.end());
  }
  for (const LayerRun& run : runs) {
    enter({run.mixture, Index::of(-run.others_before)});
    const LoopId loop = build_.begin_loop(name, run.count, true);
    body(Index::counter(loop, up ? 1 : -1, up ? run.first : run.first + run.count - 1));
    build_.end_loop(loop);
  }
}

// Those of a kind on a stage; their order matters to nothing but a little overlap. The i-th of them is
// some layer of the stage, looked up, and i among its kind.
void Parameters::over_stage_layers(const std::string& name, bool mixture,
                                   const std::function<void(Index)>& body) const {
  const std::int64_t most = stages_.most_layers_of_kind(mixture);
  const LoopId loop = build_.begin_loop(name, most, true);
  build_.program().loops[loop.index].stage_counts = stages_.uneven_counts_of_kind(mixture);
  LayersAtHand at{mixture, Index::of(0)};
  Index layer = Index::counter(loop);
  if (!stages_.of_one_kind()) {
    std::vector<std::int64_t> shifts;
    for (const auto& places : stages_.places_of_kind(mixture)) {
      for (std::int64_t i = 0; i < most; ++i) {
        const auto at_i = static_cast<std::size_t>(i);
        shifts.push_back(at_i < places.size() ? places[at_i] - i : 0);
      }
    }
    const auto shifted = [&](std::int64_t sign) {
      std::vector<std::int64_t> table(shifts);
      for (std::int64_t& shift : table) {
        shift *= sign;
      }
      Index index = of_stage(std::move(table));
      index.lookups[0].loop = loop;
      index.lookups[0].axis_coefficient = most;
      return index;
    };
    layer = plus(std::move(layer), shifted(1));
    at.to_kind = shifted(-1);
  }
  enter(at);
  body(layer);
  build_.end_loop(loop);
}

// What is outside the layers, where it is: at the bottom, on top, and the copy of tied embeddings.
void Parameters::on_stage(const Condition& where, const std::function<void()>& act) const {
  if (!stages_.one()) {
    build_.begin_when(where);
  }
  act();
  if (!stages_.one()) {
    build_.end_when();
  }
}

void Parameters::at_bottom(const std::function<void(const Some&)>& act) const {
  on_stage(stages_.first(), [&] { act(some(Section::bottom)); });
}

void Parameters::on_top(const std::function<void(const Some&)>& act) const {
  on_stage(stages_.last(), [&] {
    act(some(Section::top));
    if (!copy().empty()) {
      act(copy());
    }
  });
}

// The weight that the last stage of a pipeline holds besides those on top.
Parameters::Some Parameters::copy() const {
  Some found;
  for (const Stored& stored : stored_) {
    if (!stages_.one() && scenario_.model.tied_embeddings && stored.shape.name == "embedding") {
      found.push_back(&stored);
    }
  }
  return found;
}

void Parameters::prepare_copy() const { prepare_some(copy(), Index::of(0), Index::of(0)); }

void Parameters::reduce_copy(bool last, Summed which) const {
  if (reduces_now(last, which)) {
    reduce_some(copy(), Index::of(0), Index::of(0));
  }
}

void Parameters::sum_copies_early() const {
  const bool replicas = scenario_.plan.data * shapes_.ring * shapes_.ulysses > 1;
  if (overlaps_ || !replicas) {
    sum_copies();
    copies_summed_ = true;
  }
}

void Parameters::sum_copies() const {
  if (copy().empty() || copies_summed_) {
    return;
  }
  build_.part(Part::gradient_reduction);
  const GroupId ends = *build_.group("embeddings", {Axis::pipeline}, true);
  const std::vector<TensorRef> gradients = refs(copy(), &Stored::gradient, Index::of(0));
  build_.begin_when(stages_.either_end());
  build_.collective(Op::all_reduce, Stream::pipeline, ends, "sum gradients of tied embeddings",
                    gradients, gradients);
  build_.end_when();
}

void Parameters::gather_layer(Index layer, Index turn) const {
  if (gathers()) {
    gather(some(Section::layers), "gather layer weights", layer, turn);
  }
  if (experts_) {
    experts_->gather_layer(layer, turn);
  }
}

// Kernels that read and write these tensors `passes` times, all of them in one launch.
void Parameters::pass_over(const std::string& label, const std::vector<TensorRef>& tensors,
                           std::int64_t passes) const {
  for (std::int64_t pass = 0; pass < passes; ++pass) {
    for (const TensorRef& tensor : tensors) {
      build_.compute(Op::copy, label, {tensor}, {tensor}).launches =
          1.0 / static_cast<double>(tensors.size());
    }
  }
}

// What was gathered as one buffer becomes weights that kernels read: when they are needed, not when
// they arrive, so that the compute stream does not wait for layers that are gathered ahead.
void Parameters::take_out_layer(Index layer, Index turn) const {
  if (gathers() && shards_ > 1) {
    const Part before = build_.part();
    build_.part(Part::parameter_gather);
    pass_over("take out gathered weights",
              gathered_refs(some(Section::layers), layer, turn),
              scenario_.stack().gather_copies);
    build_.part(before);
  }
}

// True if a layer's saved tensors come from host memory while the one before it is at work.
bool Parameters::fetches_in(LayerOrder order) const {
  return training_ && order == LayerOrder::last_to_first &&
         scenario_.plan.offloads(Offload::activations) && !scenario_.stack().synchronous_offload;
}

std::int64_t Parameters::written_out(LayerOrder order) const {
  return std::max<std::int64_t>(gathers_in(order) ? ahead_ : 0, fetches_in(order) ? 1 : 0);
}

// Gathered weights stand by turn in as many buffers as are gathered ahead and one, or by layer.
Index Parameters::gathered_slot(const Stored& stored, Index layer, Index turn) const {
  if (!stored.of_layer()) {
    return Index::of(0);
  }
  if (!reshards_) {
    return place_of_layer(stored, layer);
  }
  turn.modulus = ahead_ + 1;
  return turn;
}

std::vector<TensorRef> Parameters::gathered_refs(const Some& stored, Index layer,
                                                 Index turn) const {
  std::vector<TensorRef> found;
  for (const Stored* each : stored) {
    found.push_back(build_.at(each->full, gathered_slot(*each, layer, turn)));
  }
  return found;
}

// All weights of a layer travel as one message, as FSDP's flat parameters do.
void Parameters::gather(const Some& stored, const std::string& label, Index layer,
                        Index turn) const {
  if (stored.empty()) {
    return;
  }
  const Part before = build_.part();
  build_.part(Part::parameter_gather);
  const std::vector<TensorRef> full = gathers_late() ? refs_of_layer(stored, &Stored::full, turn)
                                                     : gathered_refs(stored, layer, turn);
  if (shards_ == 1 && !casts()) {  // in host memory, whole
    build_.host_work(Op::from_host, "fetch weights", refs_of_layer(stored, &Stored::shard, layer),
                     full);
    build_.part(before);
    return;
  }
  std::vector<TensorRef> shards = refs_of_layer(stored, &Stored::shard, layer);
  std::vector<TensorRef> temporary;
  if (host_parameters_) {
    shards = fetch_shards(stored, layer);
    temporary = shards;
  }
  if (casts()) {
    shards = cast_shards(stored, shards);
    temporary.insert(temporary.end(), shards.begin(), shards.end());
  }
  if (shards_ > 1) {
    build_.collective(Op::all_gather, Stream::data, *shard_group(), label, shards, full).dim = cut_;
  } else {
    for (std::size_t i = 0; i < shards.size(); ++i) {
      build_.compute(Op::copy, label, {shards[i]}, {full[i]}).fused = true;  // the cast writes it
    }
  }
  for (const TensorRef& part : temporary) {
    build_.release({part});
  }
  build_.part(before);
}

// This rank's fp32 shards in the compute type.
std::vector<TensorRef> Parameters::cast_shards(const Some& stored,
                                               const std::vector<TensorRef>& shards) const {
  std::vector<TensorRef> cast;
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const Stored* each = stored[i];
    TensorSpec spec = shard_spec(*each);
    spec.category = MemoryCategory::communication;
    spec.slots = 1;
    spec.persistent = false;
    cast.push_back(build_.fresh("cast." + each->shape.name, spec));
    build_.compute(Op::copy, "cast " + each->shape.name, {shards[i]}, {cast.back()});
  }
  return cast;
}

void Parameters::gather_root() const {
  if (gathers()) {
    Some root = some(Section::bottom);
    const Some top = some(Section::top);
    root.insert(root.end(), top.begin(), top.end());
    gather_outside(root, "gather embedding and head");
  }
}

void Parameters::gather_root(Section section) const {
  if (gathers() && reshards_) {
    Some root = some(section);
    const Some further = section == Section::top ? copy() : Some();
    root.insert(root.end(), further.begin(), further.end());
    gather_outside(root, section == Section::top ? "gather head" : "gather embedding");
  }
}

void Parameters::gather_outside(const Some& root, const std::string& label) const {
  gather(root, label, Index::of(0), Index::of(0));
  if (shards_ > 1) {
    pass_over("take out gathered weights", refs(root, &Stored::full, Index::of(0)),
              scenario_.stack().gather_copies);
  }
}

std::optional<std::int64_t> Parameters::gathers_ahead() const {
  return gathers_any() && reshards_ ? std::optional(ahead_) : std::nullopt;
}

void Parameters::gather_stage() const {
  if (!gathers_any() || reshards_) {
    return;
  }
  at_bottom([&](const Some& root) { gather_outside(root, "gather embedding"); });
  over_layers("gather stage", LayerOrder::first_to_last, [&](Index layer) {
    gather_layer(layer, layer);
    take_out_layer(layer, layer);
  });
  on_top([&](const Some& root) { gather_outside(root, "gather head"); });
}

void Parameters::zero(const Some& stored, Index slot) const {
  if (host_gradients()) {
    zero_on_host(stored, slot);
  } else if (!stored.empty()) {
    // Stage 1 adds up micro-batches in the full buffer and sums it over replicas once; so do stages
    // of a pipeline whose gradients stay whole.
    const bool full = !two_turns();
    build_
        .compute(Op::zero, "zero gradients", {},
                 refs_of_layer(stored, full ? &Stored::local : &Stored::gradient, slot))
        .fused = adds_at_once_;
  }
}

void Parameters::zero_gradients() const {
  build_.part(Part::forward);
  if (on_demand_) {
    return;
  }
  over_layers("zero gradients", LayerOrder::first_to_last, [&](Index layer) {
    zero(some(Section::layers), layer);
    if (experts_) {
      experts_->zero(experts_->some(Section::layers), layer);
    }
  });
  at_bottom([&](const Some& stored) { zero(stored, Index::of(0)); });
  on_top([&](const Some& stored) { zero(stored, Index::of(0)); });
}

void Parameters::prepare_gradients(Section section, Index layer, Index turn) const {
  if (experts_) {
    experts_->prepare_gradients(section, layer, turn);
  }
  prepare_some(some(section), layer, turn);
}

void Parameters::prepare_some(const Some& all, Index layer, Index turn) const {
  if (!fresh_gradients()) {
    return;
  }
  for (const Stored* stored : all) {
    const TensorRef local =
        build_.at(leaf_ ? stored->leaf : stored->local,
                  two_turns() ? turn : place_of_layer(*stored, layer));
    build_.allocate(local);
    if (is_added_to(stored->shape.name)) {
      build_.compute(Op::zero, "zero gradient of " + stored->shape.name, {}, {local});
    }
  }
}

// Under sequence parallelism every rank of the tensor group has seen only its tokens' part of the
// norms' gradients, and of the router's.
void Parameters::sum_norms_over_tensor(const Some& stored, Index slot) const {
  const auto group = build_.group("tensor", {Axis::tensor});
  if (!group || !scenario_.plan.sequence_parallel) {
    return;
  }
  Some norms;
  for (const Stored* each : stored) {
    if (is_norm(each->shape.name) || is_whole_on_tensor_ranks(each->shape.name)) {
      norms.push_back(each);
    }
  }
  if (norms.empty()) {
    return;
  }
  const std::vector<TensorRef> gradients = two_turns()
                                               ? refs(norms, &Stored::local, slot)
                                               : refs_of_layer(norms, &Stored::local, slot);
  build_.collective(Op::all_reduce, Stream::tensor, *group, "sum norm gradients", gradients,
                    gradients);
}

// Whole gradients over replicas: those of owners go in buckets, and come out when all are summed; so
// do those of stacks that reduce behind the last backward pass, bucket by bucket.
void Parameters::sum_whole(GroupId group, const std::vector<TensorRef>& local) const {
  const bool buckets = stage_ == 0 && !overlaps_;
  const std::int64_t copies = scenario_.stack().gradient_copies;
  const std::int64_t passes = owners_ ? copies : buckets ? std::min<std::int64_t>(copies, 1) : 0;
  pass_over("put gradients in order", local, passes);
  build_.collective(Op::all_reduce, Stream::data, group, "sum gradients", local, local);
  if (!owners_) {
    pass_over("take out summed gradients", local, passes);
  }
}

void Parameters::sum_over_replicas(const Some& stored, Index local_slot, Index layer) const {
  const std::vector<TensorRef> local = two_turns()
                                           ? refs(stored, &Stored::local, local_slot)
                                           : refs_of_layer(stored, &Stored::local, local_slot);
  const std::vector<TensorRef> sums = refs_of_layer(stored, &Stored::gradient, layer);
  if (!other_axes_.empty()) {
    if (const auto others = build_.group("context", other_axes_)) {
      build_.collective(Op::all_reduce, Stream::data, *others, "sum gradients over context", local,
                        local);
    }
  }
  const auto group = shard_group();
  if (group && shards_ == 1 && stage_ == 0 && !scenario_.stack().sums_unshared_gradients) {
    return;  // a benchmark whose replicas never meet
  }
  if (group && shards_ == 1) {
    sum_whole(*group, local);
  }
  if (host_gradients()) {
    sum_and_send(stored, local, local_slot, layer);
  } else if (group && shards_ > 1) {
    if (scenario_.has_pieces()) {
      pass_over("join pieces of gradients", local, 2);
    }
    const std::vector<TensorRef> packed = two_turns() ? pack_gradients(stored, local) : local;
    scatter_sums(*group, stored, packed, sums);
    for (std::size_t i = 0; i < packed.size(); ++i) {
      if (packed[i].tensor.index != local[i].tensor.index) {
        build_.release({packed[i]});
      }
    }
  }
}

// Fresh gradients as they travel: put in order, scaled, cast (docs/models/training_step.md).
std::vector<TensorRef> Parameters::pack_gradients(const Some& stored,
                                                  const std::vector<TensorRef>& local) const {
  pass_over("put gradients in order", local, scenario_.stack().gradient_copies);
  if (!scenario_.stack().fp32_gradient_sums) {
    return local;
  }
  std::vector<TensorRef> packed;
  for (std::size_t i = 0; i < stored.size(); ++i) {
    TensorSpec spec = full_spec(*stored[i]);
    spec.type = DataType::fp32;
    spec.category = MemoryCategory::communication;
    spec.slots = 1;
    spec.persistent = false;
    spec.stage_slots = {};
    packed.push_back(build_.fresh("packed_grad." + stored[i]->shape.name, spec));
    build_.compute(Op::copy, "gradients in fp32", {local[i]}, {packed.back()}).launches =
        1.0 / static_cast<double>(stored.size());
  }
  return packed;
}

void Parameters::scatter_sums(GroupId group, const Some& stored,
                              const std::vector<TensorRef>& local,
                              const std::vector<TensorRef>& sums) const {
  if (hybrid_) {
    sum_hybrid(group, stored, local, sums);
    return;
  }
  Instruction& sum = build_.collective(Op::reduce_scatter, Stream::data, group,
                                       "sum and scatter gradients", local, sums);
  sum.accumulate = sums_every_time() && !on_demand_;
  sum.dim = cut_;
}

// Within the group that shares the states, then over the groups: every group holds the same sum.
// Stages 2 and 3 sum a micro-batch's shard apart and add it to what they have behind the second sum,
// on its stream (FSDP2's foreach_reduce): layers whose backward pass goes on do not wait for it.
void Parameters::sum_hybrid(GroupId group, const Some& stored, const std::vector<TensorRef>& local,
                            const std::vector<TensorRef>& gradients) const {
  const GroupId groups = groups_of_shards();
  std::vector<TensorRef> sums = gradients;
  if (sums_every_time()) {
    for (std::size_t i = 0; i < stored.size(); ++i) {
      TensorSpec spec = shard_spec(*stored[i]);
      spec.type = scenario_.precision.gradients;
      spec.category = MemoryCategory::gradients;
      spec.slots = 1;
      spec.persistent = false;
      sums[i] = build_.fresh("scattered_grad." + stored[i]->shape.name, spec);
    }
  }
  build_
      .collective(Op::reduce_scatter, Stream::data, group, "sum and scatter gradients", local, sums)
      .dim = cut_;
  // FSDP2 gives this sum a stream of its own, so that the next layer's scatter may run beside it.
  build_
      .collective(Op::all_reduce, Stream::outer, groups, "sum gradients over zero groups", sums,
                  gradients)
      .accumulate = sums_every_time();
  if (sums_every_time()) {
    for (const TensorRef& sum : sums) {
      build_.release({sum});
    }
  }
}

void Parameters::hold_sums(const Some& stored, Index slot) const {
  for (const TensorRef& ref : refs_of_layer(stored, &Stored::gradient, slot)) {
    build_.allocate(ref);
  }
}

void Parameters::accumulate_some(const Some& all, Index layer) const {
  if (!leaf_) {
    return;
  }
  for (const Stored* stored : all) {
    const TensorRef sum = build_.at(stored->local, place_of_layer(*stored, layer));
    const TensorRef leaf = build_.at(stored->leaf, place_of_layer(*stored, layer));
    Instruction& add =
        build_.compute(Op::add, "add up gradient of " + stored->shape.name, {sum, leaf}, {sum});
    if (adds_at_once_) {
      const auto all_but_first = static_cast<double>(scenario_.micro_batches() - 1);
      add.launches = add.traffic = all_but_first / static_cast<double>(scenario_.micro_batches());
      build_.release({leaf});
    }
  }
}

void Parameters::accumulate_gradients(Section section, Index layer) const {
  accumulate_some(some(section), layer);
  if (experts_) {
    experts_->accumulate_gradients(section, layer);
  }
}

void Parameters::accumulate_copy() const { accumulate_some(copy(), Index::of(0)); }

void Parameters::drop_some(const Some& all, Index layer) const {
  if (!leaf_ || adds_at_once_) {
    return;  // of the others or of the routed experts there may be some
  }
  for (const Stored* stored : all) {
    build_.release({build_.at(stored->leaf, place_of_layer(*stored, layer))});
  }
}

void Parameters::drop_leaf_gradients() const {
  if (!leaf_ && !(experts_ && experts_->leaf_)) {
    return;
  }
  on_top([&](const Some& stored) { drop_some(stored, Index::of(0)); });
  over_layers("drop gradients", LayerOrder::last_to_first, [&](Index layer) {
    drop_some(some(Section::layers), layer);
    if (experts_) {
      experts_->drop_some(experts_->some(Section::layers), layer);
    }
  });
  at_bottom([&](const Some& stored) { drop_some(stored, Index::of(0)); });
}

void Parameters::reduce_gradients(Section section, Index layer, Index turn, bool last,
                                  Summed which) const {
  last_ = last;
  if (reduces_now(last, which)) {
    reduce_now(section, layer, turn);
  }
  if (experts_) {
    experts_->reduce_gradients(section, layer, turn, last, which);
  }
}

// What was not reduced behind the backward pass, in the order its gradients came.
void Parameters::reduce_rest() const {
  const bool experts_rest = experts_ && experts_->reduces_at_end();
  if (!reduces_at_end() && !experts_rest) {
    return;
  }
  const Index only = Index::of(0);
  const auto reduce = [&](const Some& stored) {
    if (reduces_at_end()) {
      reduce_some(stored, only, only);
    }
  };
  // The framework calls for it when the last backward pass has returned.
  build_.begin_behind_compute();
  on_top(reduce);
  over_layers("reduce gradients", LayerOrder::last_to_first, [&](Index layer) {
    if (reduces_at_end()) {
      reduce_now(Section::layers, layer, only);
    }
    if (experts_rest) {
      experts_->reduce_now(Section::layers, layer, only);
    }
  });
  at_bottom(reduce);
  build_.end_behind_compute();
}

void Parameters::reduce_now(Section section, Index layer, Index turn) const {
  reduce_some(some(section), layer, turn);
}

void Parameters::reduce_some(const Some& stored, Index layer, Index turn) const {
  if (stored.empty()) {
    return;
  }
  const Part before = build_.part();
  build_.part(Part::gradient_reduction);
  const Index local_slot = two_turns() ? turn : layer;
  if (on_demand_ && two_turns()) {
    hold_sums(stored, layer);
  }
  sum_norms_over_tensor(stored, local_slot);
  sum_over_replicas(stored, local_slot, layer);
  if (holds_up_backward()) {
    build_.wait_for("wait for summed gradients", hybrid_ ? Stream::outer : Stream::data);
  }
  if (two_turns()) {
    for (const TensorRef& ref : refs(stored, &Stored::local, local_slot)) {
      build_.release({ref});
    }
  }
  build_.part(before);
}

// The fp32 master weights take the step; the weights that kernels read are their copy.
void Parameters::optimize_some(const Some& stored, Index slot) const {
  if (host_optimizer_) {
    optimize_on_host(stored, slot);
    return;
  }
  const bool sharded_copy = gathers_behind();
  for (const Stored* each : stored) {
    const auto here = [&](const TensorRef& ref) {
      return build_.at(ref, place_of_layer(*each, slot));
    };
    build_.compute(
        Op::adam, "adam " + each->shape.name,
        {here(each->master), here(each->gradient), here(each->moment1), here(each->moment2)},
        {here(each->master), here(each->moment1), here(each->moment2)});
    if (!sharded_copy && !updates_in_place()) {
      build_.compute(Op::copy, "update " + each->shape.name, {here(each->master)},
                     {here(each->shard)});
    }
  }
  if (sharded_copy && !stored.empty()) {
    gather_updated(stored, slot);
  }
}

// Stages 1 and 2: everyone's updated shards become the full weights.
void Parameters::gather_updated(const Some& stored, Index slot) const {
  const std::vector<TensorRef> updated = hold_updated(stored);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    build_.compute(Op::copy, "update " + stored[i]->shape.name,
                   {build_.at(stored[i]->master, place_of_layer(*stored[i], slot))}, {updated[i]});
  }
  share_updated(stored, updated, slot);
}

// Room for this rank's updated shards on their way to everyone.
std::vector<TensorRef> Parameters::hold_updated(const Some& stored) const {
  std::vector<TensorRef> updated;
  for (const Stored* each : stored) {
    TensorSpec spec = shard_spec(*each);
    spec.category = MemoryCategory::communication;
    spec.slots = 1;
    spec.persistent = false;
    updated.push_back(build_.fresh("updated." + each->shape.name, spec));
  }
  return updated;
}

void Parameters::share_updated(const Some& stored, const std::vector<TensorRef>& updated,
                               Index slot) const {
  build_.part(Part::parameter_gather);
  build_
      .collective(Op::all_gather, Stream::data, *shard_group(), "gather updated weights", updated,
                  refs_of_layer(stored, &Stored::full, slot))
      .dim = cut_;
  if (scenario_.has_pieces()) {
    copy_pieces(refs_of_layer(stored, &Stored::full, slot));
  }
  build_.part(Part::optimizer);
  for (const TensorRef& ref : updated) {
    build_.release({ref});
  }
}

// What came is a buffer per rank: joined from every tensor's piece before, copied out of the library's
// one buffer, and back into each tensor, piece by piece.
void Parameters::copy_pieces(const std::vector<TensorRef>& gathered) const {
  for (const TensorRef& tensor : gathered) {
    Instruction& copies =
        build_.compute(Op::copy, "copy pieces of gathered weights", {tensor}, {tensor});
    copies.traffic = 3.0;
    copies.launches = static_cast<double>(shards_);
  }
}

void Parameters::gather_updated_weights() const {
  const bool experts_late = experts_ && experts_->gathers_late();
  if (!gathers_late() && !experts_late) {
    return;
  }
  const std::string label = "gather updated weights";
  const auto gather_whole = [&](const Some& stored) {
    if (gathers_late()) {
      gather(stored, label, Index::of(0), Index::of(0));
    }
  };
  at_bottom(gather_whole);
  over_layers(label, LayerOrder::first_to_last, [&](Index layer) {
    if (gathers_late()) {
      gather(some(Section::layers), label, layer, layer);
    }
    if (experts_late) {
      experts_->gather(experts_->some(Section::layers), label, layer, layer);
    }
  });
  on_top(gather_whole);
}

void Parameters::optimize() const {
  reduce_rest();
  sum_copies();
  if (!scenario_.stack().times_optimizer) {
    return;
  }
  build_.part(Part::optimizer);
  if (owners_) {
    optimize_owned();
    return;
  }
  at_bottom([&](const Some& stored) { optimize_some(stored, Index::of(0)); });
  on_top([&](const Some& stored) { optimize_some(stored, Index::of(0)); });
  over_layers("optimizer", LayerOrder::first_to_last, [&](Index layer) {
    optimize_some(some(Section::layers), layer);
    if (experts_) {
      experts_->optimize_some(experts_->some(Section::layers), layer);
    }
  });
}

}  // namespace longhaul
