// Software profiles from YAML.
#include "sim/scenario/software.h"

#include <algorithm>
#include <map>

#include "sim/input/presets.h"
#include "sim/input/yaml.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr const char* folder = "calibrate/profiles/software";
constexpr const char* fit_file = "calibrate/profiles/software_fit.yaml";

struct NumberKey {
  const char* name;
  bool duration;
  double fallback;  ///< what the ideal stack has
  double high;
};
constexpr NumberKey number_keys[software_number_count] = {
    {"host_launch", true, 0.0, 0.0},      {"host_collective", true, 0.0, 0.0},
    {"host_micro_batch", true, 0.0, 0.0}, {"host_step", true, 0.0, 0.0},
    {"speed_spread", false, 0.0, 0.5}};

SoftwareValue read_value(const YamlValue& value, const NumberKey& key, Diagnostics& diagnostics) {
  MapReader reader(value, key.name, diagnostics);
  SoftwareValue read;
  if (key.duration) {
    read.value = reader.seconds("value").value();
    read.spread = reader.seconds("spread").value();
  } else {
    read.value = reader.number("value", 0.0, key.high);
    read.spread = reader.number("spread", 0.0, 1.0);
  }
  read.fit = reader.boolean("fit", false);
  read.prior = read.value;
  read.prior_spread = read.spread;
  demand_origin(reader);
  reader.finish();
  return read;
}

void read_numbers(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  for (int i = 0; i < software_number_count; ++i) {
    const NumberKey& key = number_keys[i];
    SoftwareValue& number = profile.numbers[static_cast<std::size_t>(i)];
    const auto value = root.child(key.name);
    number = value ? read_value(*value, key, diagnostics) : SoftwareValue{key.fallback, 0.0, false, key.fallback, 0.0};
  }
}

void read_operators(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.child("operators");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "operators", diagnostics);
    OperatorHabit habit;
    habit.op = reader.text("op");
    habit.launches = reader.number("launches", 0.0, 1e4);
    habit.traffic = reader.number("traffic", 0.0, 100.0);
    demand_origin(reader);
    reader.finish();
    profile.operators.push_back(habit);
  }
}

// A habit: {value: true, source: ...}.
void read_habit(MapReader& root, const char* key, bool& habit, Diagnostics& diagnostics) {
  const auto value = root.child(key);
  if (!value) {
    return;
  }
  MapReader reader(*value, key, diagnostics);
  habit = reader.boolean("value");
  demand_origin(reader);
  reader.finish();
}

void read_duration(MapReader& root, const char* key, Seconds& habit, Diagnostics& diagnostics) {
  if (const auto value = root.child(key)) {
    MapReader reader(*value, key, diagnostics);
    habit = reader.seconds("value");
    demand_origin(reader);
    reader.finish();
  }
}

void read_context(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.child("context")) {
    MapReader reader(*value, "context", diagnostics);
    profile.context = reader.bytes("value");
    demand_origin(reader);
    reader.finish();
  }
}

void read_unstated_recompute(MapReader& root, UnstatedRecompute& habit,
                             Diagnostics& diagnostics) {
  if (const auto value = root.child("unstated_recompute")) {
    MapReader reader(*value, "unstated_recompute", diagnostics);
    const std::size_t chosen = reader.choice("value", {"lightest", "full"});
    habit = chosen == 0 ? UnstatedRecompute::lightest : UnstatedRecompute::full;
    demand_origin(reader);
    reader.finish();
  }
}

// {value: allocated, unit: GiB, source: ...}: what the stack's logs mean by memory and GB.
void read_memory_reading(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.child("memory_reading")) {
    MapReader reader(*value, "memory_reading", diagnostics);
    // In the order of MemoryReading.
    const std::size_t kind = reader.choice("value", {"reserved", "allocated", "device"});
    profile.memory_reading = static_cast<MemoryReading>(kind);
    profile.memory_in_gib = reader.choice("unit", {"GB", "GiB"}, 0) == 1;
    demand_origin(reader);
    reader.finish();
  }
}

// {value: fa1, source: ...}: which of FlashAttention's kernels the stack runs.
void read_flash_kernel(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  if (const auto value = root.child("flash_kernel")) {
    MapReader reader(*value, "flash_kernel", diagnostics);
    const std::vector<std::string> kernels{"fa1", "fa2", "fa3", "fa4"};
    profile.flash_kernel = kernels[reader.choice("value", kernels)];
    demand_origin(reader);
    reader.finish();
  }
}

