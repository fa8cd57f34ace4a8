#include "sim/cli/scenario_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "sim/cli/command.h"
#include "sim/model/read_model.h"

namespace longhaul {

namespace {

struct Flag {
  const char* name;
  const char* path;
  bool is_name;  ///< of a file or preset: quoted, since it may look like anything
  const char* help;
};

// The order is the order of reading: the method comes before its degrees.
constexpr std::array flags{
    Flag{"--model", "model", true, "model preset or file"},
    Flag{"--cluster", "cluster", true, "cluster preset or file"},
    Flag{"--gpus", "gpus", false, "GPUs used"},
    Flag{"--seq", "workload.sequence_length", false, "tokens of a sequence: 131072, 128k, 1M"},
    Flag{"--phase", "workload.phase", false, "train, forward, prefill or attention"},
    Flag{"--pass", "workload.pass", false,
         "of phase attention: forward, backward or "
         "forward_backward"},
    Flag{"--micro-batch", "workload.micro_batch", false, "sequences per replica at once"},
    Flag{"--global-batch", "workload.global_batch", false, "sequences per optimizer step"},
    Flag{"--mask", "workload.mask", false, "causal, full or window=TOKENS"},
    Flag{"--method", "plan.context.method", false,
         "none, ring, ulysses, usp, all_gather or double_ring"},
    Flag{"--ring", "plan.context.ring", false, "ring degree"},
    Flag{"--ulysses", "plan.context.ulysses", false, "all-to-all degree"},
    Flag{"--order", "plan.context.order", false, "contiguous, zigzag or striped"},
    Flag{"--inner", "plan.context.inner", false, "on neighbouring GPUs: ulysses or ring"},
    Flag{"--inner-ring", "plan.context.inner_ring", false, "ranks of a double ring's inner ring"},
    Flag{"--ring-variant", "plan.context.variant", false,
         "pass_kv, q_side_backward, helpers, pass_q or materialised; of ulysses: chunked_offload"},
    Flag{"--chunks", "plan.context.chunks", false, "chunks of chunked_offload"},
    Flag{"--packed-qkv", "plan.context.packed_qkv", false,
         "true: one all-to-all for q, k and v"},
    Flag{"--tensor,--tp", "plan.tensor", false, "tensor parallel degree"},
    Flag{"--pipeline,--pp", "plan.pipeline", false, "pipeline stages"},
    Flag{"--data,--dp", "plan.data", false, "replicas, or auto"},
    Flag{"--virtual-pipeline,--vpp", "plan.virtual_pipeline", false,
         "parts of the model on each stage (interleaved)"},
    Flag{"--schedule", "plan.schedule", false,
         "of a pipeline: 1f1b, interleaved, zb_h1, zb_h2, zb_1p or zb_2p"},
    Flag{"--rank-order", "plan.rank_order", false,
         "axes placed on neighbouring GPUs, nearest first: tp-cp-dp-pp"},
    Flag{"--zero", "plan.zero", false, "ZeRO stage, 0 to 3"},
    Flag{"--zero-group", "plan.zero_group", false, "ranks that share ZeRO's states, or all"},
    Flag{"--expert,--ep", "plan.expert", false, "ranks that experts are dealt to"},
    Flag{"--expert-tensor,--etp", "plan.expert_tensor", false,
         "ranks that share each expert's width (default: tensor)"},
    Flag{"--expert-dispatch", "plan.expert_dispatch", false,
         "how tokens reach experts: alltoall, allgather, deepep"},
    Flag{"--expert-dispatch-dtype", "plan.expert_dispatch_dtype", false,
         "in which type (deepep): bf16, fp8"},
    Flag{"--shared-expert-overlap", "plan.shared_expert_overlap", false,
         "true: shared experts run beside the exchanges of the routed ones"},
    Flag{"--expert-imbalance", "workload.expert_imbalance", false,
         "tokens of the most loaded expert over the mean; 1 is balanced"},
    Flag{"--expert-capacity", "workload.expert_capacity", false,
         "tokens an expert takes over the mean, dropping and padding; 0 is dropless"},
    Flag{"--sample-time", "workload.sample_time", false,
         "to read a sequence from storage: 20 ms (training)"},
    Flag{"--loader-workers", "plan.loader_workers", false, "processes per rank that read ahead"},
    Flag{"--recompute", "plan.recompute", false, "none, selective or full"},
    Flag{"--recompute-detail", "plan.recompute_detail", false,
         "attention_core, keep_attention_output(_part), keep_linear_outputs or op_sac"},
    Flag{"--recompute-layers", "plan.recompute_layers", false, "layers that recompute"},
    Flag{"--compute-type", "precision.compute", false, "bf16, fp16 or fp8"},
    Flag{"--software", "software", false, "stack profile (see list software): ideal, megatron, fsdp, ..."},
    Flag{"--attention-kernel", "attention_kernel", false, "auto, fa1, fa2, fa3, fa4, cudnn or unfused"},
};
constexpr const char* sequence_flag = "--seq";
constexpr const char* sequence_parallel_path = "plan.sequence_parallel";

// The first spelling of "--tensor,--tp".
std::string spelling(const Flag& flag) {
  const std::string names = flag.name;
  return names.substr(0, names.find(','));
}

// "a.b" and "v" as the YAML "a:\n  b: v\n".
std::string nested(const std::string& path, const std::string& value) {
  std::string out;
  std::string indent;
  std::size_t begin = 0;
  while (true) {
    const std::size_t dot = path.find('.', begin);
    out += indent + path.substr(begin, dot == path.npos ? dot : dot - begin) + ":";
    if (dot == path.npos) {
      return out + " " + value + "\n";
    }
    out += "\n";
    indent += "  ";
    begin = dot + 1;
  }
}

bool is_path(const std::string& path) {
  const bool clean = std::all_of(path.begin(), path.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
  return clean && !path.empty() && path.front() != '.' && path.back() != '.' &&
         path.find("..") == path.npos;
}

// "window=4096" as the format writes it.
std::string mask_value(const std::string& value) {
  const std::string key = "window=";
  return value.starts_with(key) ? "{window: " + value.substr(key.size()) + "}" : value;
}

// Diagnostics of a flag show the flag, not the YAML that it was turned into.
Place without_line(Place place, const SourcePtr& source) {
  return place.source == source ? Place{source, 0, 0, 1} : place;
}

void append_without_lines(const Diagnostics& from, const SourcePtr& source, Diagnostics& to) {
  for (const Diagnostic& diagnostic : from.all()) {
    const Place place = without_line(diagnostic.place, source);
    if (diagnostic.severity == Severity::error) {
      to.error(place, diagnostic.code, diagnostic.message, diagnostic.help);
    } else {
      to.warning(place, diagnostic.code, diagnostic.message, diagnostic.help);
    }
  }
}

void read_assignment(ScenarioDraft& draft, const std::string& text, Diagnostics& diagnostics) {
  const std::string shown = "--set " + text;
  const auto source = std::make_shared<const SourceText>(SourceText{shown, ""});
  const std::size_t equals = text.find('=');
  if (equals == text.npos || !is_path(text.substr(0, equals))) {
    diagnostics.error({source, 0, 0, 1}, "usage", "--set wants PATH=VALUE",
                      "for example --set plan.zero=3");
    return;
  }
  const std::string path = text.substr(0, equals);
  if (path.starts_with("model.") || path.starts_with("cluster.")) {
    diagnostics.error({source, 0, 0, 1}, "usage", "--set cannot reach into a model or a cluster",
                      "copy its file (longhaul show NAME), change it, and give the file's path");
    return;
  }
  const std::string value = text.substr(equals + 1);
  read_setting(draft, path, path == "workload.mask" ? mask_value(value) : value,
               path == "model" || path == "cluster", shown, diagnostics);
}

}  // namespace

void ScenarioFlags::declare(CLI::App& app) {
  values_.resize(flags.size());
  for (std::size_t i = 0; i < flags.size(); ++i) {
    values_[i].option =
        app.add_option(flags[i].name, values_[i].value, flags[i].help)->type_name("VALUE");
  }
  sequence_parallel_ = app.add_flag_function(
      "--sequence-parallel,--sp", [](std::int64_t) {}, "Megatron sequence parallelism");
  app.add_option("--set", settings_, "PATH=VALUE: any key of the scenario format")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
}

std::vector<std::string> ScenarioFlags::lengths() const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i].name != std::string(sequence_flag) || !values_[i].is()) {
      continue;
    }
    std::string rest = values_[i].value + ",";
    for (std::size_t comma = rest.find(','); comma != rest.npos; comma = rest.find(',')) {
      out.push_back(rest.substr(0, comma));
      rest.erase(0, comma + 1);
    }
  }
  return out;
}

