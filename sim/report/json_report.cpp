#include "sim/report/json_report.h"

#include <cmath>

#include "sim/scenario/pipeline_parts.h"
#include "sim/scenario/rank_order.h"
#include "sim/scenario/words.h"

namespace longhaul {

namespace {

// Bytes are whole: printed as integers, not as 1e+10.
JsonValue bytes_json(Bytes bytes) { return JsonValue(std::llround(bytes.value())); }

JsonValue texts_json(const std::vector<std::string>& texts) {
  JsonValue list = JsonValue::array();
  for (const std::string& text : texts) {
    list.push(text);
  }
  return list;
}

JsonValue counts_json(const std::vector<std::int64_t>& counts) {
  JsonValue list = JsonValue::array();
  for (const std::int64_t count : counts) {
    list.push(count);
  }
  return list;
}

JsonValue diagnostic_json(const Diagnostic& diagnostic) {
  static constexpr const char* severities[] = {"error", "warning", "note"};
  const Place& place = diagnostic.place;
  JsonValue out = JsonValue::object();
  out.set("severity", severities[static_cast<int>(diagnostic.severity)])
      .set("code", diagnostic.code)
      .set("message", diagnostic.message)
      .set("help", diagnostic.help.empty() ? JsonValue() : JsonValue(diagnostic.help))
      .set("file", place.source ? JsonValue(place.source->name) : JsonValue())
      .set("line", place.line > 0 ? JsonValue(place.line) : JsonValue())
      .set("column", place.line > 0 ? JsonValue(place.column) : JsonValue());
  return out;
}

JsonValue diagnostics_json(const Diagnostics& diagnostics) {
  JsonValue list = JsonValue::array();
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    list.push(diagnostic_json(diagnostic));
  }
  return list;
}

JsonValue head_of_document(const std::string& command, bool ok) {
  return JsonValue::object().set("format_version", "1.0").set("ok", ok).set("command", command);
}

JsonValue mask_json(const MaskSpec& mask) {
  if (mask.kind == MaskKind::window) {
    return JsonValue::object().set("window", mask.window);
  }
  return mask_text(mask);
}

JsonValue workload_json(const Workload& workload) {
  JsonValue out = JsonValue::object();
  out.set("phase", word_of(phase_words, workload.phase));
  if (workload.phase == Phase::attention) {
    out.set("pass", word_of(pass_words, workload.pass));
  }
  out.set("sequence_length", workload.sequence_length);
  if (workload.cached_tokens > 0) {
    out.set("cached_tokens", workload.cached_tokens);
  }
  out.set("micro_batch", workload.micro_batch)
      .set("global_batch", workload.global_batch)
      .set("mask", mask_json(workload.mask))
      .set("expert_imbalance", workload.expert_imbalance)
      .set("expert_capacity", workload.expert_capacity);
  if (workload.sample_time > Seconds()) {
    out.set("sample_time_s", workload.sample_time.value());
  }
  return out;
}

JsonValue context_json(const ContextPlan& context) {
  JsonValue out = JsonValue::object();
  out.set("method", word_of(method_words, context.method))
      .set("ring", context.ring)
      .set("ulysses", context.ulysses)
      .set("order", word_of(order_words, context.order))
      .set("inner", word_of(inner_words, context.inner))
      .set("inner_ring", context.inner_ring)
      .set("variant", word_of(variant_words, context.variant))
      .set("packed_qkv", context.packed_qkv);
  if (context.is_chunked()) {
    out.set("chunks", context.chunks);
  }
  return out;
}

JsonValue rank_memory_json(const RankMemory& memory) {
  JsonValue out = JsonValue::object();
  out.set("stage", memory.stage)
      .set("rank", memory.rank)
      .set("ranks", memory.ranks)
      .set("peak_bytes", bytes_json(memory.peak))
      .set("peak_time_s", memory.peak_time.value())
      .set("allocated_bytes", bytes_json(memory.allocated))
      .set("allocator_reserved_bytes", bytes_json(memory.allocator_reserved))
      .set("reserved_bytes", bytes_json(memory.reserved));
  return out;
}

JsonValue host_memory_json(const MemoryResult& memory) {
  JsonValue out = JsonValue::object();
  out.set("peak_bytes_per_gpu", bytes_json(memory.host_peak))
      .set("peak_bytes_per_node", bytes_json(memory.host_node_peak));
  if (memory.host_capacity.value() > 0.0) {
    out.set("capacity_bytes_per_node", bytes_json(memory.host_capacity));
  }
  out.set("fits", memory.host_fits);
  return out;
}

JsonValue memory_json(const MemoryResult& memory) {
  JsonValue categories = JsonValue::object();
  for (const auto& [name, bytes] : memory.categories) {
    categories.set(name, bytes_json(bytes));
  }
  JsonValue stages = JsonValue::array();
  for (const RankMemory& stage : memory.stages) {
    stages.push(rank_memory_json(stage));
  }
  JsonValue positions = JsonValue::array();
  for (const PositionMemory& position : memory.positions) {
    positions.push(JsonValue::object()
                       .set("position", position.position)
                       .set("rank", position.rank)
                       .set("peak_bytes", bytes_json(position.peak))
                       .set("allocated_bytes", bytes_json(position.allocated)));
  }
  JsonValue out = JsonValue::object();
  out.set("peak_bytes", bytes_json(memory.peak))
      .set("peak_rank", memory.peak_rank)
      .set("peak_time_s", memory.peak_time.value())
      .set("allocated_bytes", bytes_json(memory.allocated))
      .set("last_rank_allocated_bytes", bytes_json(memory.last_rank.allocated))
      .set("allocator_reserved_bytes", bytes_json(memory.allocator_reserved))
      .set("reserved_bytes", bytes_json(memory.reserved))
      .set("capacity_bytes", bytes_json(memory.capacity))
      .set("fits", memory.fits)
      .set("categories", std::move(categories))
      .set("host_peak_bytes", bytes_json(memory.host_peak))
      .set("host", host_memory_json(memory))
      .set("last_rank", rank_memory_json(memory.last_rank))
      .set("stages", std::move(stages))
      .set("positions", std::move(positions));
  return out;
}

JsonValue causes_json(const std::vector<std::pair<std::string, Seconds>>& causes) {
  JsonValue out = JsonValue::object();
  for (const auto& [cause, seconds] : causes) {
    out.set(cause, seconds.value());
  }
  return out;
}

JsonValue inputs_json(const std::vector<std::pair<std::string, std::string>>& inputs) {
  JsonValue out = JsonValue::array();
  for (const auto& [what, origin] : inputs) {
    out.push(JsonValue::object().set("what", what).set("origin", origin));
  }
  return out;
}

// The figures of a prediction, without its scenario.
JsonValue figures_json(const Result& result) {
  JsonValue out = JsonValue::object();
  out.set("step_time_s", result.step_time.value())
      .set("step_time_interval_s",
           JsonValue::array().push(result.interval_low.value()).push(result.interval_high.value()))
      .set("interval_coverage", result.interval_coverage)
      .set("cost_spread", result.cost_spread)
      .set("forward_time_s", result.forward_time.value())
      .set("tokens_per_second", result.tokens_per_second)
      .set("tokens_per_second_per_gpu", result.tokens_per_second_per_gpu)
      .set("mfu", result.mfu)
      .set("flop_convention", result.flop_convention)
      .set("tflops_per_gpu", result.tflops_per_gpu)
      .set("bubble_fraction", result.bubble_fraction)
      .set("compute_time_s", result.compute_time.value())
      .set("exposed_communication_s", result.exposed_communication.value())
      .set("critical_path", causes_json(result.critical_path))
      .set("memory", memory_json(result.memory))
      .set("bottleneck", result.bottleneck)
      .set("calibrated", result.calibrated)
      .set("extrapolated", result.extrapolated)
      .set("remarks", texts_json(result.remarks))
      .set("events", result.events)
      .set("inputs", inputs_json(result.inputs));
  return out;
}

JsonValue alternative_json(const Alternative& row, std::int64_t rank) {
  JsonValue out = JsonValue::object();
  out.set("rank", row.result ? JsonValue(rank) : JsonValue())
      .set("name", row.name)
      .set("fits", row.fits())
      .set("rejected", !row.result)
      .set("reason", row.reason.empty() ? JsonValue() : JsonValue(row.reason))
      .set("plan", plan_json(row.plan))
      .set("scenario", row.scenario ? scenario_json(*row.scenario) : JsonValue())
      .set("result", row.result ? figures_json(*row.result) : JsonValue());
  return out;
}

}  // namespace

