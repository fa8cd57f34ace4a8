#include "sim/scenario/read_scenario.h"

#include <algorithm>

#include "sim/model/read_model.h"
#include "sim/scenario/words.h"

namespace longhaul {

namespace {

// Far above any machine, and small enough that sums of a few of them fit in 63 bits.
constexpr IntegerRange degree_range{1, std::int64_t{1} << 20};
constexpr IntegerRange gpu_range{1, std::int64_t{1} << 20};
constexpr IntegerRange batch_range{1, std::int64_t{1} << 30};

void set_place(ScenarioDraft& draft, const std::string& path, const Place& place) {
  const auto found = std::find_if(draft.places.begin(), draft.places.end(),
                                  [&](const auto& entry) { return entry.first == path; });
  if (found != draft.places.end()) {
    found->second = place;
  } else {
    draft.places.emplace_back(path, place);
  }
}

void forget_place(ScenarioDraft& draft, const std::string& path) {
  std::erase_if(draft.places, [&](const auto& entry) { return entry.first == path; });
}

// Reads a choice whose words stand in the order of the enumerators.
template <class Choice>
void read_choice(MapReader& reader, const std::string& key, const std::vector<std::string>& words,
                 Choice& choice) {
  choice = static_cast<Choice>(reader.choice(key, words, static_cast<std::size_t>(choice)));
}

class ScenarioReader {
 public:
  ScenarioReader(ScenarioDraft& draft, Diagnostics& diagnostics)
      : draft_(draft), diagnostics_(diagnostics) {}

  void read(const YamlValue& map);

 private:
  void read_model_key(MapReader& reader);
  void read_cluster_key(MapReader& reader);
  void read_workload(const YamlValue& map);
  void read_cached_tokens(MapReader& reader);
  void read_mask(const YamlValue& value);
  void read_plan(const YamlValue& map);
  void read_context(const YamlValue& map);
  void read_data(MapReader& reader);
  void read_zero_group(MapReader& reader);
  void read_rank_order(MapReader& reader);
  void read_schedule(MapReader& reader);
  void read_stage_layers(MapReader& reader);
  void read_overlaps(MapReader& reader);
  void read_offload(MapReader& reader);
  void read_precision(const YamlValue& map);
  void note_places(const YamlValue& map, const std::string& prefix);
  // True if reading added no complaint since `before`: a value that was refused stays open.
  [[nodiscard]] bool clean(std::size_t before) const { return diagnostics_.all().size() == before; }
  void read_degree(MapReader& reader, const std::string& key, std::int64_t& degree, bool& open);