void ScenarioFlags::apply(ScenarioDraft& draft, Diagnostics& diagnostics) const {
  for (std::size_t i = 0; i < flags.size(); ++i) {
    const std::string name = spelling(flags[i]);
    if (values_[i].is() && name != sequence_flag) {
      const std::string& value = values_[i].value;
      read_setting(draft, flags[i].path, name == "--mask" ? mask_value(value) : value,
                   flags[i].is_name, name + " " + value, diagnostics);
    }
  }
  if (sequence_parallel_ != nullptr && sequence_parallel_->count() > 0) {
    read_setting(draft, sequence_parallel_path, "true", false, "--sequence-parallel", diagnostics);
  }
  for (const std::string& text : settings_) {
    read_assignment(draft, text, diagnostics);
  }
}

std::vector<std::string> ScenarioFlags::given(const std::vector<std::string>& without) const {
  const auto left_out = [&](const std::string& path) {
    return std::any_of(without.begin(), without.end(),
                       [&](const std::string& start) { return path.starts_with(start); });
  };
  std::vector<std::string> out;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (values_[i].is() && !left_out(flags[i].path)) {
      out.push_back(spelling(flags[i]));
      out.push_back(values_[i].value);
    }
  }
  if (sequence_parallel_ != nullptr && sequence_parallel_->count() > 0 &&
      !left_out(sequence_parallel_path)) {
    out.emplace_back("--sequence-parallel");
  }
  for (const std::string& text : settings_) {
    if (!left_out(text)) {
      out.emplace_back("--set");
      out.push_back(text);
    }
  }
  return out;
}

