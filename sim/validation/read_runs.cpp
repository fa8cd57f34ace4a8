#include "sim/validation/read_runs.h"

#include <algorithm>
#include <functional>
#include <map>

#include "sim/model/read_model.h"
#include "sim/scenario/words.h"
#include "sim/topology/hardware_map.h"
#include "sim/validation/look.h"
#include "sim/validation/read_measured.h"
#include "sim/validation/run_facts.h"

namespace longhaul {

const char* name_of(MeasuredQuantity quantity) {
  static constexpr const char* names[] = {"time", "allocated", "reserved", "memory",
                                          "memory", "out_of_memory", "max_sequence_length"};
  return names[static_cast<int>(quantity)];
}

namespace {

// What a word stands for. A run that says it in another one is skipped, and says why: what it meant
// is not for us to guess.
template <class T>
T known(MeasuredRun& run, const std::string& key, const std::string& said,
        std::initializer_list<std::pair<const char*, T>> words) {
  const std::optional<T> value = word<T>(said, words);
  if (!value) {
    run.skip_reason = key + " '" + said + "' is not predicted yet";
  }
  return value.value_or(T());
}

void read_mask(const Look& look, MeasuredRun& run) {
  MaskSpec& mask = run.draft->workload.mask;
  const auto value = look.find("mask");
  const Look window(value, look.diagnostics());
  if (value && !value->is_scalar() && window.find("window")) {
    mask = {MaskKind::window, window.tokens("window", 0)};
    return;
  }
  const std::string said =
      value && !value->is_scalar() ? "of several keys" : look.text("mask", "causal");
  mask.kind = known<MaskKind>(run, "mask", said,
                              {{"causal", MaskKind::causal}, {"full", MaskKind::full}});
}

void read_compute_type(const Look& look, MeasuredRun& run) {
  const std::string said = look.text("dtype", "bf16");
  run.fp16 = said == "fp16";
  if (said == "fp8") {
    run.draft->precision.compute = DataType::fp8;
  } else if (said == "fp32") {
    run.draft->precision.compute = DataType::fp32;
  } else if (said != "bf16" && said != "fp16") {
    run.skip_reason = "dtype '" + said + "' is not predicted yet";
  }
}

// 0, which counts of tokens otherwise may not be, says that nothing is cached.
std::int64_t cached_tokens(const Look& look) {
  return look.text("cached_tokens") == "0" ? 0 : look.tokens("cached_tokens", 0);
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
  workload.pass = known<Pass>(run, "pass", look.text("pass", "forward_backward"),
                              {{"forward", Pass::forward},
                               {"backward", Pass::backward},
                               {"forward_backward", Pass::forward_backward}});
  workload.sequence_length = look.tokens("sequence_length", 0);
  workload.micro_batch = look.integer("micro_batch", 1);
  workload.global_batch = look.integer("global_batch", 1);
  workload.cached_tokens = cached_tokens(look);
  read_mask(look, run);
  read_compute_type(look, run);
}

void read_variant(const Look& look, MeasuredRun& run) {
  ContextPlan& context = run.draft->plan.context;
  context.variant = known<RingVariant>(run, "context variant", look.text("variant", "pass_kv"),
                                       {{"pass_kv", RingVariant::pass_kv},
                                        {"q_side_backward", RingVariant::q_side_backward},
                                        {"helpers", RingVariant::helpers},
                                        {"pass_q", RingVariant::pass_q},
                                        {"materialised", RingVariant::materialised},
                                        {"chunked_offload", RingVariant::chunked_offload}});
  if (context.variant == RingVariant::helpers) {
    // Helpers even out a sequence dealt in order; whatever else the record infers is not meant.
    context.order = SequenceOrder::contiguous;
  }
  if (context.variant == RingVariant::chunked_offload) {
    context.chunks = look.integer("chunks", 0);
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
  context.order = known<SequenceOrder>(run, "context order", look.text("order", "contiguous"),
                                       {{"contiguous", SequenceOrder::contiguous},
                                        {"zigzag", SequenceOrder::zigzag},
                                        {"striped", SequenceOrder::striped}});
  context.inner = look.text("inner") == "ring" ? InnerPlacement::ring : InnerPlacement::ulysses;
  context.inner_ring = look.integer("inner_ring", 1);
  context.packed_qkv = look.flag("packed_qkv");
  read_variant(look, run);
}

// What is kept of a layer, or which layers recompute. A half recomputes in its first layers: how
// they are dealt changes neither time nor peak.
void read_recompute_detail(const std::string& said, MeasuredRun& run) {
  Plan& plan = run.draft->plan;
  const std::int64_t layers = run.draft->model->layers;
  if (said == "unknown_fraction") {
    run.skip_reason = "how many layers recompute is not known";
  } else if (said == "every_second_layer") {
    if (layers > 1) {
      plan.recompute = Recompute::full;
      const std::int64_t parts = plan.pipeline * plan.virtual_pipeline;
      plan.recompute_layers = std::max<std::int64_t>(1, layers / (2 * parts));
    }
  } else if (!said.empty()) {
    plan.recompute_detail = known<RecomputeDetail>(
        run, "recompute_detail", said,
        {{"standard", RecomputeDetail::standard},
         {"attention_core", RecomputeDetail::attention_core},
         {"keep_attention_output", RecomputeDetail::keep_attention_output},
         {"keep_attention_output_part", RecomputeDetail::keep_attention_output_part},
         {"keep_linear_outputs", RecomputeDetail::keep_linear_outputs},
         {"op_sac", RecomputeDetail::op_sac}});
  }
}

void read_recompute(const Look& look, MeasuredRun& run) {
  const std::string said = look.text("recompute", "none");
  run.recompute_unknown = said == "unknown";
  if (!run.recompute_unknown) {
    run.draft->plan.recompute = known<Recompute>(run, "recompute", said,
                                                 {{"none", Recompute::none},
                                                  {"selective", Recompute::selective},
                                                  {"full", Recompute::full}});
  }
  read_recompute_detail(look.text("recompute_detail"), run);
}

void read_offload(const Look& look, MeasuredRun& run) {
  for (const std::string& said : look.texts("offload")) {
    const auto what = word<Offload>(said, {{"optimizer", Offload::optimizer},
                                           {"activations", Offload::activations},
                                           {"parameters", Offload::parameters}});
    if (what) {
      run.draft->plan.offload.push_back(*what);
    } else {
      run.skip_reason = "offload of '" + said + "' has no schedule yet";
    }
  }
}

// 1F1B is interleaved where the stages have several chunks, whichever of the two a source says.
void read_schedule(const std::string& said, MeasuredRun& run) {
  const auto schedule = schedule_of_word(said);
  if (run.draft->plan.pipeline == 1) {
    return;
  }
  if (!schedule || *schedule == PipelineSchedule::zb_v) {
    run.skip_reason = "pipeline schedule '" + said + "' is not modelled";
  } else if (splits_backward(*schedule)) {
    run.draft->plan.schedule = *schedule;
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
  read_recompute(look, run);
  plan.uneven_stages = look.flag("uneven_stages");
  read_schedule(look.text("schedule", "1f1b"), run);
  read_offload(look, run);
  read_context(Look(look.find("context"), diagnostics), run);
  if (plan.recompute_detail == RecomputeDetail::keep_attention_output_part) {
    // BurstEngine has it for striped sequences alone; whatever else the record infers is not meant.
    plan.context.order = SequenceOrder::striped;
  }
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// What a source says of overlap goes before what the framework does by default.
void read_overlap(const std::string& said, Plan& plan) {
  if (said != "none" && !contains(said, "dp")) {
    return;
  }
  const bool overlaps = said != "none";
  if (!overlaps || contains(said, "tp")) {
    plan.overlap_tensor_collectives = overlaps && plan.sequence_parallel;
  }
  if (plan.zero <= 1) {
    plan.overlap_gradient_reduction = overlaps;
  }
  if (plan.zero == 1 || plan.zero == 2) {
    plan.overlap_parameter_gather = overlaps;
  }
}

// Equal pieces, at least so many; 1 where only single tokens would do.
std::int64_t pieces_of(std::int64_t tokens, std::int64_t least) {
  std::int64_t pieces = least;
  while (pieces < tokens && tokens % pieces != 0) {
    ++pieces;
  }
  return pieces < tokens ? pieces : 1;
}

// ALST's TiledMLP: pieces of as many tokens as the model is wide (arXiv 2506.13996, section 3.1).
void read_mlp_tiles(MeasuredRun& run) {
  Plan& plan = run.draft->plan;
  const std::int64_t tokens =
      run.draft->workload.sequence_length / std::max<std::int64_t>(1, plan.context.degree());
  const std::int64_t hidden = run.draft->model->hidden;
  plan.mlp_tiles = pieces_of(tokens, std::max<std::int64_t>(1, (tokens + hidden - 1) / hidden));
}

// The run's stack, with what `change` makes of it.
void change_stack(MeasuredRun& run, const std::function<void(SoftwareProfile&)>& change) {
  ScenarioDraft& draft = *run.draft;
  SoftwareProfile stack =
      draft.stack_override ? *draft.stack_override : *find_software(draft.software);
  change(stack);
  draft.stack_override = std::make_shared<const SoftwareProfile>(std::move(stack));
}

// A loss of few kernels instead of the stack's separate operators.
void fuse_loss(MeasuredRun& run, bool compiled) {
  change_stack(run, [compiled](SoftwareProfile& stack) {
    std::erase_if(stack.operators, [](const OperatorHabit& habit) {
      return habit.op == "loss" || habit.op == "loss_statistics";
    });
    stack.compiled_loss = compiled;
  });
}

// torchtitan and torchtune cut the tokens in 8, or in the next number that divides them. Liger's fused
// linear cross entropy, the loss in pieces of DeepSpeed's runs, takes the power of two next to
// vocabulary / hidden, so that a piece of the logits is as large as the hidden states.
// What Megatron-LM calls fused is one kernel for its fp32 operators, on all the logits.
void read_loss(const std::string& loss, MeasuredRun& run) {
  const auto stack = find_software(run.draft->software);
  const bool wide_in_place = stack->fp32_logits && !stack->eager_loss;
  const bool liger = run.draft->software.ends_with("_liger");
  const Plan& plan = run.draft->plan;
  if (loss == "chunked" && !liger) {
    run.draft->plan.loss_chunks = pieces_of(
        run.draft->workload.sequence_length / std::max<std::int64_t>(1, plan.context.degree()), 8);
  } else if (loss == "fused" && wide_in_place && !liger) {
    fuse_loss(run, false);
  } else if (loss == "fused" || liger) {
    std::int64_t pieces = 1;
    while (pieces * run.draft->model->hidden < run.draft->model->vocab) {
      pieces *= 2;
    }
    run.draft->plan.loss_chunks = pieces_of(
        run.draft->workload.sequence_length / std::max<std::int64_t>(1, plan.context.degree()),
        pieces);
  }
}

// What the public configuration of the run says and its record leaves open.
void take_facts(MeasuredRun& run) {
  Plan& plan = run.draft->plan;
  for (const RunFact& fact : all_run_facts()) {
    if (!is_among(run.id, fact.runs)) {
      continue;
    }
    const std::string& kernel = run.draft->deterministic && fact.attention.empty()
                                    ? fact.deterministic_attention
                                    : fact.attention;
    if (run.attention_open && !kernel.empty()) {
      run.draft->attention_kernel = kernel;
      run.attention_open = false;
    }
    if (fact.compiled_loss) {
      fuse_loss(run, true);
    }
    if (fact.wide_gathers) {
      change_stack(run, [](SoftwareProfile& stack) { stack.fp8_gathers = false; });
    }
    const std::int64_t replicas = plan.data * plan.context.degree();
    if (plan.zero > 0 && replicas % fact.optimizer_groups == 0 && fact.optimizer_groups > 1) {
      plan.zero_group = replicas / fact.optimizer_groups;
    }
    if (fact.cuts_vocabulary) {
      run.draft->model->vocab -= run.draft->model->vocab % plan.tensor;
    }
    if (fact.sample_time > Seconds()) {
      run.draft->workload.sample_time = fact.sample_time;
    }
  }
}

// What those who start a stack by a trainer of its own word set, of which records say nothing.
void read_trainer(MeasuredRun& run) {
  for (const TrainerHabit& habit : find_software(run.draft->software)->trainers) {
    if (run.draft->plan.offloads(Offload::optimizer) &&
        contains(run.framework, habit.framework.c_str())) {
      run.draft->plan.host_threads = habit.host_threads;
      run.draft->plan.pageable_offload = habit.pageable_offload;
    }
  }
}

// Who trains with tensor ranks, stages or experts does it as Megatron-LM does; sharded data is FSDP's
// or DeepSpeed's; rings of attention alone are published with ring-flash-attention's kernels.
std::string usual_stack(const ScenarioDraft& draft) {
  const Plan& plan = draft.plan;
  if (draft.workload.phase == Phase::attention) {
    return plan.context.ring > 1 ? "ring_flash_attention" : "ideal";
  }
  if (draft.workload.phase == Phase::prefill) {
    return "ideal";
  }
  if (plan.tensor > 1 || plan.pipeline > 1 || plan.expert > 1) {
    return "megatron";
  }
  return plan.zero == 1 || plan.zero == 2 || !plan.offload.empty() ? "deepspeed" : "fsdp";
}

// What facts about the run know goes before its words. A benchmark's own name says less than the
// method if that names whose code was run.
std::string stack_of(const std::string& method, MeasuredRun& run) {
  for (const RunFact& fact : all_run_facts()) {
    if (!fact.stack.empty() && is_among(run.id, fact.runs)) {
      return fact.stack;
    }
  }
  const auto implementation = software_of_framework(method);
  const auto framework = software_of_framework(run.framework);
  if (implementation || framework) {
    return (implementation ? implementation : framework)->name;
  }
  run.stack_assumed = true;
  run.unknown.emplace_back("software");
  return usual_stack(*run.draft);
}

// FSDP's shards in fp32 are a matter of the parameters: torch.autocast casts the operands of products
// (ATorch's amp_native, autocast around the model's forward). Which other tensors stay in fp32, the
// residual stream first of all, is not modelled: such memory is not scored.
void read_fp32(const std::string& mode, MeasuredRun& run) {
  Precision& precision = run.draft->precision;
  run.autocast = precision.compute == DataType::fp32 && mode == "fp32_master_shards";
  if (run.autocast) {
    precision.compute = DataType::bf16;
  }
}

// `before`: the framework of the run before, which "same stack" refers to.
void read_software(const Look& look, const std::string& before, MeasuredRun& run) {
  const std::string attention = look.text("attention");
  if (contains(attention, "unfused")) {
    run.draft->attention_kernel = "unfused";
  } else if (contains(attention, "FA3") || contains(attention, "FlashAttention-3")) {
    run.draft->attention_kernel = "fa3";
  } else if (contains(attention, "FA4")) {
    run.draft->attention_kernel = "fa4";
  } else if (contains(attention, "SDPA")) {
    // PyTorch's scaled_dot_product_attention takes its copy of FlashAttention-2 first.
    run.draft->attention_kernel = "fa2";
  } else if (contains(attention, "cuDNN") || contains(attention, "TE ")) {
    run.draft->attention_kernel = "cudnn";
  } else if (contains(attention, "attn_impl=flash")) {
    // llm-foundry's switch; its benchmarks of 2023 ran with flash-attn 1.0.9 (its setup.py, v0.3).
    run.draft->attention_kernel = "fa1";
  } else if (contains(attention, "FA2") || contains(attention, "Flash") ||
             contains(attention, "flash")) {
    run.draft->attention_kernel = "fa2";
  }
  run.attention_open = contains(attention, "auto") || attention == "unknown";
  // Megatron-LM's deterministic mode, which pins cuBLAS' workspaces as well, refuses FlashAttention
  // (arguments.py): deterministic flash is a choice of that kernel alone.
  run.draft->deterministic = contains(attention, "deterministic") && !contains(attention, "flash");
  run.draft->expandable_segments = contains(look.text("allocator"), "expandable_segments");
  const std::string said = look.text("framework");
  run.framework = said == "same stack" ? before : said;
  run.draft->software = stack_of(look.text("method"), run);
  const std::string compiled = run.draft->software + "_compiled";
  if (look.flag("compile") && find_software(compiled)) {
    run.draft->software = compiled;
  }
  const std::string& kernel = find_software(run.draft->software)->flash_kernel;
  if (!kernel.empty() && attention == "FlashAttention") {
    run.draft->attention_kernel = kernel;
  }
  // Hugging Face models whose loss is fused or in pieces run on Liger's kernels, which fuse the rest,
  // too (ArcticTraining's recipes for long sequences: model type liger).
  const std::string fused = run.draft->software + "_liger";
  const std::string loss = look.text("loss");
  if ((loss == "fused" || loss == "chunked") && find_software(fused)) {
    run.draft->software = fused;
  }
  read_trainer(run);
  read_overlap(look.text("overlap"), run.draft->plan);
  if (look.flag("async_tp")) {
    run.draft->plan.overlap_tensor_collectives = run.draft->plan.sequence_parallel;
  }
  const std::string mode = look.text("precision_mode");
  const auto stack = find_software(run.draft->software);
  const bool by_habit = mode.empty() && (stack->compute_gradients ||
                                         (run.fp16 && stack->fp16_gradients));
  if (mode == "pure_bf16" || mode == "bf16_gradients" || by_habit) {
    run.draft->precision.gradients = DataType::bf16;
  }
  if (contains(attention, "dropout on")) {
    run.draft->workload.dropout = true;
  }
  read_fp32(mode, run);
  run.draft->precision.states = mode == "pure_bf16"            ? States::compute
                                : mode == "fp32_master_shards" ? States::fp32
                                                               : States::mixed;
  if (look.flag("tiled_mlp")) {
    read_mlp_tiles(run);
  }
  read_loss(look.text("loss"), run);
}

// Runs state it among their notes, in these words: it is a setting of the machine, not its wiring.
bool peer_access_off(const Look& look) {
  for (const std::string& note : look.texts("notes")) {
    if (contains(note, "peer-to-peer disabled") || contains(note, "P2P disabled")) {
      return true;
    }
  }
  return false;
}

// A value as text without its places: equal texts are equal values.
std::string text_of(const YamlValue& value) {
  if (value.is_scalar()) {
    return (value.is_quoted() ? '"' : '\'') + value.scalar() + '\n';
  }
  std::string text = value.is_map() ? "{" : "[";
  for (const auto& [key, entry] : value.entries()) {
    text += key + ':' + text_of(entry);
  }
  for (const YamlValue& item : value.items()) {
    text += text_of(item);
  }
  return text + '}';
}

// The machine of a run. One on a device that longhaul does not know is left out with that reason:
// the other runs of the file are worth scoring.
std::optional<Cluster> read_machine(const YamlValue& hardware, const Look& look, MeasuredRun& run,
                                    Diagnostics& diagnostics) {
  Diagnostics own;
  const auto& unknown = run.unknown;
  const bool nics = std::find(unknown.begin(), unknown.end(), "nics_per_node") != unknown.end();
  const bool staged = peer_access_off(look);
  run.machine = text_of(hardware) + (staged ? 's' : '-') + (nics ? 'n' : '-');
  const auto cluster = cluster_from_hardware(hardware, own, {staged, nics});
  for (const Diagnostic& problem : own.all()) {
    if (problem.code == "unknown-device") {
      run.skip_reason = problem.message;
      diagnostics.warning(problem.place, problem.code,
                          problem.message + ": run '" + run.id + "' is left out", problem.help);
      return std::nullopt;
    }
  }
  diagnostics.append(own);
  return cluster;
}

MeasuredRun read_run(const YamlValue& value, const std::string& source, const std::string& before,
                     Diagnostics& diagnostics) {
  const Look look(value, diagnostics);
  MeasuredRun run;
  run.fitted = look.flag("fitted");
  run.unknown = look.texts("unknown");
  run.derived = look.texts("derived");
  run.id = look.text("id", "(no id)");
  run.group = look.text("group");
  run.trust = look.text("trust");
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
  run.draft->cluster = read_machine(*hardware, look, run, diagnostics);
  run.draft->gpus = Look(hardware, diagnostics).integer("gpus", 1);
  if (!run.draft->model || !run.draft->cluster) {
    run.draft.reset();
    return run;
  }
  read_workload(Look(look.find("workload"), diagnostics), run);
  read_plan(Look(look.find("plan"), diagnostics), diagnostics, run);
  read_software(Look(look.find("software"), diagnostics), before, run);
  take_facts(run);
  read_measured(Look(look.find("measured"), diagnostics), run);
  return run;
}

void note_assumed_stack(const YamlValue& value, const MeasuredRun& run, Diagnostics& diagnostics) {
  if (!run.stack_assumed) {
    return;
  }
  const std::string what = run.framework.empty()
                               ? "no framework is stated"
                               : "no stack is known by the framework '" + run.framework + "'";
  diagnostics.note(value.place(), "assumed-stack",
                   what + ": '" + run.draft->software + "' is taken, and the interval is wider",
                   "write software: {framework: ...} with a word of a stack that is like it "
                   "(longhaul list software)");
}

// A note about many runs of a file is one note, at the first of them.
void append_notes_once(const Diagnostics& own, Diagnostics& diagnostics) {
  std::map<std::pair<std::string, std::string>, int> times;
  for (const Diagnostic& one : own.all()) {
    times[{one.code, one.message}] += one.severity == Severity::note ? 1 : 0;
  }
  for (const Diagnostic& one : own.all()) {
    if (one.severity == Severity::error) {
      diagnostics.error(one.place, one.code, one.message, one.help);
      continue;
    }
    if (one.severity == Severity::warning) {
      diagnostics.warning(one.place, one.code, one.message, one.help);
      continue;
    }
    int& count = times[{one.code, one.message}];
    if (count > 0) {
      const std::string more =
          count > 1 ? " (here and " + std::to_string(count - 1) + " times more)" : "";
      diagnostics.note(one.place, one.code, one.message + more, one.help);
      count = 0;
    }
  }
}

std::vector<MeasuredRun> read_runs_of(const SourcePtr& source, Diagnostics& diagnostics) {
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
  const Look of_source(look.find("source"), diagnostics);
  for (const YamlValue& value : list->items()) {
    const std::string before = runs.empty() ? "" : runs.back().framework;
    runs.push_back(read_run(value, source->name, before, diagnostics));
    MeasuredRun& run = runs.back();
    run.fitted = run.fitted || of_source.flag("fitted");
    note_assumed_stack(value, run, diagnostics);
    run.trust = run.trust.empty() ? of_source.text("trust", "medium") : run.trust;
  }
  return runs;
}

}  // namespace

std::vector<MeasuredRun> read_runs(const SourcePtr& source, Diagnostics& diagnostics) {
  Diagnostics own;
  std::vector<MeasuredRun> runs = read_runs_of(source, own);
  append_notes_once(own, diagnostics);
  return runs;
}

}  // namespace longhaul