// A small number: {value: 2, source: ...}.
void read_count(MapReader& root, const char* key, std::int64_t& count, Diagnostics& diagnostics) {
  if (const auto value = root.child(key)) {
    MapReader reader(*value, key, diagnostics);
    count = reader.integer("value", {0, 16});
    demand_origin(reader);
    reader.finish();
  }
}

void read_workspaces(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.child("workspaces");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "workspaces", diagnostics);
    LibraryWorkspace workspace;
    workspace.name = reader.text("name");
    workspace.training = reader.integer("training", {0, 64}, 1);
    workspace.inference = reader.integer("inference", {0, 64}, 1);
    workspace.bytes = reader.bytes("bytes");
    workspace.since_hopper = reader.bytes("since_hopper", workspace.bytes);
    workspace.deterministic = reader.bytes("deterministic", Bytes());
    demand_origin(reader);
    reader.finish();
    profile.workspaces.push_back(workspace);
  }
}

using Known = std::map<std::string, std::shared_ptr<const SoftwareProfile>>;

void read_fitted_number(const YamlValue& item, SoftwareProfile& profile,
                        Diagnostics& diagnostics) {
  MapReader reader(item, "numbers", diagnostics);
  std::vector<std::string> names;
  for (const NumberKey& key : number_keys) {
    names.emplace_back(key.name);
  }
  const std::size_t which = reader.choice("number", names);
  const NumberKey& key = number_keys[which];
  SoftwareValue& number = profile.numbers[which];
  number.value = key.duration ? reader.seconds("value").value()
                              : reader.number("value", 0.0, key.high);
  number.spread = key.duration ? reader.seconds("spread").value()
                               : reader.number("spread", 0.0, 1.0);
  reader.ignore("prior");
  reader.finish();
  if (!number.fit) {
    diagnostics.error(item.place(), "not-fitted", "this number of the stack is not marked 'fit'",
                      "mark it in the stack's file, or leave it out here");
  }
}

Known read_all() {
  std::map<std::string, std::shared_ptr<SoftwareProfile>> found;
  Diagnostics diagnostics;
  for (const std::string& path : embedded_files(folder)) {
    const auto source = embedded_file(path);
    auto profile = source ? read_software(*source, diagnostics) : std::nullopt;
    check(profile.has_value(), "a software profile that comes with longhaul can be read");
    const std::string name = profile->name;
    found.emplace(name, std::make_shared<SoftwareProfile>(std::move(*profile)));
  }
  if (const auto source = embedded_file(fit_file)) {
    read_software_fit(*source, found, diagnostics);
    check(!diagnostics.has_errors(), "the fitted numbers that come with longhaul can be read");
  }
  check(found.count("ideal") == 1, "there is an ideal stack");
  return {found.begin(), found.end()};
}

// Embedded profiles never change while the program runs.
const Known& all_software() {
  static const Known known = read_all();
  return known;
}

}  // namespace

const char* name_of(SoftwareNumber number) { return number_keys[static_cast<int>(number)].name; }