JsonValue plan_json(const Plan& plan) {
  JsonValue offload = JsonValue::array();
  for (const Offload what : plan.offload) {
    offload.push(word_of(offload_words, what));
  }
  JsonValue out = JsonValue::object();
  out.set("tensor", plan.tensor)
      .set("sequence_parallel", plan.sequence_parallel)
      .set("context", context_json(plan.context))
      .set("pipeline", plan.pipeline)
      .set("virtual_pipeline", plan.virtual_pipeline)
      .set("uneven_stages", plan.uneven_stages)
      .set("stage_layers", counts_json(plan.stage_layers))
      .set("data", plan.data)
      .set("rank_order", rank_order_text(plan))
      .set("expert", plan.expert)
      .set("expert_tensor", plan.expert_tensor)
      .set("zero", plan.zero)
      .set("shard_over_context", plan.shard_over_context)
      .set("zero_group", plan.zero_group)
      .set("recompute", word_of(recompute_words, plan.recompute))
      .set("recompute_detail", word_of(recompute_detail_words, plan.recompute_detail))
      .set("recompute_layers", plan.recompute_layers)
      .set("mlp_tiles", plan.mlp_tiles)
      .set("loss_chunks", plan.loss_chunks)
      .set("offload", std::move(offload));
  if (plan.expert * plan.expert_tensor > 1) {
    out.set("expert_dispatch", word_of(expert_dispatch_words, plan.expert_dispatch))
        .set("expert_dispatch_dtype",
             word_of(expert_dispatch_type_words, plan.fp8_expert_dispatch ? 1 : 0))
        .set("shared_expert_overlap", plan.shared_expert_overlap);
  }
  if (plan.pipeline > 1) {
    out.set("schedule", word_of(schedule_words, plan.schedule));
  }
  return out;
}

