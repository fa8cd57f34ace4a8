#include "sim/validation/read_runs.h"

#include <algorithm>

#include "sim/model/read_model.h"
#include "sim/topology/hardware_map.h"
#include "sim/units/parse.h"

namespace longhaul {

const char* name_of(MeasuredQuantity quantity) {
  static constexpr const char* names[] = {"time", "allocated", "reserved", "memory",
                                          "memory", "out_of_memory"};
  return names[static_cast<int>(quantity)];
}

namespace {

// A lenient look into a map of a run: absent keys give the fallback. Runs come from many hands and
// carry keys that only people read; what is misspelt in a scored key is still an error.
class Look {
 public:
  Look(std::optional<YamlValue> map, Diagnostics& diagnostics)
      : map_(std::move(map)), diagnostics_(diagnostics) {}

  [[nodiscard]] std::optional<YamlValue> find(const std::string& key) const {
    return map_ && map_->is_map() ? map_->find(key) : std::nullopt;
  }
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback = "") const {
    const auto value = find(key);
    return value && value->is_scalar() ? value->scalar() : fallback;
  }
  [[nodiscard]] bool flag(const std::string& key) const { return text(key) == "true"; }
  std::int64_t tokens(const std::string& key, std::int64_t fallback) const {
    const auto value = find(key);
    if (!value || !value->is_scalar()) {
      return fallback;
    }
    return checked(*value, parse_tokens(value->scalar()), fallback);
  }
  std::int64_t integer(const std::string& key, std::int64_t fallback) const {
    const auto value = find(key);
    if (!value || !value->is_scalar()) {
      return fallback;
    }
    return checked(*value, parse_integer(value->scalar()), fallback);
  }
  template <class T>
  T checked(const YamlValue& value, const Parsed<T>& parsed, T fallback) const {
    if (!parsed.ok()) {
      diagnostics_.error(value.place(), "bad-value", parsed.error, parsed.help);
      return fallback;
    }
    return parsed.value;
  }