void read_setting(ScenarioDraft& draft, const std::string& path, const std::string& value,
                  bool quoted, const std::string& shown, Diagnostics& diagnostics) {
  // A plain value stands in YAML as it is; what would not stay one value there is refused.
  if (!quoted && value.find_first_of("#\n\r") != value.npos) {
    const auto source = std::make_shared<const SourceText>(SourceText{shown, ""});
    diagnostics.error({source, 0, 0, 1}, "usage", "a value holds no '#' and no line break");
    return;
  }
  const std::string yaml = nested(path, quoted ? json_quote(value) : value);
  const auto source = std::make_shared<const SourceText>(SourceText{shown, yaml});
  Diagnostics own;
  if (const auto map = YamlValue::parse(source, own)) {
    read_scenario_onto(draft, *map, own);
  }
  for (auto& entry : draft.places) {
    entry.second = without_line(entry.second, source);
  }
  append_without_lines(own, source, diagnostics);
}

ScenarioDraft read_scenario_file(const std::string& path, Diagnostics& diagnostics) {
  const bool standard_input = path == "-";
  auto source = read_source(standard_input ? "/dev/stdin" : path, diagnostics);
  if (source && standard_input) {
    source = std::make_shared<const SourceText>(SourceText{"<stdin>", (*source)->text});
  }
  const auto map = source ? YamlValue::parse(*source, diagnostics) : std::nullopt;
  if (!map) {
    // What cannot be read lacks everything; saying so key by key would hide why.
    diagnostics.throw_if_errors();
    return empty_draft();
  }
  return read_scenario(*map, diagnostics);
}

ScenarioDraft draft_of(const std::string& model, const std::string& cluster,
                       Diagnostics& diagnostics) {
  ScenarioDraft draft = empty_draft();
  const auto source = std::make_shared<const SourceText>(SourceText{"<command line>", ""});
  draft.places.emplace_back("", Place{source, 0, 0, 1});
  read_setting(draft, "model", model, true, "MODEL " + model, diagnostics);
  read_setting(draft, "cluster", cluster, true, "CLUSTER " + cluster, diagnostics);
  return draft;
}

bool names_model(const std::string& word) {
  const std::vector<std::string> presets = model_presets();
  std::error_code ignored;
  if (std::find(presets.begin(), presets.end(), word) != presets.end() || word.ends_with(".json") ||
      std::filesystem::is_directory(word, ignored)) {
    return true;
  }
  Diagnostics unheard;  // who reads the file for good will say what is wrong with it
  const bool file = std::filesystem::is_regular_file(word, ignored);
  const auto source = file ? read_source(word, unheard) : std::nullopt;
  const auto map = source ? YamlValue::parse(*source, unheard) : std::nullopt;
  return map && map->is_map() && map->find("layers").has_value();
}

}  // namespace longhaul