std::optional<SoftwareProfile> read_software(const SourcePtr& source, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return std::nullopt;
  }
  SoftwareProfile profile;
  MapReader root(*document, "software profile", diagnostics);
  root.choice("format", {"longhaul-software/1"});
  profile.name = root.text("name");
  profile.frameworks = root.texts("frameworks");
  read_numbers(root, profile, diagnostics);
  read_operators(root, profile, diagnostics);
  read_habit(root, "overlap_gradient_reduction", profile.overlap_gradient_reduction, diagnostics);
  read_habit(root, "overlap_parameter_gather", profile.overlap_parameter_gather, diagnostics);
  read_habit(root, "overlap_tensor_collectives", profile.overlap_tensor_collectives, diagnostics);
  read_habit(root, "fp8_gathers", profile.fp8_gathers, diagnostics);
  read_habit(root, "keeps_fp8_weights", profile.keeps_fp8_weights, diagnostics);
  read_habit(root, "reshard_after_forward", profile.reshard_after_forward, diagnostics);
  read_count(root, "prefetch", profile.prefetch, diagnostics);
  read_count(root, "gather_copies", profile.gather_copies, diagnostics);
  read_count(root, "gradient_copies", profile.gradient_copies, diagnostics);
  read_habit(root, "fp32_gradient_sums", profile.fp32_gradient_sums, diagnostics);
  read_habit(root, "synchronous_offload", profile.synchronous_offload, diagnostics);
  read_habit(root, "late_gradient_offload", profile.late_gradient_offload, diagnostics);
  read_habit(root, "sums_unshared_gradients", profile.sums_unshared_gradients, diagnostics);
  read_habit(root, "times_optimizer", profile.times_optimizer, diagnostics);
  read_habit(root, "fp32_logits", profile.fp32_logits, diagnostics);
  read_habit(root, "fp32_ring_gradients", profile.fp32_ring_gradients, diagnostics);
  read_habit(root, "scatters_messages", profile.scatters_messages, diagnostics);
  read_habit(root, "fp8_mlp_only", profile.fp8_mlp_only, diagnostics);
  read_habit(root, "gathers_logits", profile.gathers_logits, diagnostics);
  read_flash_kernel(root, profile, diagnostics);
  read_habit(root, "exchange_copies", profile.exchange_copies, diagnostics);
  read_habit(root, "lone_exchange_copies", profile.lone_exchange_copies, diagnostics);
  read_habit(root, "gpt_dropout", profile.gpt_dropout, diagnostics);
  read_habit(root, "gated_dropout", profile.gated_dropout, diagnostics);
  read_habit(root, "eager_loss", profile.eager_loss, diagnostics);
  read_habit(root, "gradients_on_demand", profile.gradients_on_demand, diagnostics);
  read_unstated_recompute(root, profile.unstated_recompute, diagnostics);
  read_habit(root, "softmax_copy", profile.softmax_copy, diagnostics);
  read_habit(root, "keeps_silu", profile.keeps_silu, diagnostics);
  read_habit(root, "mlp_gradient_in_place", profile.mlp_gradient_in_place, diagnostics);
  read_count(root, "norm_copies", profile.norm_copies, diagnostics);
  read_habit(root, "joins_weights", profile.joins_weights, diagnostics);
  read_habit(root, "compute_gradients", profile.compute_gradients, diagnostics);
  read_habit(root, "leaf_gradients", profile.leaf_gradients, diagnostics);
  read_habit(root, "gradient_buckets", profile.gradient_buckets, diagnostics);
  read_habit(root, "stages_by_cost", profile.stages_by_cost, diagnostics);
  read_habit(root, "record_streams", profile.record_streams, diagnostics);
  read_habit(root, "gather_buffer", profile.gather_buffer, diagnostics);
  read_memory_reading(root, profile, diagnostics);
  read_duration(root, "grouped_product", profile.grouped_product, diagnostics);
  read_context(root, profile, diagnostics);
  read_workspaces(root, profile, diagnostics);
  root.finish();
  profile.source_name = source->name;
  profile.hash = sha256_hex(source->text);
  if (diagnostics.has_errors()) {
    return std::nullopt;
  }
  return profile;
}

void read_software_fit(const SourcePtr& source,
                       std::map<std::string, std::shared_ptr<SoftwareProfile>>& profiles,
                       Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return;
  }
  MapReader root(*document, "software fit", diagnostics);
  root.choice("format", {"longhaul-software-fit/1"});
  root.text("from");
  const auto list = root.child("stacks");
  root.finish();
  for (const YamlValue& item : list ? list->items() : std::vector<YamlValue>{}) {
    MapReader reader(item, "stacks", diagnostics);
    const std::string name = reader.text("stack");
    const auto numbers = reader.child("numbers");
    const std::vector<std::string> runs = reader.texts("runs");
    reader.ignore("correlations");
    reader.finish();
    const auto found = profiles.find(name);
    if (found == profiles.end()) {
      diagnostics.error(item.place(), "unknown-name", "there is no stack called '" + name + "'");
      continue;
    }
    SoftwareProfile& profile = *found->second;
    profile.fit_name = source->name;
    profile.fit_hash = sha256_hex(source->text);
    profile.fitted_runs.insert(runs.begin(), runs.end());
    for (const YamlValue& number : numbers ? numbers->items() : std::vector<YamlValue>{}) {
      read_fitted_number(number, profile, diagnostics);
    }
  }
}

const std::vector<std::string>& software_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> sorted;
    for (const auto& [name, profile] : all_software()) {
      sorted.push_back(name);
    }
    return sorted;
  }();
  return names;
}

std::shared_ptr<const SoftwareProfile> find_software(const std::string& name) {
  const auto found = all_software().find(name);
  return found == all_software().end() ? nullptr : found->second;
}

std::shared_ptr<const SoftwareProfile> software_of_framework(const std::string& framework) {
  std::shared_ptr<const SoftwareProfile> best = find_software("ideal");
  std::size_t longest = 0;
  for (const auto& [name, profile] : all_software()) {
    for (const std::string& word : profile->frameworks) {
      if (word.size() > longest && framework.find(word) != std::string::npos) {
        best = profile;
        longest = word.size();
      }
    }
  }
  return best;
}

}  // namespace longhaul