 private:
  std::optional<YamlValue> map_;
  Diagnostics& diagnostics_;
};

template <class T>
std::optional<T> word(const std::string& text,
                      std::initializer_list<std::pair<const char*, T>> words) {
  for (const auto& [name, value] : words) {
    if (text == name) {
      return value;
    }
  }
  return std::nullopt;
}

void read_workload(const Look& look, MeasuredRun& run) {
  Workload& workload = run.draft->workload;
  const auto phase = word<Phase>(look.text("phase", "train"), {{"train", Phase::train},
                                                               {"forward", Phase::forward},
                                                               {"prefill", Phase::prefill},
                                                               {"attention", Phase::attention}});
  if (!phase) {
    run.skip_reason = "phase '" + look.text("phase") + "' is not predicted yet";
    return;
  }
  workload.phase = *phase;
  workload.pass = word<Pass>(look.text("pass", "forward_backward"),
                             {{"forward", Pass::forward},
                              {"backward", Pass::backward},
                              {"forward_backward", Pass::forward_backward}})
                      .value_or(Pass::forward_backward);
  workload.sequence_length = look.tokens("sequence_length", 0);
  workload.micro_batch = look.integer("micro_batch", 1);
  workload.global_batch = look.integer("global_batch", 1);
  if (look.integer("cached_tokens", 0) > 0) {
    run.skip_reason = "prefill on top of cached tokens is not predicted yet";
  }
  const std::string mask = look.text("mask", "causal");
  workload.mask.kind = mask == "full" ? MaskKind::full : MaskKind::causal;
  if (look.text("dtype") == "fp8") {
    run.draft->precision.compute = DataType::fp8;
  } else if (look.text("dtype") == "fp32") {
    run.skip_reason = "fp32 compute is not calibrated";
  }
}

void read_context(const Look& look, MeasuredRun& run) {
  ContextPlan& context = run.draft->plan.context;
  const auto method =
      word<ContextMethod>(look.text("method", "none"), {{"none", ContextMethod::none},
                                                        {"ring", ContextMethod::ring},
                                                        {"ulysses", ContextMethod::ulysses},
                                                        {"usp", ContextMethod::usp},
                                                        {"all_gather", ContextMethod::all_gather},
                                                        {"double_ring",
                                                         ContextMethod::double_ring}});
  if (!method) {
    run.skip_reason = "context method '" + look.text("method") + "' has no schedule yet";
    return;
  }
  context.method = *method;
  context.ring = look.integer("ring", 1);
  context.ulysses = look.integer("ulysses", 1);
  if (context.method == ContextMethod::all_gather && context.ring == 1) {
    context.ring = look.integer("degree", 1);
  }
  context.order = word<SequenceOrder>(look.text("order", "contiguous"),
                                      {{"contiguous", SequenceOrder::contiguous},
                                       {"zigzag", SequenceOrder::zigzag},
                                       {"striped", SequenceOrder::striped}})
                      .value_or(SequenceOrder::contiguous);
  context.inner = look.text("inner") == "ring" ? InnerPlacement::ring : InnerPlacement::ulysses;
  context.inner_ring = look.integer("inner_ring", 1);
  const std::string variant = look.text("variant");
  if (variant == "q_side_backward") {
    context.variant = RingVariant::q_side_backward;
  } else if (variant == "materialised" || variant == "chunked_offload" || variant == "pass_q" ||
      variant == "helpers") {
    run.skip_reason = "context variant '" + variant + "' has no schedule yet";
  }
}

void read_plan(const Look& look, Diagnostics& diagnostics, MeasuredRun& run) {
  Plan& plan = run.draft->plan;
  plan.tensor = look.integer("tensor", 1);
  plan.sequence_parallel = look.flag("sequence_parallel");
  plan.pipeline = look.integer("pipeline", 1);
  plan.virtual_pipeline = look.integer("virtual_pipeline", 1);
  plan.data = look.integer("data", 1);
  run.draft->data = plan.data;
  plan.zero = static_cast<int>(look.integer("zero", 0));
  plan.zero_group = look.integer("zero_group", 0);
  plan.recompute =
      word<Recompute>(look.text("recompute", "none"), {{"none", Recompute::none},
                                                       {"selective", Recompute::selective},
                                                       {"full", Recompute::full}})
          .value_or(Recompute::none);
  if (plan.pipeline > 1) {
    run.skip_reason = "pipeline parallelism has no schedule yet";
  } else if (look.text("recompute") == "unknown") {
    run.skip_reason = "recompute is not known";
  } else if (look.text("recompute_detail") == "every_second_layer" ||
             look.text("recompute_detail") == "unknown_fraction") {
    run.skip_reason = "recompute of some layers only has no schedule yet";
  }
  const auto offload = look.find("offload");
  if (offload && offload->is_sequence() && !offload->items().empty()) {
    run.skip_reason = "offload has no schedule yet";
  }
  read_context(Look(look.find("context"), diagnostics), run);
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

void read_software(const Look& look, MeasuredRun& run) {
  const std::string attention = look.text("attention");
  if (contains(attention, "unfused")) {
    run.draft->attention_kernel = "unfused";
  } else if (contains(attention, "FA3")) {
    run.draft->attention_kernel = "fa3";
  } else if (contains(attention, "SDPA")) {
    // PyTorch's scaled_dot_product_attention takes its copy of FlashAttention-2 first.
    run.draft->attention_kernel = "fa2";
  } else if (contains(attention, "cuDNN") || contains(attention, "TE ")) {
    run.draft->attention_kernel = "cudnn";
  } else if (contains(attention, "FA2") || contains(attention, "Flash") ||
             contains(attention, "flash")) {
    run.draft->attention_kernel = "fa2";
  }
  run.draft->deterministic = contains(attention, "deterministic");
  const std::string framework = look.text("framework");
  run.draft->software = software_of_framework(framework)->name;
  const std::string compiled = run.draft->software + "_compiled";
  if (look.flag("compile") && find_software(compiled)) {
    run.draft->software = compiled;
  }
  const std::string mode = look.text("precision_mode");
  if (mode == "pure_bf16" || mode == "bf16_gradients") {
    run.draft->precision.gradients = DataType::bf16;
  }
}

// FLOPs of one iteration by the convention the source used, for turning a rate into a time.
std::optional<double> flops_by_convention(const MeasuredRun& run, const std::string& convention) {
  const ScenarioDraft& draft = *run.draft;
  const auto attention =
      word<AttentionFlops>(convention.substr(0, convention.find("_with")),
                           {{"full", AttentionFlops::full}, {"causal", AttentionFlops::causal}});
  if (!attention || draft.workload.phase != Phase::train) {
    return std::nullopt;
  }
  const double step = training_flops(*draft.model, draft.workload.global_batch,
                                     draft.workload.sequence_length, *attention)
                          .value();
  return contains(convention, "with_recompute") ? step * 4.0 / 3.0 : step;
}

double peak_flops(const ScenarioDraft& draft) {
  const Device& device = draft.cluster->device();
  return draft.precision.compute == DataType::fp8 ? device.peak_fp8.value()
                                                  : device.peak_bf16.value();
}

double gpus_of(const ScenarioDraft& draft) { return static_cast<double>(draft.gpus.value_or(1)); }

// Iteration time from a rate; nothing if the rate's convention is not known.
std::optional<double> time_from_rate(const MeasuredRun& run, const std::string& key, double rate,
                                     const std::string& convention) {
  const ScenarioDraft& draft = *run.draft;
  const double tokens = static_cast<double>(draft.workload.global_batch) *
                        static_cast<double>(draft.workload.sequence_length);
  if (key == "iterations_per_second") {
    return 1.0 / rate;
  }
  if (key == "tokens_per_second") {
    return tokens / rate;
  }
  if (key == "tokens_per_second_per_gpu") {
    return tokens / rate / gpus_of(draft);
  }
  const auto flops = flops_by_convention(run, convention);
  if (!flops) {
    return std::nullopt;
  }
  if (key == "mfu") {
    return *flops / (rate * peak_flops(draft)) / gpus_of(draft);
  }
  return *flops / rate / gpus_of(draft);  // tflops_per_gpu, in FLOP/s
}

// The measured keys that state a time, most direct first; only the first one present is scored.
constexpr const char* time_keys[] = {"step_time",
                                     "time_to_first_token",
                                     "forward_backward_time",
                                     "forward_time",
                                     "backward_time",
                                     "iterations_per_second",
                                     "tokens_per_second_per_gpu",
                                     "tokens_per_second",
                                     "tflops_per_gpu",
                                     "mfu"};

std::optional<double> read_time(const Look& look, const std::string& key, const MeasuredRun& run) {
  const auto value = look.find(key);
  if (!value) {
    return std::nullopt;
  }
  const bool duration = key.size() > 5 && key.ends_with("_time");
  if (duration || key == "time_to_first_token") {
    return look.checked(*value, parse_seconds(value->scalar()), Seconds()).value();
  }
  const double rate =
      key == "tflops_per_gpu"
          ? look.checked(*value, parse_flops_per_second(value->scalar()), FlopsPerSecond()).value()
          : look.checked(*value, parse_number(value->scalar()), 0.0);
  if (!(rate > 0.0)) {
    return std::nullopt;
  }
  return time_from_rate(run, key, rate, look.text("flop_convention", "unknown"));
}

// forward_time of a run that did both passes is not its iteration time.
bool describes_iteration(const std::string& key, const Look& look, const MeasuredRun& run) {
  const Pass pass = run.draft->workload.pass;
  const bool attention = run.draft->workload.phase == Phase::attention;
  if (key == "forward_time") {
    return run.draft->workload.phase == Phase::forward || (attention && pass == Pass::forward);
  }
  if (key == "backward_time") {
    return attention && pass == Pass::backward;
  }
  return key != "forward_backward_time" || (attention && pass == Pass::forward_backward) ||
         !look.find("step_time");
}

void read_memory(const Look& look, MeasuredRun& run) {
  const std::pair<const char*, MeasuredQuantity> keys[] = {
      {"peak_allocated", MeasuredQuantity::allocated},
      {"peak_reserved", MeasuredQuantity::reserved},
      {"peak_memory", run.memory_kind}};
  for (const auto& [key, quantity] : keys) {
    const auto value = look.find(key);
    if (!value) {
      continue;
    }
    const double bytes = look.checked(*value, parse_bytes(value->scalar()), Bytes()).value();
    if (bytes > 0.0) {
      run.measurements.push_back({quantity, key, bytes});
    }
  }
  if (look.find("out_of_memory")) {
    run.measurements.push_back(
        {MeasuredQuantity::out_of_memory, "out_of_memory", look.flag("out_of_memory") ? 1.0 : 0.0});
  }
}

void read_measured(const Look& look, MeasuredRun& run) {
  for (const char* key : time_keys) {
    if (!look.find(key) || !describes_iteration(key, look, run)) {
      continue;
    }
    const auto time = read_time(look, key, run);
    if (time && *time > 0.0) {
      run.measurements.push_back({MeasuredQuantity::time, key, *time});
      break;
    }
    run.skipped_quantities.push_back(std::string(key) + ": its FLOP convention is not known");
  }
  read_memory(look, run);
  if (look.find("max_sequence_length")) {
    run.skipped_quantities.push_back("max_sequence_length: not predicted yet");
  }
}

MeasuredRun read_run(const YamlValue& value, const std::string& source, Diagnostics& diagnostics) {
  const Look look(value, diagnostics);
  MeasuredRun run;
  run.id = look.text("id", "(no id)");
  run.group = look.text("group");
  run.trust = look.text("trust", "medium");
  run.source = source;
  // Active blocks are the allocated ones and those still waiting for another stream.
  run.memory_kind = word<MeasuredQuantity>(look.text("memory_kind"),
                                           {{"device", MeasuredQuantity::device},
                                            {"active", MeasuredQuantity::allocated}})
                        .value_or(MeasuredQuantity::memory);
  run.last_rank_memory = look.text("memory_rank") == "last";
  const auto model = look.find("model");
  const auto hardware = look.find("hardware");
  if (!model || !hardware || !look.find("measured")) {
    diagnostics.error(value.place(), "missing-key",
                      "run '" + run.id + "' needs the maps model, hardware and measured",
                      "see the format longhaul-runs/1");
    return run;
  }
  run.draft.emplace();
  run.draft->model = read_model(*model, diagnostics);
  run.draft->cluster = cluster_from_hardware(*hardware, diagnostics);
  run.draft->gpus = Look(hardware, diagnostics).integer("gpus", 1);
  if (!run.draft->model || !run.draft->cluster) {
    run.draft.reset();
    return run;
  }
  read_workload(Look(look.find("workload"), diagnostics), run);
  read_plan(Look(look.find("plan"), diagnostics), diagnostics, run);
  read_software(Look(look.find("software"), diagnostics), run);
  read_measured(Look(look.find("measured"), diagnostics), run);
  return run;
}

}  // namespace

std::vector<MeasuredRun> read_runs(const SourcePtr& source, Diagnostics& diagnostics) {
  std::vector<MeasuredRun> runs;
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return runs;
  }
  const Look look(*document, diagnostics);
  if (look.text("format") != "longhaul-runs/1") {
    diagnostics.error(document->place(), "wrong-format",
                      "not a file of measured runs: 'format' must be longhaul-runs/1",
                      "add 'format: longhaul-runs/1' as the first line; a sweep says "
                      "longhaul-sweep/1, output of nccl-tests has its line of column titles");
    return runs;
  }
  const auto list = look.find("runs");
  if (!list || !list->is_sequence()) {
    diagnostics.error(document->place(), "missing-key", "'runs' must be a list of runs");
    return runs;
  }
  for (const YamlValue& value : list->items()) {
    runs.push_back(read_run(value, source->name, diagnostics));
  }
  return runs;
}

}  // namespace longhaul