  ScenarioDraft& draft_;
  Diagnostics& diagnostics_;
};

void ScenarioReader::note_places(const YamlValue& map, const std::string& prefix) {
  for (const auto& [key, value] : map.entries()) {
    set_place(draft_, prefix + key, value.place());
  }
}

void ScenarioReader::read_model_key(MapReader& reader) {
  const auto value = reader.child("model");
  if (!value) {
    return;
  }
  if (value->is_map()) {
    draft_.model = read_model(*value, diagnostics_);
  } else {
    const std::string name = reader.text("model", "");
    draft_.model = name.empty() ? std::nullopt : find_model(name, value->place(), diagnostics_);
  }
}

void ScenarioReader::read_cluster_key(MapReader& reader) {
  const auto value = reader.child("cluster");
  if (!value) {
    return;
  }
  draft_.cluster.reset();
  draft_.cluster_value.reset();
  draft_.cluster_name.clear();
  if (value->is_map()) {
    draft_.cluster_value = *value;
  } else {
    draft_.cluster_name = reader.text("cluster", "");
  }
}

// A count that may be 0, which counts of tokens otherwise may not.
void ScenarioReader::read_cached_tokens(MapReader& reader) {
  const auto value = reader.child("cached_tokens");
  if (value && value->scalar() == "0") {
    draft_.workload.cached_tokens = 0;
    return;
  }
  draft_.workload.cached_tokens = reader.tokens("cached_tokens", draft_.workload.cached_tokens);
}

void ScenarioReader::read_mask(const YamlValue& value) {
  MaskSpec& mask = draft_.workload.mask;
  draft_.open.mask = false;
  if (value.is_map()) {
    MapReader reader(value, "mask", diagnostics_);
    mask = {MaskKind::window, reader.tokens("window")};
    reader.finish();
    return;
  }
  const std::string word = value.scalar();
  if (word == "causal" || word == "full") {
    mask = {word == "full" ? MaskKind::full : MaskKind::causal, 0};
    return;
  }
  diagnostics_.error(value.place(), "unknown-word",
                     "'mask' must be causal, full or {window: N}, got '" + word + "'",
                     word == "window" ? "write {window: 4096} for a sliding window of 4096 keys"
                                      : "write causal, full or {window: 4096}");
}

void ScenarioReader::read_workload(const YamlValue& map) {
  MapReader reader(map, "workload", diagnostics_);
  Workload& workload = draft_.workload;
  read_choice(reader, "phase", phase_words, workload.phase);
  read_choice(reader, "pass", pass_words, workload.pass);
  workload.sequence_length = reader.tokens("sequence_length", workload.sequence_length);
  read_cached_tokens(reader);
  workload.micro_batch = reader.integer("micro_batch", batch_range, workload.micro_batch);
  const std::size_t before = diagnostics_.all().size();
  workload.global_batch = reader.integer("global_batch", batch_range, workload.global_batch);
  draft_.open.global_batch &= !(reader.has("global_batch") && clean(before));
  // Whatever the shape, no expert is that far from the mean (check_scenario knows the model's).
  constexpr double most_experts = 4096.0;
  workload.expert_imbalance =
      reader.number("expert_imbalance", 1.0, most_experts, workload.expert_imbalance);
  workload.expert_capacity =
      reader.number("expert_capacity", 0.0, most_experts, workload.expert_capacity);
  if (const auto mask = reader.child("mask")) {
    read_mask(*mask);
  }
  if (reader.has("dropout")) {
    draft_.workload.dropout = reader.boolean("dropout");
  }
  workload.sample_time = reader.seconds("sample_time", workload.sample_time);
  reader.finish();
  note_places(map, "workload.");
}

void ScenarioReader::read_degree(MapReader& reader, const std::string& key, std::int64_t& degree,
                                 bool& open) {
  const std::size_t before = diagnostics_.all().size();
  degree = reader.integer(key, degree_range, degree);
  if (reader.has(key)) {
    open = !clean(before);
  }
}

void ScenarioReader::read_context(const YamlValue& map) {
  MapReader reader(map, "context", diagnostics_);
  ContextPlan& context = draft_.plan.context;
  read_choice(reader, "method", method_words, context.method);
  if (reader.has("method")) {
    context.ring = context.ulysses = context.inner_ring = 1;
    draft_.open.inner_ring = true;
    forget_place(draft_, "plan.context.inner_ring");
    draft_.open.ring = draft_.open.ulysses = true;
    forget_place(draft_, "plan.context.ring");
    forget_place(draft_, "plan.context.ulysses");
  }
  read_degree(reader, "ring", context.ring, draft_.open.ring);
  read_degree(reader, "ulysses", context.ulysses, draft_.open.ulysses);
  read_choice(reader, "order", order_words, context.order);
  read_choice(reader, "inner", inner_words, context.inner);
  read_degree(reader, "inner_ring", context.inner_ring, draft_.open.inner_ring);
  read_choice(reader, "variant", variant_words, context.variant);
  context.chunks = reader.integer("chunks", degree_range, context.chunks);
  context.packed_qkv = reader.boolean("packed_qkv", context.packed_qkv);
  reader.finish();
  note_places(map, "plan.context.");
}

void ScenarioReader::read_data(MapReader& reader) {
  const auto value = reader.child("data");
  if (!value) {
    return;
  }
  draft_.data.reset();
  if (value->scalar() != "auto") {
    const std::size_t before = diagnostics_.all().size();
    const std::int64_t data = reader.integer("data", degree_range, 1);
    if (clean(before)) {
      draft_.data = data;
    }
  }
}

void ScenarioReader::read_offload(MapReader& reader) {
  if (!reader.has("offload")) {
    reader.ignore("offload");
    return;
  }
  draft_.plan.offload.clear();
  for (const std::string& word : reader.texts("offload")) {
    const auto found = std::find(offload_words.begin(), offload_words.end(), word);
    if (found == offload_words.end()) {
      const std::string nearest = closest_match(word, offload_words);
      diagnostics_.error(reader.place("offload"), "unknown-word",
                         "'offload' lists optimizer, activations or parameters, got '" + word + "'",
                         nearest.empty() ? "" : "did you mean '" + nearest + "'?");
      continue;
    }
    draft_.plan.offload.push_back(static_cast<Offload>(found - offload_words.begin()));
  }
}

void ScenarioReader::read_zero_group(MapReader& reader) {
  const auto value = reader.child("zero_group");
  if (!value) {
    return;
  }
  draft_.plan.zero_group =
      value->scalar() == "all" ? 0 : reader.integer("zero_group", degree_range, 1);
}

// "[2, 4, 4, 2]"; a bare count is 1 or more, but a part may have no layers.
void ScenarioReader::read_stage_layers(MapReader& reader) {
  if (!reader.has("stage_layers")) {
    reader.ignore("stage_layers");
    return;
  }
  std::vector<std::int64_t>& layers = draft_.plan.stage_layers;
  layers.clear();
  for (const std::string& word : reader.texts("stage_layers")) {
    const bool digits = !word.empty() && word.size() < 8 &&
                        word.find_first_not_of("0123456789") == word.npos;
    if (!digits) {
      diagnostics_.error(reader.place("stage_layers"), "not-a-number",
                         "'stage_layers' lists counts of layers, got '" + word + "'",
                         "write one for every part of the model: [2, 4, 4, 2]");
      return;
    }
    layers.push_back(std::stoll(word));
  }
}

// "tp-cp-dp-pp": axes, fastest first, each once.
void ScenarioReader::read_rank_order(MapReader& reader) {
  if (!reader.has("rank_order")) {
    reader.ignore("rank_order");
    return;
  }
  std::vector<PlanAxis>& order = draft_.plan.rank_order;
  order.clear();
  const std::string text = reader.text("rank_order", "") + "-";
  std::size_t begin = 0;
  for (std::size_t dash = text.find('-'); dash != text.npos; dash = text.find('-', begin)) {
    const std::string word = text.substr(begin, dash - begin);
    begin = dash + 1;
    const auto known = std::find(rank_axis_words.begin(), rank_axis_words.end(), word);
    const auto axis = static_cast<PlanAxis>(known - rank_axis_words.begin());
    if (known == rank_axis_words.end()) {
      diagnostics_.error(reader.place("rank_order"), "unknown-word",
                         "'rank_order' has no axis '" + word + "'",
                         "write tp, cp (or ulysses and ring), dp, pp, ep, fastest first: "
                         "tp-cp-dp-pp");
      return;
    }
    if (std::find(order.begin(), order.end(), axis) != order.end()) {
      diagnostics_.error(reader.place("rank_order"), "repeated-word",
                         "'rank_order' has " + word + " twice", "name every axis once");
      return;
    }
    order.push_back(axis);
  }
}

// Habits of the stack that a plan may overrule; `stack` takes the stack's.
void ScenarioReader::read_overlaps(MapReader& reader) {
  Plan& plan = draft_.plan;
  const auto read = [&](const std::string& key, std::optional<bool>& habit) {
    if (const auto value = reader.child(key)) {
      habit = value->scalar() == "stack" ? std::nullopt : std::optional(reader.boolean(key, true));
    }
  };
  read("overlap_gradient_reduction", plan.overlap_gradient_reduction);
  read("overlap_parameter_gather", plan.overlap_parameter_gather);
  read("zero_owners", plan.zero_owners);
  read("overlap_tensor_collectives", plan.overlap_tensor_collectives);
  read("post_validation", plan.post_validation);
  read("reshard_after_forward", plan.reshard_after_forward);
  read("pageable_offload", plan.pageable_offload);
  const auto count = [&](const std::string& key, IntegerRange range,
                         std::optional<std::int64_t>& habit) {
    if (const auto value = reader.child(key)) {
      habit = value->scalar() == "stack" ? std::nullopt
                                         : std::optional(reader.integer(key, range, 1));
    }
  };
  count("host_threads", {1, 1024}, plan.host_threads);
  count("loader_workers", {0, 1024}, plan.loader_workers);
  count("prefetch", {0, 16}, plan.prefetch);
}

// "ZB-H1" as in papers, too.
void ScenarioReader::read_schedule(MapReader& reader) {
  PipelineSchedule& schedule = draft_.plan.schedule;
  const auto value = reader.child("schedule");
  const auto meant = value && value->is_scalar() ? schedule_of_word(value->scalar()) : std::nullopt;
  if (meant) {
    schedule = *meant;
  } else {
    read_choice(reader, "schedule", schedule_words, schedule);
  }
}

void ScenarioReader::read_plan(const YamlValue& map) {
  MapReader reader(map, "plan", diagnostics_);
  Plan& plan = draft_.plan;
  plan.tensor = reader.integer("tensor", degree_range, plan.tensor);
  plan.sequence_parallel = reader.boolean("sequence_parallel", plan.sequence_parallel);
  if (const auto context = reader.child("context")) {
    read_context(*context);
  }
  plan.pipeline = reader.integer("pipeline", degree_range, plan.pipeline);
  plan.virtual_pipeline = reader.integer("virtual_pipeline", degree_range, plan.virtual_pipeline);
  read_schedule(reader);
  plan.uneven_stages = reader.boolean("uneven_stages", plan.uneven_stages);
  read_stage_layers(reader);
  plan.virtual_group = reader.has("virtual_group")
                           ? reader.integer("virtual_group", degree_range, 1)
                           : plan.virtual_group;
  reader.ignore("virtual_group");
  read_data(reader);
  plan.zero = static_cast<int>(reader.integer("zero", {0, 3}, plan.zero));
  plan.shard_over_context = reader.boolean("shard_over_context", plan.shard_over_context);
  read_zero_group(reader);
  read_rank_order(reader);
  read_overlaps(reader);
  plan.expert = reader.integer("expert", degree_range, plan.expert);
  plan.expert_tensor = reader.integer("expert_tensor", degree_range, plan.expert_tensor);
  read_choice(reader, "expert_dispatch", expert_dispatch_words, plan.expert_dispatch);
  plan.fp8_expert_dispatch = reader.choice("expert_dispatch_dtype", expert_dispatch_type_words,
                                           plan.fp8_expert_dispatch ? 1 : 0) == 1;
  plan.shared_expert_overlap =
      reader.boolean("shared_expert_overlap", plan.shared_expert_overlap);
  read_choice(reader, "recompute", recompute_words, plan.recompute);
  read_choice(reader, "recompute_detail", recompute_detail_words, plan.recompute_detail);
  plan.mlp_tiles = reader.integer("mlp_tiles", degree_range, plan.mlp_tiles);
  plan.loss_chunks = reader.integer("loss_chunks", degree_range, plan.loss_chunks);
  if (reader.has("recompute_layers")) {
    plan.recompute_layers = reader.integer("recompute_layers", degree_range, 1);
  }
  reader.ignore("recompute_layers");
  draft_.open.zero &= !reader.has("zero");
  draft_.open.recompute &= !reader.has("recompute");
  read_offload(reader);
  reader.finish();
  note_places(map, "plan.");
}

void ScenarioReader::read_precision(const YamlValue& map) {
  MapReader reader(map, "precision", diagnostics_);
  read_choice(reader, "compute", data_type_words, draft_.precision.compute);
  read_choice(reader, "gradients", data_type_words, draft_.precision.gradients);
  read_choice(reader, "attention", data_type_words, draft_.precision.attention);
  read_choice(reader, "states", states_words, draft_.precision.states);
  reader.finish();
  note_places(map, "precision.");
}

void ScenarioReader::read(const YamlValue& map) {
  MapReader reader(map, "scenario", diagnostics_);
  const Place start = map.place();
  if (!draft_.has("")) {
    set_place(draft_, "", {start.source, 0, 0, 1});
  }
  read_model_key(reader);
  read_cluster_key(reader);
  const std::size_t before = diagnostics_.all().size();
  const std::int64_t gpus = reader.integer("gpus", gpu_range, draft_.gpus.value_or(1));
  if (reader.has("gpus") && clean(before)) {
    draft_.gpus = gpus;
  }
  if (const auto workload = reader.child("workload")) {
    read_workload(*workload);
  }
  if (const auto plan = reader.child("plan")) {
    read_plan(*plan);
  }
  if (const auto precision = reader.child("precision")) {
    read_precision(*precision);
  }
  std::size_t software = static_cast<std::size_t>(
      std::find(software_names().begin(), software_names().end(), draft_.software) -
      software_names().begin());
  software = reader.choice("software", software_names(), software);
  draft_.software = software_names().at(software);
  if (reader.has("attention_kernel")) {
    const std::size_t kernel = reader.choice("attention_kernel", attention_kernel_words, 0);
    draft_.attention_kernel = kernel == 0 ? "" : attention_kernel_words.at(kernel);
  }
  reader.ignore("attention_kernel");
  reader.finish();
  note_places(map, "");
}

}  // namespace

Place ScenarioDraft::place(const std::string& path) const {
  std::string at = path;
  while (true) {
    for (const auto& [known, where] : places) {
      if (known == at) {
        return where;
      }
    }
    if (at.empty()) {
      return {};
    }
    const std::size_t dot = at.rfind('.');
    at = dot == at.npos ? "" : at.substr(0, dot);
  }
}

bool ScenarioDraft::has(const std::string& path) const {
  return std::any_of(places.begin(), places.end(),
                     [&](const auto& entry) { return entry.first == path; });
}

ScenarioDraft empty_draft() {
  ScenarioDraft draft;
  draft.open = {true, true, true, true, true, true, true};
  return draft;
}

void read_scenario_onto(ScenarioDraft& draft, const YamlValue& map, Diagnostics& diagnostics) {
  ScenarioReader(draft, diagnostics).read(map);
}

ScenarioDraft read_scenario(const YamlValue& map, Diagnostics& diagnostics) {
  ScenarioDraft draft = empty_draft();
  read_scenario_onto(draft, map, diagnostics);
  return draft;
}

}  // namespace longhaul