// The plan with what it leaves to the software stack.
JsonValue settled_plan_json(const Scenario& scenario) {
  JsonValue out = plan_json(scenario.plan);
  out.set("overlap_gradient_reduction", scenario.overlaps_gradient_reduction())
      .set("overlap_parameter_gather", scenario.overlaps_parameter_gather())
      .set("zero_owners", scenario.has_owners())
      .set("overlap_tensor_collectives", scenario.overlaps_tensor_collectives())
      .set("reshard_after_forward", scenario.reshards_after_forward())
      .set("prefetch", scenario.prefetch())
      .set("virtual_group", virtual_group_of(scenario.plan, scenario.micro_batches()));
  if (splits_backward(scenario.plan.schedule)) {
    out.set("post_validation", scenario.steps_apart());
  }
  if (scenario.workload.sample_time > Seconds()) {
    out.set("loader_workers", scenario.loader_workers());
  }
  if (!scenario.plan.offload.empty()) {
    out.set("host_threads", scenario.working_host_threads())
        .set("pageable_offload", scenario.offload_is_pageable());
  }
  return out;
}

JsonValue scenario_json(const Scenario& scenario) {
  const Precision& precision = scenario.precision;
  JsonValue out = JsonValue::object();
  out.set("model", scenario.model.name)
      .set("cluster", scenario.cluster.name())
      .set("device", scenario.cluster.device().name)
      .set("gpus", scenario.gpus)
      .set("workload", workload_json(scenario.workload))
      .set("plan", settled_plan_json(scenario))
      .set("precision", JsonValue::object()
                            .set("compute", word_of(data_type_words, precision.compute))
                            .set("gradients", word_of(data_type_words, precision.gradients))
                            .set("attention", word_of(data_type_words, precision.attention)))
      .set("software", scenario.software)
      .set("attention_kernel",
           scenario.attention_kernel.empty() ? "auto" : scenario.attention_kernel);
  return out;
}

JsonValue result_json(const Scenario& scenario, const Result& result) {
  JsonValue out = figures_json(result);
  out.set("scenario", scenario_json(scenario));
  return out;
}

JsonValue comparison_json(std::int64_t sequence_length, const std::vector<Alternative>& rows) {
  JsonValue list = JsonValue::array();
  std::int64_t rank = 0;
  for (const Alternative& row : rows) {
    list.push(alternative_json(row, ++rank));
  }
  const bool any = !rows.empty() && rows.front().fits();
  JsonValue out = JsonValue::object();
  out.set("sequence_length", sequence_length)
      .set("best", any ? JsonValue(rows.front().name) : JsonValue())
      .set("alternatives", std::move(list));
  return out;
}

JsonValue success_document(const std::string& command, JsonValue result,
                           const Diagnostics& diagnostics) {
  JsonValue out = head_of_document(command, true);
  out.set("result", std::move(result)).set("diagnostics", diagnostics_json(diagnostics));
  return out;
}

JsonValue failure_document(const std::string& command, const Diagnostics& diagnostics) {
  JsonValue out = head_of_document(command, false);
  out.set("diagnostics", diagnostics_json(diagnostics));
  return out;
}

}  // namespace longhaul
