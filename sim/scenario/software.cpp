// Software profiles from YAML.
#include "sim/scenario/software.h"

#include <algorithm>
#include <cctype>
#include <functional>
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

void read_attention_calls(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.child("attention_calls");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "attention_calls", diagnostics);
    const std::vector<std::string> kernels{"fa1", "fa2", "fa3", "fa4", "cudnn"};
    AttentionCallHabit habit;
    habit.kernel = kernels[reader.choice("kernel", kernels)];
    habit.forward = reader.seconds("forward");
    habit.backward = reader.seconds("backward");
    demand_origin(reader);
    reader.finish();
    profile.attention_calls.push_back(habit);
  }
}

// A section {..., source: ...}, if it is there: `take` takes what it says.
void read_section(MapReader& root, const char* key, Diagnostics& diagnostics,
                  const std::function<void(MapReader&)>& take) {
  if (const auto value = root.child(key)) {
    MapReader reader(*value, key, diagnostics);
    take(reader);
    demand_origin(reader);
    reader.finish();
  }
}

// Habits that a stack has or has not: {value: true, source: ...}.
struct HabitKey {
  const char* name;
  bool SoftwareProfile::*habit;
};
constexpr HabitKey habit_keys[] = {
    {"overlap_gradient_reduction", &SoftwareProfile::overlap_gradient_reduction},
    {"overlap_parameter_gather", &SoftwareProfile::overlap_parameter_gather},
    {"zero_owners", &SoftwareProfile::zero_owners},
    {"overlap_tensor_collectives", &SoftwareProfile::overlap_tensor_collectives},
    {"waits_for_tensor_ranks", &SoftwareProfile::waits_for_tensor_ranks},
    {"keeps_gathered_tokens", &SoftwareProfile::keeps_gathered_tokens},
    {"fp8_gathers", &SoftwareProfile::fp8_gathers},
    {"keeps_fp8_weights", &SoftwareProfile::keeps_fp8_weights},
    {"keeps_fp8_inputs", &SoftwareProfile::keeps_fp8_inputs},
    {"reshard_after_forward", &SoftwareProfile::reshard_after_forward},
    {"piecewise_shards", &SoftwareProfile::piecewise_shards},
    {"fp32_gradient_sums", &SoftwareProfile::fp32_gradient_sums},
    {"synchronous_offload", &SoftwareProfile::synchronous_offload},
    {"late_gradient_offload", &SoftwareProfile::late_gradient_offload},
    {"blocking_gradient_offload", &SoftwareProfile::blocking_gradient_offload},
    {"serial_host_optimizer", &SoftwareProfile::serial_host_optimizer},
    {"pageable_offload", &SoftwareProfile::pageable_offload},
    {"sums_unshared_gradients", &SoftwareProfile::sums_unshared_gradients},
    {"times_optimizer", &SoftwareProfile::times_optimizer},
    {"fp32_logits", &SoftwareProfile::fp32_logits},
    {"fp32_ring_gradients", &SoftwareProfile::fp32_ring_gradients},
    {"reads_loss", &SoftwareProfile::reads_loss},
    {"waits_for_messages", &SoftwareProfile::waits_for_messages},
    {"synchronous_hops", &SoftwareProfile::synchronous_hops},
    {"waits_for_batches", &SoftwareProfile::waits_for_batches},
    {"scatters_messages", &SoftwareProfile::scatters_messages},
    {"fp8_mlp_only", &SoftwareProfile::fp8_mlp_only},
    {"pads_vocabulary", &SoftwareProfile::pads_vocabulary},
    {"keeps_gaps", &SoftwareProfile::keeps_gaps},
    {"unset_weights", &SoftwareProfile::unset_weights},
    {"gathers_logits", &SoftwareProfile::gathers_logits},
    {"exchange_copies", &SoftwareProfile::exchange_copies},
    {"late_messages", &SoftwareProfile::late_messages},
    {"lone_exchange_copies", &SoftwareProfile::lone_exchange_copies},
    {"packed_copies", &SoftwareProfile::packed_copies},
    {"separate_query_sums", &SoftwareProfile::separate_query_sums},
    {"sliced_merges", &SoftwareProfile::sliced_merges},
    {"gpt_dropout", &SoftwareProfile::gpt_dropout},
    {"gated_dropout", &SoftwareProfile::gated_dropout},
    {"eager_loss", &SoftwareProfile::eager_loss},
    {"gradients_on_demand", &SoftwareProfile::gradients_on_demand},
    {"compiled_loss", &SoftwareProfile::compiled_loss},
    {"softmax_copy", &SoftwareProfile::softmax_copy},
    {"keeps_silu", &SoftwareProfile::keeps_silu},
    {"mlp_gradient_in_place", &SoftwareProfile::mlp_gradient_in_place},
    {"fp32_head_pieces", &SoftwareProfile::fp32_head_pieces},
    {"joins_weights", &SoftwareProfile::joins_weights},
    {"compute_gradients", &SoftwareProfile::compute_gradients},
    {"fp16_gradients", &SoftwareProfile::fp16_gradients},
    {"leaf_gradients", &SoftwareProfile::leaf_gradients},
    {"gradient_buckets", &SoftwareProfile::gradient_buckets},
    {"dummy_gradients", &SoftwareProfile::dummy_gradients},
    {"stages_by_cost", &SoftwareProfile::stages_by_cost},
    {"record_streams", &SoftwareProfile::record_streams},
    {"gather_buffer", &SoftwareProfile::gather_buffer},
};

