// What a run measured, brought to base units.
#include "sim/validation/read_measured.h"

#include <algorithm>

#include "sim/model/model.h"

namespace longhaul {

namespace {

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// Multiply-adds count 2. Attention: 2 products of 2 FLOP per pair and head element.
double attention_core(const ScenarioDraft& draft, AttentionFlops attention) {
  const auto length = static_cast<double>(draft.workload.sequence_length);
  const double pairs = length * length * (attention == AttentionFlops::causal ? 0.5 : 1.0);
  return 4.0 * static_cast<double>(draft.model->heads * draft.model->head_dim) * pairs;
}

// What a convention that counts recomputed FLOPs adds to a step, by what the plan recomputes: a
// forward pass, or the attention cores.
double recomputed_flops(const ScenarioDraft& draft, double step, AttentionFlops attention) {
  switch (draft.plan.recompute) {
    case Recompute::full: return step / 3.0;
    case Recompute::selective:
      return static_cast<double>(draft.workload.global_batch * draft.model->layers) *
             attention_core(draft, attention);
    case Recompute::none: break;
  }
  return 0.0;
}

// Passes of one attention layer, in forward passes: backward does 5 products for forward's 2.
double attention_passes(Pass pass) {
  return pass == Pass::forward ? 1.0 : pass == Pass::backward ? 2.5 : 3.5;
}

// FLOPs of one iteration by the convention the source used, for turning a rate into a time.
std::optional<double> flops_by_convention(const MeasuredRun& run, const std::string& convention) {
  const ScenarioDraft& draft = *run.draft;
  const auto attention =
      word<AttentionFlops>(convention.substr(0, convention.find("_with")),
                           {{"full", AttentionFlops::full}, {"causal", AttentionFlops::causal}});
  if (!attention) {
    return std::nullopt;
  }
  const Workload& workload = draft.workload;
  if (workload.phase == Phase::attention) {
    return static_cast<double>(workload.micro_batch) * attention_core(draft, *attention) *
           attention_passes(workload.pass);
  }
  const std::int64_t sequences =
      workload.phase == Phase::train ? workload.global_batch : workload.micro_batch;
  const double step =
      training_flops(*draft.model, sequences, workload.sequence_length, *attention).value();
  if (workload.phase != Phase::train) {
    return step / 3.0;
  }
  return contains(convention, "with_recompute") ? step + recomputed_flops(draft, step, *attention)
                                                : step;
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

// Computed from another figure of the run, which is scored itself.
bool is_derived(const MeasuredRun& run, const std::string& key) {
  return std::find(run.derived.begin(), run.derived.end(), key) != run.derived.end();
}

// A stack's logs may call 2^30 bytes a GB; where the unit is not known for sure, they did.
double bytes_per_stated_byte(const MeasuredRun& run, const std::string& stated) {
  const bool unsure =
      std::find(run.unknown.begin(), run.unknown.end(), "memory_unit") != run.unknown.end();
  const bool decimal = stated.ends_with(" GB");
  const bool binary = find_software(run.draft->software)->memory_in_gib;
  return unsure && decimal && binary ? 1.073741824 : 1.0;
}

void read_memory(const Look& look, MeasuredRun& run) {
  const std::pair<const char*, MeasuredQuantity> keys[] = {
      {"peak_allocated", MeasuredQuantity::allocated},
      {"peak_reserved", MeasuredQuantity::reserved},
      {"peak_memory", run.memory_kind}};
  for (const auto& [key, quantity] : keys) {
    const auto value = look.find(key);
    if (!value || is_derived(run, key)) {
      continue;
    }
    if (run.autocast) {
      run.skipped_quantities.push_back(std::string(key) + ": what autocast leaves in fp32 is not "
                                       "modelled");
      continue;
    }
    const double bytes = look.checked(*value, parse_bytes(value->scalar()), Bytes()).value() *
                         bytes_per_stated_byte(run, value->scalar());
    if (bytes > 0.0) {
      run.measurements.push_back({quantity, key, bytes});
    }
  }
  if (look.find("out_of_memory")) {
    run.measurements.push_back(
        {MeasuredQuantity::out_of_memory, "out_of_memory", look.flag("out_of_memory") ? 1.0 : 0.0});
  }
}

}  // namespace

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
  const std::int64_t longest = look.tokens("max_sequence_length", 0);
  if (longest > 0) {
    run.measurements.push_back({MeasuredQuantity::longest_sequence, "max_sequence_length",
                                static_cast<double>(longest)});
  }
}

}  // namespace longhaul