// Small numbers: {value: 2, source: ...}.
struct CountKey {
  const char* name;
  std::int64_t SoftwareProfile::*count;
};
constexpr CountKey count_keys[] = {
    {"prefetch", &SoftwareProfile::prefetch},
    {"loader_workers", &SoftwareProfile::loader_workers},
    {"gather_copies", &SoftwareProfile::gather_copies},
    {"gradient_copies", &SoftwareProfile::gradient_copies},
    {"norm_copies", &SoftwareProfile::norm_copies},
};

// Elements of a stack's buffers: {value: 500000000, source: ...}.
constexpr CountKey element_keys[] = {
    {"live_parameters", &SoftwareProfile::live_parameters},
    {"prefetch_bucket", &SoftwareProfile::prefetch_bucket},
    {"reduction_bucket", &SoftwareProfile::reduction_bucket},
};

void read_habits(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  for (const auto& [name, habit] : habit_keys) {
    read_section(root, name, diagnostics,
                 [&, member = habit](MapReader& of) { profile.*member = of.boolean("value"); });
  }
  for (const auto& [name, count] : count_keys) {
    read_section(root, name, diagnostics, [&, member = count](MapReader& of) {
      profile.*member = of.integer("value", {0, 16});
    });
  }
  for (const auto& [name, count] : element_keys) {
    read_section(root, name, diagnostics, [&, member = count](MapReader& of) {
      profile.*member = of.integer("value", {0, 1'000'000'000'000});
    });
  }
}

void read_choices(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  read_section(root, "unstated_recompute", diagnostics, [&](MapReader& of) {
    const bool lightest = of.choice("value", {"lightest", "full"}) == 0;
    profile.unstated_recompute = lightest ? UnstatedRecompute::lightest : UnstatedRecompute::full;
  });
  // What the stack's logs mean by memory and GB, in the order of MemoryReading.
  read_section(root, "memory_reading", diagnostics, [&](MapReader& of) {
    profile.memory_reading =
        static_cast<MemoryReading>(of.choice("value", {"reserved", "allocated", "device"}));
    profile.memory_in_gib = of.choice("unit", {"GB", "GiB"}, 0) == 1;
  });
  // Which of FlashAttention's kernels the stack runs.
  read_section(root, "flash_kernel", diagnostics, [&](MapReader& of) {
    const std::vector<std::string> kernels{"fa1", "fa2", "fa3", "fa4"};
    profile.flash_kernel = kernels[of.choice("value", kernels)];
  });
  read_section(root, "grouped_product", diagnostics,
               [&](MapReader& of) { profile.grouped_product = of.seconds("value"); });
  read_section(root, "network_share", diagnostics,
               [&](MapReader& of) { profile.network_share = of.number("value", 0.01, 1.0); });
  read_section(root, "empties_cache", diagnostics,
               [&](MapReader& of) { profile.segment = of.seconds("segment"); });
  read_section(root, "context", diagnostics,
               [&](MapReader& of) { profile.context = of.bytes("value"); });
}

void read_host_threads(MapReader& root, SoftwareProfile& profile, Diagnostics& diagnostics) {
  read_section(root, "host_threads", diagnostics, [&](MapReader& of) {
    profile.states_host_threads = true;
    profile.host_threads = of.integer("value", {0, 1024});
    profile.host_threads_alone = of.integer("alone", {0, 1024}, profile.host_threads);
  });
  const auto list = root.child("trainers");
  for (const YamlValue& item : list ? list->items() : std::vector<YamlValue>{}) {
    MapReader reader(item, "trainers", diagnostics);
    TrainerHabit habit;
    habit.framework = reader.text("framework");
    habit.host_threads = reader.integer("host_threads", {0, 1024});
    habit.pageable_offload = reader.boolean("pageable_offload");
    demand_origin(reader);
    reader.finish();
    profile.trainers.push_back(habit);
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

// "Megatron-LM (2021)" and "megatron_lm 2021" are one name: small letters and digits, joined by '-'.
std::string plain_name(const std::string& text) {
  std::string plain;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) {
      plain += static_cast<char>(std::tolower(byte));
    } else if (!plain.empty() && plain.back() != '-') {
      plain += '-';
    }
  }
  if (!plain.empty() && plain.back() == '-') {
    plain.pop_back();
  }
  return plain;
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
  read_attention_calls(root, profile, diagnostics);
  const std::vector<std::string> runs = root.texts("fitted_on");
  profile.fitted_runs.insert(runs.begin(), runs.end());
  read_habits(root, profile, diagnostics);
  read_choices(root, profile, diagnostics);
  read_host_threads(root, profile, diagnostics);
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
  const std::string said = plain_name(framework);
  std::shared_ptr<const SoftwareProfile> best;
  std::size_t longest = 0;
  for (const auto& [name, profile] : all_software()) {
    for (const std::string& word : profile->frameworks) {
      const std::string plain = plain_name(word);
      if (plain.size() > longest && said.find(plain) != std::string::npos) {
        best = profile;
        longest = plain.size();
      }
    }
  }
  return best;
}

}  // namespace longhaul
