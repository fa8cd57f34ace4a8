// From a draft to a scenario that cannot be wrong. Every rule is one function that records what
// breaks it; rules whose premise is already broken stay silent, so that one mistake is one message.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sim/scenario/deepep.h"
#include "sim/scenario/pipeline_parts.h"
#include "sim/scenario/rank_order.h"
#include "sim/scenario/read_scenario.h"
#include "sim/scenario/words.h"
#include "sim/topology/cluster_spec.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

// A product that stays at the largest integer instead of overflowing.
std::int64_t product(std::initializer_list<std::int64_t> factors) {
  std::int64_t all = 1;
  for (const std::int64_t factor : factors) {
    if (__builtin_mul_overflow(all, factor, &all)) {
      return INT64_MAX;
    }
  }
  return all;
}

bool has_ring(ContextMethod method) {
  return method == ContextMethod::ring || method == ContextMethod::usp ||
         method == ContextMethod::all_gather || method == ContextMethod::double_ring;
}

bool has_ulysses(ContextMethod method) {
  return method == ContextMethod::ulysses || method == ContextMethod::usp;
}

class Checker {
 public:
  Checker(const ScenarioDraft& draft, Diagnostics& diagnostics)
      : draft_(draft),
        diagnostics_(diagnostics),
        plan_(draft.plan),
        workload_(draft.workload),
        precision_(draft.precision),
        gpus_(draft.gpus.value_or(1)) {}

  std::optional<Scenario> run();

 private:
  void error(const std::string& path, std::string code, std::string message,
             std::string help = "") {
    diagnostics_.error(draft_.place(path), std::move(code), std::move(message), std::move(help));
    broken_ = true;
  }
  void warning(const std::string& path, std::string code, std::string message, std::string help) {
    diagnostics_.warning(draft_.place(path), std::move(code), std::move(message), std::move(help));
  }
  // Only where the draft has them: has_parts() came first.
  [[nodiscard]] const Model& model() const { return *draft_.model; }
  [[nodiscard]] const Cluster& cluster() const { return *draft_.cluster; }
  bool has_parts();
  void choose_mask();
  void check_support();
  void check_cached();
  void check_model();
  void check_precision();
  void check_software();
  void check_context_degrees();
  void choose_degrees();
  void choose_one_degree(std::int64_t& degree, const std::string& key, std::int64_t others);
  bool choose_data();
  void check_zero_group();
  void check_overlaps();
  void check_owners();
  void check_offload();
  void check_host_work();
  void check_reading();
  void say_host_threads(Scenario& scenario) const;
  void check_offloaded_activations();
  void choose_expert_tensor();
  void check_experts();
  void check_expert_degrees();
  void check_experts_of_zero_groups();
  void check_expert_dispatch();
  void check_deepep();
  void check_deepep_nodes();
  void check_expert_workload();
  void check_recompute();
  void check_half_recompute();
  void check_ring_variant();
  void check_chunked();
  void refuse_chunked(const std::string& path, const std::string& what, const std::string& help);
  void check_chunked_recompute();
  void check_chunked_degrees();
  void choose_chunks();
  void choose_pieces_beside(std::int64_t tokens);
  void check_helpers();
  void check_materialised();
  void choose_inner_ring();
  void check_rank_order();
  void say_what_straddles();
  void check_tensor();
  void check_heads();
  void check_sequence();
  void check_batch();
  void check_phase();
  void check_pipeline();
  void check_schedule();
  void check_split_backward();
  void check_stage_layers();
  void check_virtual_group();

  const ScenarioDraft& draft_;
  Diagnostics& diagnostics_;
  Plan plan_;
  Workload workload_;
  Precision precision_;
  std::int64_t gpus_;
  std::vector<std::string> remarks_;
  bool broken_ = false;        ///< some rule is broken
  bool degrees_known_ = true;  ///< no degree is missing or refused
};

// Model, cluster, sequence length: without them nothing else can be said.
bool Checker::has_parts() {
  // What the user did write has been answered where it was read.
  if (!draft_.model) {
    if (!draft_.has("model")) {
      error("", "missing-key", "the scenario has no 'model'",
            "add 'model: llama3-8b' (longhaul list models)");
    }
    broken_ = true;
  }
  if (!draft_.cluster) {
    if (!draft_.has("cluster")) {
      error("", "missing-key", "the scenario has no 'cluster'",
            "add 'cluster: dgx-h100' (longhaul list clusters)");
    }
    broken_ = true;
  }
  if (draft_.workload.sequence_length <= 0) {
    if (!draft_.has("workload.sequence_length")) {
      error("workload", "missing-key", "the scenario has no 'sequence_length'",
            "add 'sequence_length: 128k' to 'workload', or --seq 128k");
    }
    broken_ = true;
  }
  return draft_.model && draft_.cluster;
}

void Checker::choose_mask() {
  const std::int64_t window = model().sliding_window;
  if (draft_.open.mask) {
    workload_.mask = window > 0 ? MaskSpec{MaskKind::window, window} : MaskSpec{};
    if (window > 0) {
      remarks_.push_back(fmt::format("mask: the model's own sliding window of {} keys", window));
    }
  }
  if (workload_.mask.kind == MaskKind::window && workload_.mask.window <= 0) {
    error("workload.mask", "out-of-range", "a window mask needs a window of at least one key",
          "write {window: 4096}");
  }
}

// What can be described but has no schedule yet. Refused here, so that nothing after has to.
void Checker::check_support() {
  const std::string soon = "longhaul has no schedule for it yet";
  if (workload_.phase == Phase::decode) {
    error("workload.phase", "no-schedule", "phase decode: " + soon, "try prefill or train");
  }
  if (plan_.pipeline > 1 && workload_.phase == Phase::attention) {
    error("plan.pipeline", "not-used", "one layer's attention has no pipeline of stages",
          "use pipeline: 1, or phase forward, prefill or train");
  }
}

// New tokens behind those of a cache that is dealt to the ranks as they are.
void Checker::check_cached() {
  const ContextPlan& context = plan_.context;
  if (workload_.cached_tokens == 0) {
    return;
  }
  if (workload_.phase != Phase::prefill) {
    error("workload.cached_tokens", "not-used",
          fmt::format("phase {} has no cache of earlier tokens",
                      word_of(phase_words, workload_.phase)),
          "write phase: prefill, or leave out 'cached_tokens'");
  } else if (context.method == ContextMethod::all_gather ||
             context.variant == RingVariant::helpers ||
             context.variant == RingVariant::materialised) {
    error("plan.context.method", "no-schedule",
          "a ring that gathers all keys, has helpers or stores its scores finds no cached keys: "
          "longhaul has no schedule for it yet",
          "write method: ring with variant: pass_kv or pass_q, ulysses or usp");
  } else if (workload_.cached_tokens % context.ring != 0) {
    error("workload.cached_tokens", "not-divisible",
          fmt::format("{} cached tokens do not divide by the {} ranks of a ring that share them",
                      workload_.cached_tokens, context.ring),
          fmt::format("use a multiple of {}", context.ring));
  }
}

void Checker::check_model() {
  const std::string soon = "longhaul has no schedule for it yet";
  if (has_latent_attention(model()) && workload_.phase == Phase::prefill) {
    error("workload.phase", "no-schedule", "the cache of latent attention: " + soon,
          "use phase forward or train");
  }
}

void Checker::check_precision() {
  if (precision_.compute == DataType::fp32) {
    precision_.states = States::compute;  // a parameter in fp32 is its own master copy
    remarks_.push_back(fmt::format(
        "fp32: no table has products in fp32; they run at bf16's share of {}'s {:.1f} TFLOP/s "
        "without tensor cores, as PyTorch does unless TF32 is allowed",
        cluster().device().title, cluster().device().peak_fp32.value() / 1e12));
  }
  if (precision_.compute == DataType::fp8 && cluster().device().peak_fp8.value() <= 0.0) {
    error("precision.compute", "no-fp8",
          fmt::format("{} has no fp8 tensor cores", cluster().device().title), "use bf16 or fp16");
  }
  if (precision_.gradients == DataType::fp8) {
    error("precision.gradients", "no-schedule", "gradients are summed in bf16, fp16 or fp32",
          "use fp32");
  }
  if (precision_.attention == DataType::fp8 || precision_.attention == DataType::fp32) {
    error("precision.attention", "no-profile",
          fmt::format("attention in {} has no profile",
                      precision_.attention == DataType::fp8 ? "fp8" : "fp32"),
          "use bf16 or fp16");
  }
}

void Checker::check_software() {
  const auto known = [](const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  if (!known(software_names(), draft_.software)) {
    error("software", "unknown-word", "no stack profile is called '" + draft_.software + "'",
          fmt::format("known: {}", fmt::join(software_names(), ", ")));
  }
  if (!draft_.attention_kernel.empty() && !known(attention_kernel_words, draft_.attention_kernel)) {
    error("attention_kernel", "unknown-word",
          "no attention kernel is called '" + draft_.attention_kernel + "'",
          fmt::format("known: {}", fmt::join(attention_kernel_words, ", ")));
  }
}

// A degree that its method does not have.
void Checker::check_context_degrees() {
  const ContextPlan& context = plan_.context;
  const std::string& method = word_of(method_words, context.method);
  const auto refuse = [&](const std::string& key, std::int64_t degree, const char* help) {
    error("plan.context." + key, "not-used",
          context.method == ContextMethod::none
              ? fmt::format("{} degree {} is given without a method", key, degree)
              : fmt::format("{} degree {} is given, but method {} has none", key, degree, method),
          help);
    degrees_known_ = false;
  };
  if (context.ring > 1 && !has_ring(context.method)) {
    refuse("ring", context.ring,
           has_ulysses(context.method) ? "write method: usp for both" : "write method: ring");
  }
  if (context.ulysses > 1 && !has_ulysses(context.method)) {
    refuse("ulysses", context.ulysses,
           context.method == ContextMethod::ring ? "write method: usp for both"
                                                 : "write method: ulysses");
  }
  if (draft_.has("plan.context.order") && context.method == ContextMethod::ulysses) {
    warning("plan.context.order", "not-used", "method ulysses has no order",
            "'order' is how a ring's or an all-gather's sequence is dealt");
  }
}

// What the other degrees leave of the GPUs.
void Checker::choose_one_degree(std::int64_t& degree, const std::string& key, std::int64_t others) {
  if (gpus_ % others != 0) {
    error("plan.context", "not-divisible",
          fmt::format("the {} degree cannot be chosen: {} GPUs do not divide by the other degrees' "
                      "{}",
                      key, gpus_, others),
          fmt::format("give '{}', or other degrees", key));
    degrees_known_ = false;
    return;
  }
  degree = gpus_ / others;
}

void Checker::choose_degrees() {
  ContextPlan& context = plan_.context;
  const bool ring_open = draft_.open.ring && has_ring(context.method);
  const bool ulysses_open = draft_.open.ulysses && has_ulysses(context.method);
  const std::int64_t base = product({plan_.tensor, plan_.pipeline, draft_.data.value_or(1)});
  if (ring_open && ulysses_open) {
    error("plan.context", "missing-key", "method usp needs 'ring' or 'ulysses' (or both)",
          "add 'ulysses: 8' for all-to-all among 8 neighbouring GPUs");
    degrees_known_ = false;
  } else if (ring_open) {
    choose_one_degree(context.ring, "ring", product({base, context.ulysses}));
  } else if (ulysses_open) {
    choose_one_degree(context.ulysses, "ulysses", product({base, context.ring}));
  }
}

// What only some rings have.
void Checker::check_ring_variant() {
  const ContextPlan& context = plan_.context;
  const bool travels = has_ring(context.method) && context.method != ContextMethod::all_gather;
  const std::string& method = word_of(method_words, context.method);
  if (draft_.has("plan.context.variant") && !travels && !context.is_chunked()) {
    error("plan.context.variant", "not-used",
          fmt::format("a ring's variant is given, but method {} has no ring that travels", method),
          "leave out 'variant', or write method: ring");
  }
  check_helpers();
  check_chunked();
  const bool splits = has_ring(context.method) || context.method == ContextMethod::ulysses;
  if (draft_.has("plan.context.packed_qkv") && context.packed_qkv && !splits) {
    error("plan.context.packed_qkv", "not-used",
          fmt::format("q, k, v are packed for an exchange, but method {} has none", method),
          "leave out 'packed_qkv', or write method: ulysses");
  }
  if (draft_.has("plan.context.inner_ring") && context.method != ContextMethod::double_ring &&
      context.method != ContextMethod::usp) {
    error("plan.context.inner_ring", "not-used",
          fmt::format("an inner ring is given, but method {} has none", method),
          "write method: double_ring");
  }
}

// Helpers even out what a causal mask does to a sequence dealt in order.
void Checker::check_helpers() {
  ContextPlan& context = plan_.context;
  if (context.variant == RingVariant::pass_q &&
      (context.method == ContextMethod::double_ring || context.inner_ring > 1)) {
    error("plan.context.variant", "not-supported", "queries do not travel around a double ring",
          "write method: ring, or leave out 'variant'");
  }
  check_materialised();
  if (context.variant != RingVariant::helpers) {
    return;
  }
  if (!draft_.has("plan.context.order")) {
    context.order = SequenceOrder::contiguous;
  }
  if (context.order != SequenceOrder::contiguous) {
    error("plan.context.order", "not-used",
          fmt::format("helpers even out a sequence dealt in order, not a {} one",
                      word_of(order_words, context.order)),
          "write order: contiguous, or leave out 'variant'");
  }
  if (workload_.mask.kind == MaskKind::full) {
    error("plan.context.variant", "not-used",
          "a full mask leaves no rank of a ring idle: there is nobody to help",
          "leave out 'variant', or write mask: causal");
  }
  if (context.method == ContextMethod::double_ring || context.inner_ring > 1) {
    error("plan.context.variant", "not-supported", "a double ring has no helpers",
          "write method: ring, or leave out 'variant'");
  }
}

// Scores of whole rows, which backward needs.
void Checker::check_materialised() {
  const ContextPlan& context = plan_.context;
  if (context.variant != RingVariant::materialised) {
    return;
  }
  if (context.method == ContextMethod::double_ring || context.inner_ring > 1) {
    error("plan.context.variant", "not-supported", "a double ring does not store its scores",
          "write method: ring, or leave out 'variant'");
  }
  if (workload_.phase == Phase::attention && workload_.pass == Pass::backward) {
    error("workload.pass", "not-supported",
          "backward alone has no scores of the forward pass to start from",
          "write pass: forward_backward");
  }
}

void Checker::refuse_chunked(const std::string& path, const std::string& what,
                             const std::string& help) {
  error(draft_.has(path) ? path : "plan.context.variant", "no-schedule",
        "chunked_offload (FPDT) " + what, help);
}

// What FPDT's chunks, which wait in host memory, go with.
void Checker::check_chunked() {
  const ContextPlan& context = plan_.context;
  if (!context.is_chunked()) {
    if (context.chunks > 0) {
      error("plan.context.chunks", "not-used", "chunks are given, but nothing is cut in them",
            "leave out 'chunks', or write method: ulysses and variant: chunked_offload");
    }
    return;
  }
  if (context.method != ContextMethod::ulysses) {
    refuse_chunked("plan.context.method", "is a variant of Ulysses, not of " +
                   word_of(method_words, context.method), "write method: ulysses");
  }
  if (workload_.phase == Phase::prefill) {
    refuse_chunked("workload.phase", "keeps no cache on the GPU", "write phase: forward");
  }
  if (workload_.phase == Phase::attention && workload_.pass == Pass::backward) {
    refuse_chunked("workload.pass", "has no chunks in host memory for backward alone",
                   "write pass: forward_backward");
  }
  if (draft_.attention_kernel == "unfused") {
    refuse_chunked("attention_kernel", "combines chunks by their statistics, which unfused kernels "
                   "do not give", "leave out 'attention_kernel'");
  }
  check_chunked_recompute();
}

// What a chunk leaves in host memory is there for one layer at a time.
void Checker::check_chunked_recompute() {
  const bool inputs_alone = plan_.recompute == Recompute::full && plan_.recompute_layers == 0 &&
                            plan_.recompute_detail == RecomputeDetail::standard;
  if (workload_.phase == Phase::train && !inputs_alone) {
    refuse_chunked("plan.recompute", "keeps nothing of a layer but its input",
                   "write recompute: full, without recompute_detail or recompute_layers");
  }
}

// Once degrees and mask are known.
void Checker::check_chunked_degrees() {
  if (workload_.mask.kind != MaskKind::causal) {
    refuse_chunked("workload.mask", "skips chunks behind a query's own: its mask is causal",
                   "write mask: causal, or leave out 'variant'");
  }
  if (plan_.tensor > 1 || plan_.pipeline > 1) {
    refuse_chunked(plan_.tensor > 1 ? "plan.tensor" : "plan.pipeline",
                   "goes with replicas alone, not with tensor or pipeline parallelism",
                   "write tensor: 1 and pipeline: 1");
  }
  if (plan_.context.ulysses == 1 || model().kv_heads % plan_.context.ulysses != 0) {
    refuse_chunked("plan.context.ulysses",
                   fmt::format("needs several ranks that divide the {} key/value heads, not {}",
                               model().kv_heads, plan_.context.ulysses),
                   "write a 'ulysses' of 2 or more that divides the key/value heads");
  }
  if (has_latent_attention(model())) {
    refuse_chunked("plan.context.variant", "projects q, k and v at once, not latent vectors",
                   "leave out 'variant'");
  }
}

// Left open: the fewest chunks of no more than 64K tokens that divide the sequence, the size that the
// paper finds best (arXiv 2408.16978); its feed-forward takes twice as many.
void Checker::choose_chunks() {
  ContextPlan& context = plan_.context;
  if (!context.is_chunked() || context.method != ContextMethod::ulysses) {
    return;
  }
  check_chunked_degrees();
  constexpr std::int64_t usual_chunk = 65536;
  const std::int64_t tokens =
      workload_.sequence_length / std::max<std::int64_t>(1, context.degree());
  if (context.chunks == 0) {
    context.chunks = (workload_.sequence_length + usual_chunk - 1) / usual_chunk;
    while (context.chunks < tokens && tokens % context.chunks != 0) {
      ++context.chunks;
    }
  }
  if (context.chunks < 1 || tokens % context.chunks != 0) {
    error(draft_.has("plan.context.chunks") ? "plan.context.chunks" : "plan.context.variant",
          "not-divisible",
          fmt::format("{} chunks do not divide a rank's {} tokens", context.chunks, tokens),
          "use a divisor of the tokens of a rank");
    return;
  }
  choose_pieces_beside(tokens);
}

// What goes with attention in chunks where the plan says nothing: twice as many pieces of the MLP,
// and of the loss twice as many as the vocabulary is wider than the model (arXiv 2408.16978).
void Checker::choose_pieces_beside(std::int64_t tokens) {
  const std::int64_t tiles = 2 * plan_.context.chunks;
  const bool has_mlp = expert_layers(model()) < model().layers;
  if (!draft_.has("plan.mlp_tiles") && plan_.mlp_tiles == 1 && has_mlp &&
      workload_.phase != Phase::attention && tokens % tiles == 0) {
    plan_.mlp_tiles = tiles;
  }
  if (draft_.has("plan.loss_chunks") || plan_.loss_chunks > 1 || model().hidden < 1 ||
      workload_.phase != Phase::train) {
    return;
  }
  std::int64_t pieces = std::max<std::int64_t>(1, 2 * model().vocab / model().hidden);
  while (pieces < tokens && tokens % pieces != 0) {
    ++pieces;
  }
  plan_.loss_chunks = pieces < tokens ? pieces : 1;
}

// The inner ring of a double ring, if left open: the ring's ranks on one node.
void Checker::choose_inner_ring() {
  ContextPlan& context = plan_.context;
  if (context.method == ContextMethod::double_ring && draft_.open.inner_ring) {
    const std::int64_t near = cluster().gpus_per_node() /
                              std::gcd(cluster().gpus_per_node(), stride_of(plan_, PlanAxis::ring));
    context.inner_ring = std::gcd(context.ring, near);
  }
  if (context.method != ContextMethod::double_ring && context.method != ContextMethod::usp) {
    return;  // said by check_ring_variant
  }
  if (context.ring % context.inner_ring != 0) {
    error("plan.context.inner_ring", "not-divisible",
          fmt::format("inner_ring {} does not divide ring {}", context.inner_ring, context.ring),
          "a double ring is several inner rings of the same size");
  } else if (context.method == ContextMethod::double_ring && !context.has_double_ring()) {
    remarks_.push_back(fmt::format("double_ring {} in inner rings of {}: a single ring",
                                   context.ring, context.inner_ring));
  }
}

// Every axis with ranks stands in the order, and experts follow the others.
void Checker::check_rank_order() {
  const std::string wrong = rank_order_fault(plan_);
  if (!wrong.empty()) {
    error("plan.rank_order", "bad-order", wrong,
          "name tp, cp (or ulysses and ring), dp and pp, nearest first: tp-cp-dp-pp");
    return;
  }
  const bool says_inner = draft_.has("plan.context.inner") && plan_.context.degree() > 1;
  if (says_inner && inner_of(plan_) != plan_.context.inner) {
    error("plan.rank_order", "contradiction",
          fmt::format("rank_order {} contradicts 'inner: {}'", rank_order_text(plan_),
                      word_of(inner_words, plan_.context.inner)),
          "write cp, and 'inner' decides; or leave out 'inner'");
  }
  plan_.context.inner = inner_of(plan_);
  const int near = std::max(cluster().gpus_per_node(), cluster().nvlink_domain_size());
  const std::int64_t span = product({stride_of(plan_, PlanAxis::tensor), plan_.tensor});
  if (plan_.tensor > 1 && plan_.tensor <= near && span > near) {
    warning("plan.rank_order", "tensor-leaves-node",
            fmt::format("rank_order {} spreads tensor {} over {} GPUs, more than the {} of a node",
                        rank_order_text(plan_), plan_.tensor, span, near),
            "usual plans put tp first");
  }
}

// Groups that would fit where NVLink reaches, but do not divide it, so that some lie half in the next
// one (64 of a rack's 72): those are slow, all wait for them, and nothing else shows why.
void Checker::say_what_straddles() {
  const std::int64_t domain = cluster().nvlink_domain_size();
  const std::int64_t near = std::max<std::int64_t>(cluster().gpus_per_node(), domain);
  const auto say = [&](const char* what, std::int64_t degree, std::int64_t span) {
    if (degree > 1 && span < near && near % span != 0 && gpus_ > near) {
      remarks_.push_back(fmt::format(
          "{} groups over {} neighbouring GPUs do not divide the {} of {}: some cross the network{}",
          what, span, near, domain > cluster().gpus_per_node() ? "an NVLink domain" : "a node",
          domain > cluster().gpus_per_node() ? "; a node with fewer nvlink: domain_nodes leaves "
                                               "the rest of each domain unused" : ""));
    }
  };
  const auto along = [&](const char* what, PlanAxis axis) {
    const std::int64_t degree = degree_of(plan_, axis);
    say(what, degree, product({stride_of(plan_, axis), degree}));
  };
  along("tensor", PlanAxis::tensor);
  along("ulysses", PlanAxis::ulysses);
  along("ring", PlanAxis::ring);
  if (stride_of(plan_, PlanAxis::pipeline) > 1 || plan_.pipeline == 1) {
    say("expert", plan_.expert, product({plan_.expert, plan_.expert_tensor}));
  }
}

// False if the degrees do not make up the GPUs.
bool Checker::choose_data() {
  const ContextPlan& context = plan_.context;
  const std::int64_t ranks = product({plan_.tensor, context.ring, context.ulysses, plan_.pipeline});
  const std::string terms =
      fmt::format("tensor {} x ring {} x ulysses {} x pipeline {}", plan_.tensor, context.ring,
                  context.ulysses, plan_.pipeline);
  if (draft_.data) {
    plan_.data = *draft_.data;
    const std::int64_t all = product({ranks, plan_.data});
    if (all != gpus_) {
      error("plan", "degrees-product",
            fmt::format("{} x data {} = {} GPUs, but the scenario has {}", terms, plan_.data, all,
                        gpus_),
            fmt::format("make the product {}, or write 'data: auto'", gpus_));
    }
    return all == gpus_;
  }
  if (gpus_ % ranks != 0) {
    error("plan", "degrees-product",
          fmt::format("{} GPUs do not divide by {} = {}", gpus_, terms, ranks),
          "choose degrees whose product divides the GPUs");
    return false;
  }
  plan_.data = gpus_ / ranks;
  return true;
}

// Hybrid sharding: a group is all context ranks (if states are shared over them) of some replicas.
void Checker::check_zero_group() {
  const std::int64_t group = plan_.zero_group;
  const std::int64_t context = plan_.shard_over_context ? plan_.context.degree() : 1;
  const std::int64_t all = product({context, plan_.data});
  if (group == 0) {
    return;
  }
  if (plan_.zero == 0) {
    error("plan.zero_group", "not-used", "zero_group is given, but zero: 0 shares no states",
          "write zero: 1, 2 or 3, or leave out 'zero_group'");
  } else if (group == 1) {
    error("plan.zero_group", "out-of-range", "a zero_group of one rank shares nothing",
          "write zero: 0, or a larger group");
  } else if (group % context != 0 || all % group != 0) {
    error("plan.zero_group", "not-divisible",
          fmt::format("zero_group {} is not a number of whole replicas that divides data {} x "
                      "context {}",
                      group, plan_.data, context),
          fmt::format("use a multiple of {} that divides {}", context, all));
  } else if (group == all) {
    plan_.zero_group = 0;  // what is shared by all is not hybrid
  }
}

void Checker::check_recompute() {
  const std::int64_t tokens =
      workload_.sequence_length / std::max<std::int64_t>(1, plan_.context.degree());
  if (plan_.mlp_tiles > 1 && tokens % plan_.mlp_tiles != 0) {
    error("plan.mlp_tiles", "not-divisible",
          fmt::format("mlp_tiles {} does not divide a rank's {} tokens", plan_.mlp_tiles, tokens),
          "use a divisor of the tokens of a rank");
  } else if (plan_.mlp_tiles > 1 && expert_layers(model()) == model().layers) {
    error("plan.mlp_tiles", "not-used",
          "mlp_tiles is given, but every layer of the model has experts in place of an MLP",
          "leave out 'mlp_tiles'");
  } else if (plan_.mlp_tiles > 1 &&
             (plan_.recompute_detail == RecomputeDetail::keep_linear_outputs ||
              plan_.recompute_detail == RecomputeDetail::op_sac)) {
    error("plan.mlp_tiles", "contradiction",
          fmt::format("recompute_detail {} keeps an MLP's outputs, of which an MLP in pieces keeps "
                      "none",
                      word_of(recompute_detail_words, plan_.recompute_detail)),
          "leave out 'mlp_tiles', or write recompute_detail: keep_attention_output");
  }
  if (plan_.loss_chunks > 1 && workload_.phase != Phase::train) {
    error("plan.loss_chunks", "not-used", "loss_chunks is for phase train: others have no loss",
          "leave out 'loss_chunks'");
  } else if (tokens % plan_.loss_chunks != 0) {
    error("plan.loss_chunks", "not-divisible",
          fmt::format("loss_chunks {} does not divide a rank's {} tokens", plan_.loss_chunks,
                      tokens),
          "use a power of two");
  }
  const bool detailed = plan_.recompute_detail != RecomputeDetail::standard;
  if (plan_.recompute == Recompute::none) {
    if (detailed) {
      error("plan.recompute_detail", "not-used", "recompute_detail is given, but recompute is none",
            "write recompute: selective or full");
    }
    if (plan_.recompute_layers > 0) {
      error("plan.recompute_layers", "not-used", "recompute_layers is given, but recompute is none",
            "write recompute: selective or full");
    }
    return;
  }
  if (plan_.recompute_detail == RecomputeDetail::attention_core &&
      plan_.recompute == Recompute::full) {
    error("plan.recompute_detail", "contradiction",
          "recompute: full recomputes more than the attention core",
          "write recompute: selective");
  }
  if (has_latent_attention(model()) && plan_.recompute_detail == RecomputeDetail::op_sac) {
    error("plan.recompute_detail", "no-schedule",
          "longhaul has no schedule yet that keeps every second matrix product of a layer with "
          "latent attention",
          "use recompute_detail: keep_linear_outputs or keep_attention_output, or recompute: "
          "selective or full");
  }
  if (plan_.recompute_layers > model().layers) {
    error("plan.recompute_layers", "out-of-range",
          fmt::format("recompute_layers {} is more than the model's {} layers",
                      plan_.recompute_layers, model().layers),
          "leave it out to recompute in all");
  }
}

// The later half of the sequence, whose attention stays, is the later half of every rank's tokens.
void Checker::check_half_recompute() {
  const ContextPlan& context = plan_.context;
  const auto refuse = [&](const std::string& path, const char* code, const std::string& what,
                          const std::string& help) { error(path, code, what, help); };
  if (plan_.recompute_detail != RecomputeDetail::keep_attention_output_part) {
    return;
  }
  if (context.ring > 1 && context.order == SequenceOrder::contiguous) {
    refuse(draft_.has("plan.context.order") ? "plan.context.order" : "plan.recompute_detail",
           "contradiction",
           "keep_attention_output_part keeps the later half of every rank's tokens, which is not "
           "the later half of a sequence dealt in order",
           "write order: striped or zigzag, or recompute_detail: keep_attention_output");
  }
  if (workload_.mask.kind == MaskKind::full) {
    refuse("plan.recompute_detail", "not-used",
           "under a full mask the first half of the sequence attends to the later half, too",
           "write recompute_detail: keep_attention_output, or mask: causal");
  }
  if (draft_.attention_kernel == "unfused") {
    refuse("attention_kernel", "contradiction",
           "an unfused kernel keeps its scores, of which keep_attention_output_part knows nothing",
           "leave out 'attention_kernel', or use recompute: selective or full");
  }
  if (context.variant == RingVariant::materialised) {
    refuse("plan.context.variant", "contradiction",
           "a ring that stores its scores keeps those of whole sequences, not of their halves",
           "leave out 'variant', or use recompute: selective or full");
  }
  const std::int64_t tokens = workload_.sequence_length / std::max<std::int64_t>(1, context.ring);
  if (tokens % 2 != 0) {
    refuse("plan.recompute_detail", "not-divisible",
           fmt::format("{} tokens of a ring rank have no half", tokens),
           "use an even number of tokens, or recompute_detail: keep_attention_output");
  }
}

// Habits that the plan's ZeRO stage does not have.
void Checker::check_overlaps() {
  const auto refuse = [&](const char* key, const char* stages) {
    error(fmt::format("plan.{}", key), "not-used",
          fmt::format("{} is given, but zero: {} has none", key, plan_.zero),
          fmt::format("it is for zero: {}", stages));
  };
  if (plan_.overlap_gradient_reduction && plan_.zero == 3) {
    refuse("overlap_gradient_reduction", "0 to 2, which can also sum while nothing is computed");
  }
  if (plan_.overlap_parameter_gather && (plan_.zero == 0 || plan_.zero == 3)) {
    refuse("overlap_parameter_gather", "1 or 2, which gather updated weights once a step");
  }
  check_owners();
  if (plan_.overlap_tensor_collectives.value_or(false) && !plan_.sequence_parallel) {
    error("plan.overlap_tensor_collectives", "not-used",
          "overlap_tensor_collectives is given, but without sequence_parallel nothing is gathered",
          "write 'sequence_parallel: true', or leave it out");
  }
  if (plan_.reshard_after_forward && plan_.zero != 3) {
    refuse("reshard_after_forward", "3, which gathers weights for a pass");
  }
  if (plan_.prefetch && plan_.zero != 3) {
    refuse("prefetch", "3, which gathers weights layer by layer");
  }
}

// Whole weights of ZeRO 1 dealt to ranks: docs/models/training_step.md.
void Checker::check_owners() {
  if (plan_.zero_owners && plan_.zero != 1) {
    error("plan.zero_owners", "not-used",
          fmt::format("zero_owners is given, but zero: {} has none", plan_.zero),
          "it is for zero: 1, whose states can be dealt weight by weight");
    return;
  }
  if (!plan_.zero_owners.value_or(false)) {
    return;
  }
  const auto refuse = [&](const char* beside) {
    error("plan.zero_owners", "no-schedule",
          fmt::format("there is no schedule for owners of whole weights beside {}", beside),
          "leave out zero_owners: states are then cut into equal shards");
  };
  if (has_experts(model())) {
    refuse("experts");
  }
  if (plan_.offloads(Offload::optimizer)) {
    refuse("an optimizer in host memory");
  }
  if (plan_.overlap_parameter_gather.value_or(false)) {
    refuse("an overlapped parameter gather");
  }
}

// What may be kept in host memory: docs/models/offload.md.
void Checker::check_offload() {
  const bool trains = workload_.phase == Phase::train;
  const auto refuse = [&](const char* code, const std::string& what, const char* help) {
    error("plan.offload", code, what, help);
  };
  if (plan_.offloads(Offload::optimizer) && !trains) {
    refuse("not-used", "offload of the optimizer is for phase train: others have none",
           "leave out 'optimizer'");
  }
  if (plan_.offloads(Offload::optimizer) && plan_.pipeline > 1 && plan_.zero >= 2 &&
      model().tied_embeddings) {
    refuse("no-schedule",
           "gradients of tied embeddings on two stages leave for host memory layer by layer before "
           "they are added up: longhaul has no schedule for it yet",
           "use zero: 0 or 1, whose gradients leave behind the last micro-batch");
  }
  if (plan_.offloads(Offload::parameters) && plan_.zero != 3) {
    refuse("contradiction",
           fmt::format("parameters in host memory are gathered layer by layer, which zero: {} does "
                       "not do",
                       plan_.zero),
           "write zero: 3, or leave out 'parameters'");
  }
  if (plan_.offloads(Offload::parameters) && trains && !plan_.offloads(Offload::optimizer)) {
    refuse("contradiction", "parameters in host memory are updated there, by the optimizer",
           "add 'optimizer' to 'offload'");
  }
  if (plan_.offloads(Offload::activations)) {
    check_offloaded_activations();
  }
  check_host_work();
}

// What the processor does in host memory, and how copies of gradients get there.
void Checker::check_host_work() {
  if (!plan_.offloads(Offload::optimizer)) {
    const auto refuse = [&](const std::string& key) {
      error("plan." + key, "not-used",
            key + " is about an optimizer in host memory, of which 'offload' says nothing",
            "add 'optimizer' to 'offload', or leave out '" + key + "'");
    };
    if (plan_.host_threads) {
      refuse("host_threads");
    }
    if (plan_.pageable_offload) {
      refuse("pageable_offload");
    }
  }
}

void Checker::check_offloaded_activations() {
  if (workload_.phase != Phase::train) {
    error("plan.offload", "not-used", "offload of activations is for phase train",
          "leave out 'activations'");
  }
}

// Megatron-LM's default: experts are cut like everything else.
void Checker::choose_expert_tensor() {
  if (has_experts(model()) && !draft_.has("plan.expert_tensor")) {
    plan_.expert_tensor = plan_.tensor;
  }
}

void Checker::check_experts() {
  choose_expert_tensor();
  if (!has_experts(model())) {
    for (const char* key : {"plan.expert", "plan.expert_tensor", "plan.expert_dispatch",
                            "plan.expert_dispatch_dtype", "plan.shared_expert_overlap",
                            "workload.expert_imbalance", "workload.expert_capacity"}) {
      if (draft_.has(key)) {
        error(key, "not-used", fmt::format("'{}' is given, but the model has no experts", key),
              "remove it, or use a model with experts (longhaul list models)");
      }
    }
    return;
  }
  if (workload_.phase == Phase::attention) {
    return;
  }
  check_expert_degrees();
  check_expert_workload();
  if (!broken_) {
    check_expert_dispatch();
  }
}

void Checker::check_expert_degrees() {
  const Experts& experts = model().experts;
  const std::int64_t ranks = product({plan_.tensor, plan_.context.degree(), plan_.data});
  const auto divides = [&](const char* key, std::int64_t degree, std::int64_t size,
                           const char* what) {
    if (size % degree != 0) {
      error(key, "not-divisible", fmt::format("{} {} does not divide the {} {}", key, degree, size,
                                              what),
            "choose a degree that divides it");
    }
  };
  divides("plan.expert", plan_.expert, experts.count, "experts of a layer");
  divides("plan.expert_tensor", plan_.expert_tensor, experts.ffn, "columns of an expert");
  divides("plan.tensor", plan_.tensor, experts.shared_ffn, "columns of the shared experts");
  if (ranks % product({plan_.expert, plan_.expert_tensor}) != 0) {
    error("plan.expert", "not-divisible",
          fmt::format("expert {} x expert_tensor {} does not divide tensor {} x context {} x data "
                      "{} = {}",
                      plan_.expert, plan_.expert_tensor, plan_.tensor, plan_.context.degree(),
                      plan_.data, ranks),
          "experts are dealt to ranks of tensor, context and data: choose degrees that divide "
          "them, or another 'expert_tensor' (default: tensor)");
  }
  if (plan_.tensor > 1 && !plan_.sequence_parallel) {
    error("plan.tensor", "no-schedule",
          "experts behind tensor parallelism need every token on one rank only",
          "write 'sequence_parallel: true', as Megatron-LM demands");
  }
  if (plan_.zero_group > 0) {
    check_experts_of_zero_groups();
  }
}

// A ZeRO group's ranks, with their tensor and context ranks, hold every expert as often as another's.
void Checker::check_experts_of_zero_groups() {
  const std::int64_t ranks = product({plan_.tensor, plan_.context.degree(),
                                      plan_.sharing_replicas()});
  const std::int64_t of_experts = product({plan_.expert, plan_.expert_tensor});
  if (ranks % of_experts != 0) {
    error("plan.zero_group", "not-divisible",
          fmt::format("expert {} x expert_tensor {} does not divide the {} ranks of a zero group: "
                      "it would not hold every expert",
                      plan_.expert, plan_.expert_tensor, ranks),
          "choose a larger zero_group, or fewer ranks for the experts");
  }
  for (const PlanAxis axis : {PlanAxis::tensor, PlanAxis::ulysses, PlanAxis::ring}) {
    if (degree_of(plan_, axis) > 1 && stride_of(plan_, axis) > stride_of(plan_, PlanAxis::data)) {
      error("plan.rank_order", "no-schedule",
            "hybrid sharding of experts needs each zero group on neighbouring ranks: data behind "
            "tensor and context",
            "write rank_order: tp-cp-ep-dp-pp, or leave out 'zero_group'");
      return;
    }
  }
}

void Checker::check_expert_dispatch() {
  const bool exchanges = plan_.expert * plan_.expert_tensor > 1;
  const bool direct = plan_.expert_dispatch == ExpertDispatch::alltoall;
  const std::string word = word_of(expert_dispatch_words, plan_.expert_dispatch);
  if (!direct && !exchanges) {
    error("plan.expert_dispatch", "not-used", "all experts stand on every rank",
          "remove it, or deal experts to ranks ('expert')");
  }
  // Megatron-LM: its capacity factor works with alltoall alone, or does not pad with others.
  if (!direct && workload_.expert_capacity > 0.0) {
    error("workload.expert_capacity", "no-schedule",
          fmt::format("{} drops and pads no tokens", word),
          "leave out 'expert_capacity', or write expert_dispatch: alltoall");
  }
  if (!direct && plan_.recompute_detail == RecomputeDetail::op_sac) {
    error("plan.expert_dispatch", "no-schedule",
          "op_sac is torchtitan's, whose experts get their tokens by all-to-alls",
          "write expert_dispatch: alltoall, or another recompute_detail");
  }
  if (plan_.shared_expert_overlap && model().experts.shared_ffn == 0) {
    error("plan.shared_expert_overlap", "not-used", "the model has no shared experts",
          "remove it");
  } else if (plan_.shared_expert_overlap &&
             (plan_.expert == 1 || plan_.expert_dispatch == ExpertDispatch::allgather)) {
    error("plan.shared_expert_overlap", "no-schedule",
          "shared experts run beside exchanges of alltoall or deepep between expert ranks",
          "remove it, or deal experts to ranks by one of the two");
  }
  if (plan_.expert_dispatch == ExpertDispatch::deepep) {
    check_deepep();
  } else if (plan_.fp8_expert_dispatch) {
    error("plan.expert_dispatch_dtype", "no-schedule", "only deepep takes tokens in fp8",
          "write expert_dispatch: deepep, or leave it out");
  }
}

void Checker::check_deepep() {
  if (plan_.expert_tensor > 1) {
    error("plan.expert_dispatch", "no-schedule",
          fmt::format("deepep has no schedule for experts cut over {} ranks", plan_.expert_tensor),
          "write expert_tensor: 1, and deal experts to more ranks instead");
  }
  if (precision_.compute != DataType::bf16 && precision_.compute != DataType::fp8) {
    error("plan.expert_dispatch", "no-schedule", "DeepEP's combine sums bf16 alone",
          "compute in bf16 or fp8, or write expert_dispatch: alltoall");
  }
  const std::vector<std::int64_t> known = deepep_ranks();
  if (plan_.expert > 1 && std::find(known.begin(), known.end(), plan_.expert) == known.end()) {
    error("plan.expert", "out-of-range",
          fmt::format("DeepEP has no configuration for {} ranks", plan_.expert),
          fmt::format("it has some for {}; or write expert_dispatch: alltoall",
                      fmt::join(known, ", ")));
  } else if (plan_.expert > 1) {
    check_deepep_nodes();
  }
  if (plan_.expert > 16 || cluster().device().architecture != "hopper") {
    remarks_.push_back(
        "deepep: its kernels were measured on 8 and 16 Hopper GPUs; on 64 one machine took twice as long");
  }
}

// Within a node its kernels write into each other's memory, between nodes they count on 8 GPUs each.
void Checker::check_deepep_nodes() {
  const std::int64_t each = expert_ranks_per_node(plan_, cluster().gpus_per_node());
  const std::string help =
      "choose 'expert' and 'rank_order' so that expert ranks are neighbours, or write "
      "expert_dispatch: alltoall";
  if (each == 0) {
    error("plan.expert_dispatch", "no-schedule",
          fmt::format("the {} ranks of an expert group do not fill whole nodes of {} GPUs",
                      plan_.expert, cluster().gpus_per_node()),
          help);
  } else if (each > deepep_node_ranks || (each < plan_.expert && each != deepep_node_ranks)) {
    error("plan.expert_dispatch", "no-schedule",
          fmt::format("{} of the {} ranks of an expert group share a node; DeepEP's kernels take up "
                      "to {} on one node, or {} on each of several",
                      each, plan_.expert, deepep_node_ranks, deepep_node_ranks),
          help);
  } else if (each > cluster().nvlink_domain_size()) {
    error("plan.expert_dispatch", "no-schedule",
          "DeepEP's kernels need NVLink between the GPUs of a node",
          "write expert_dispatch: alltoall");
  }
}

void Checker::check_expert_workload() {
  if (workload_.expert_imbalance > static_cast<double>(model().experts.count)) {
    error("workload.expert_imbalance", "out-of-range",
          fmt::format("an expert cannot get {} times the mean of {} experts",
                      workload_.expert_imbalance, model().experts.count),
          "1.0 is balanced");
  }
  if (workload_.expert_capacity > 0.0 && draft_.has("workload.expert_imbalance")) {
    error("workload.expert_imbalance", "not-used",
          "with an expert_capacity every expert computes as many tokens, whatever their balance",
          "remove one of the two");
  }
  if (!draft_.has("workload.expert_imbalance") && workload_.expert_capacity == 0.0) {
    remarks_.push_back(
        "experts: tokens are taken to be balanced (workload.expert_imbalance 1.0)");
  }
}

void Checker::check_tensor() {
  const std::int64_t tensor = plan_.tensor;
  const Model& shape = *draft_.model;
  const auto divides = [&](std::int64_t size, const char* what) {
    if (size % tensor != 0) {
      error("plan.tensor", "not-divisible",
            fmt::format("tensor {} does not divide the model's {} {}", tensor, size, what),
            "choose a tensor degree that divides it");
    }
  };
  divides(shape.kv_heads, "KV heads");
  if (workload_.phase != Phase::attention && expert_layers(shape) < shape.layers) {
    divides(shape.ffn, "MLP columns (ffn)");
  }
  if (plan_.sequence_parallel && tensor == 1) {
    error("plan.sequence_parallel", "not-used", "sequence_parallel needs tensor > 1",
          "remove it, or give a tensor degree");
  }
  const int near = std::max(cluster().gpus_per_node(), cluster().nvlink_domain_size());
  if (tensor > near) {
    warning("plan.tensor", "tensor-leaves-node",
            fmt::format("tensor {} is more than the {} GPUs of a node: its collectives cross the "
                        "network",
                        tensor, near),
            "usual plans keep tensor parallelism inside a node");
  }
}

void Checker::check_heads() {
  const std::int64_t tensor = plan_.tensor;
  const std::int64_t ulysses = plan_.context.ulysses;
  const Model& shape = *draft_.model;
  const std::string path = ulysses > 1 ? "plan.context.ulysses" : "plan.tensor";
  if (shape.heads % product({tensor, ulysses}) != 0) {
    error(draft_.has(path) ? path : "plan.context.method", "not-divisible",
          fmt::format("{} heads do not divide by tensor {} x ulysses {} = {}", shape.heads, tensor,
                      ulysses, product({tensor, ulysses})),
          "every rank computes whole heads; use usp with a smaller ulysses degree and a ring");
    return;
  }
  if (shape.kv_heads % tensor != 0) {
    return;  // said by check_tensor
  }
  const std::int64_t kv_heads = shape.kv_heads / tensor;
  if (kv_heads % ulysses == 0) {
    return;
  }
  const std::string each = tensor > 1 ? " of a tensor rank" : "";
  if (ulysses % kv_heads != 0) {
    error(draft_.has(path) ? path : "plan.context.method", "not-divisible",
          fmt::format("ulysses {} neither divides the {} KV heads{} nor is a multiple of them",
                      ulysses, kv_heads, each),
          "KV heads are dealt whole, or each replicated equally often");
    return;
  }
  remarks_.push_back(fmt::format("ulysses {} > {} KV heads{}: KV replicated {}x", ulysses, kv_heads,
                                 each, ulysses / kv_heads));
}

void Checker::check_sequence() {
  const std::int64_t length = workload_.sequence_length;
  const ContextPlan& context = plan_.context;
  if (length <= 0) {
    return;
  }
  const std::int64_t parts = product({context.ring, context.ulysses});
  const auto refuse = [&](std::int64_t by, const std::string& why) {
    error(
        "workload.sequence_length", "not-divisible",
        fmt::format("sequence_length {} does not divide by {}: {}", length, by, why),
        fmt::format("use a multiple of {}, such as {}", by, by <= length ? length / by * by : by));
  };
  if (length % parts != 0) {
    refuse(parts,
           fmt::format("ring {} x ulysses {} ranks share it", context.ring, context.ulysses));
  } else if (plan_.sequence_parallel && length % product({parts, plan_.tensor}) != 0) {
    refuse(product({parts, plan_.tensor}),
           "Megatron sequence parallelism cuts each rank's tokens over the tensor ranks");
  }
  if (context.ring > 1 && context.order == SequenceOrder::zigzag &&
      length % product({2, context.ring}) != 0 && length % parts == 0) {
    refuse(product({2, context.ring}), "zigzag gives every ring rank two equal chunks");
  }
  const Model& shape = *draft_.model;
  const std::int64_t positions = workload_.cached_tokens + length;
  if (shape.positions == PositionEmbedding::learned && positions > shape.max_positions) {
    error("workload.sequence_length", "out-of-range",
          fmt::format("sequence_length {} is more than the model's {} learned positions", positions,
                      shape.max_positions),
          "use a shorter sequence, or a model with rotary positions");
  }
}

void Checker::check_batch() {
  const std::int64_t together = product({workload_.micro_batch, plan_.data});
  if (workload_.phase != Phase::train && plan_.pipeline == 1) {
    if (draft_.has("workload.global_batch") && workload_.global_batch != together) {
      error("workload.global_batch", "not-used",
            fmt::format("phase {} has no global batch of {}: without a pipeline it runs micro_batch "
                        "{} x data {} sequences once",
                        word_of(phase_words, workload_.phase), workload_.global_batch,
                        workload_.micro_batch, plan_.data),
            "leave out 'global_batch'");
    }
    workload_.global_batch = together;
    return;
  }
  if (draft_.open.global_batch) {
    workload_.global_batch = together;
  } else if (workload_.global_batch % together != 0) {
    error("workload.global_batch", "not-divisible",
          fmt::format("global_batch {} does not divide by micro_batch {} x data {} = {}",
                      workload_.global_batch, workload_.micro_batch, plan_.data, together),
          fmt::format("use a multiple of {}, or fewer replicas", together));
  }
}

// Layers deal to the stages and their chunks, micro-batches to groups of the interleaved schedule.
void Checker::check_pipeline() {
  if (plan_.pipeline == 1) {
    const auto refuse = [&](const std::string& key, bool given) {
      if (given) {
        error("plan." + key, "not-used", fmt::format("'{}' is given without a pipeline", key),
              fmt::format("write pipeline: 4, or leave out '{}'", key));
      }
    };
    refuse("virtual_pipeline", plan_.virtual_pipeline > 1);
    refuse("uneven_stages", plan_.uneven_stages);
    refuse("stage_layers", !plan_.stage_layers.empty());
    refuse("virtual_group", plan_.virtual_group > 0);
    refuse("schedule", draft_.has("plan.schedule"));
    refuse("post_validation", plan_.post_validation.has_value());
    plan_.schedule = PipelineSchedule::one_f_one_b;
    return;
  }
  // What the stack does where the plan leaves it open.
  const auto stack = find_software(draft_.software);
  if (stack && stack->stages_by_cost && plan_.virtual_pipeline == 1 && !plan_.uneven_stages &&
      plan_.stage_layers.empty()) {
    plan_.stage_layers = layers_by_cost(model(), plan_.pipeline);
  }
  check_schedule();
  check_stage_layers();
  check_virtual_group();
}

// What the order of passes is called, and whether the plan has what it needs.
void Checker::check_schedule() {
  const std::string& word = word_of(schedule_words, plan_.schedule);
  const bool chunks = plan_.virtual_pipeline > 1;
  if (plan_.post_validation && !splits_backward(plan_.schedule)) {
    error("plan.post_validation", "not-used",
          fmt::format("post_validation is given, but the stages of schedule {} end their step "
                      "together", word),
          "it is for zb_h1, zb_h2, zb_1p and zb_2p");
  }
  if (plan_.schedule == PipelineSchedule::zb_v) {
    error("plan.schedule", "no-schedule",
          "zb_v deals two chunks to each stage, down the pipeline and up again: longhaul has no "
          "schedule for it yet",
          "use zb_h1, zb_h2, zb_1p or zb_2p");
  } else if (splits_backward(plan_.schedule)) {
    check_split_backward();
  } else if (!chunks && plan_.schedule == PipelineSchedule::interleaved) {
    error("plan.schedule", "contradiction",
          "schedule interleaved needs several chunks on each stage",
          "write virtual_pipeline: 2, or schedule: 1f1b");
  } else if (chunks && plan_.schedule == PipelineSchedule::one_f_one_b &&
             draft_.has("plan.schedule")) {
    error("plan.schedule", "contradiction",
          fmt::format("schedule 1f1b has one chunk on each stage, but virtual_pipeline is {}",
                      plan_.virtual_pipeline),
          "write schedule: interleaved, or leave out 'virtual_pipeline'");
  } else if (chunks) {
    plan_.schedule = PipelineSchedule::interleaved;
  }
}

// Weight gradients apart from the backward pass, as the zero-bubble fork of Megatron-LM makes them:
// docs/models/pipeline.md.
void Checker::check_split_backward() {
  const std::string& word = word_of(schedule_words, plan_.schedule);
  const auto refuse = [&](bool there, const char* key, const std::string& what, const char* help) {
    if (there) {
      error(key, "no-schedule",
            fmt::format("schedule {} makes weight gradients apart from the backward pass; longhaul "
                        "has no schedule for that beside {}", word, what),
            help);
    }
  };
  const char* other = "use schedule: 1f1b, or what is named here without it";
  const auto named = find_software(draft_.software);
  const SoftwareProfile* stack = draft_.stack_override ? draft_.stack_override.get() : named.get();
  refuse(workload_.phase != Phase::train, "workload.phase", "passes without gradients",
         "use phase: train, or schedule: 1f1b");
  refuse(plan_.virtual_pipeline > 1, "plan.virtual_pipeline", "several chunks on a stage",
         "leave out 'virtual_pipeline', or use schedule: interleaved");
  refuse(plan_.zero >= 2, "plan.zero",
         fmt::format("zero: {}, which sums gradients in every micro-batch", plan_.zero),
         "use zero: 0 or 1");
  refuse(!plan_.offload.empty(), "plan.offload", "offload", other);
  refuse(plan_.recompute == Recompute::full || plan_.recompute_layers > 0 ||
             plan_.recompute_detail != RecomputeDetail::standard,
         "plan.recompute", "this recompute: what W needs would have to stay, or be made twice",
         "use recompute: none or selective");
  refuse(expert_layers(model()) > 0, "model", "layers with experts", "use schedule: 1f1b");
  refuse(has_latent_attention(model()), "model", "latent attention", "use schedule: 1f1b");
  refuse(precision_.compute == DataType::fp8, "precision.compute", "fp8", "use bf16 or fp16");
  refuse(plan_.mlp_tiles > 1, "plan.mlp_tiles", "an MLP in pieces", "leave out 'mlp_tiles'");
  refuse(plan_.loss_chunks > 1, "plan.loss_chunks", "a loss in pieces", "leave out 'loss_chunks'");
  refuse(plan_.context.is_chunked(), "plan.context.variant", "a sequence in chunks", other);
  refuse(plan_.overlap_tensor_collectives.value_or(false), "plan.overlap_tensor_collectives",
         "products in pieces", "leave out 'overlap_tensor_collectives'");
  refuse(stack != nullptr && (stack->leaf_gradients || stack->gathers_logits), "software",
         fmt::format("what {} does with gradients or logits", draft_.software),
         "use software: megatron or ideal");
  plan_.overlap_tensor_collectives = false;
}

void Checker::check_stage_layers() {
  const std::int64_t parts = product({plan_.pipeline, plan_.virtual_pipeline});
  const std::vector<std::int64_t> layers = layers_of_parts(model().layers, plan_);
  const std::int64_t sum = std::accumulate(layers.begin(), layers.end(), std::int64_t{0});
  if (plan_.stage_layers.empty() && layers.empty()) {
    error(plan_.virtual_pipeline > 1 ? "plan.virtual_pipeline" : "plan.pipeline", "not-divisible",
          fmt::format("{} layers do not divide by pipeline {} x virtual_pipeline {}{}",
                      model().layers, plan_.pipeline, plan_.virtual_pipeline,
                      plan_.uneven_stages ? ", whatever the first and the last lack" : ""),
          "choose stages and chunks that divide the layers, uneven_stages: true, or list them: "
          "stage_layers: [3, 4, 4, 3]");
  } else if (static_cast<std::int64_t>(layers.size()) != parts || sum != model().layers) {
    error("plan.stage_layers", "not-divisible",
          fmt::format("stage_layers lists {} layers in {} parts, but the model has {} in pipeline "
                      "{} x virtual_pipeline {}",
                      sum, layers.size(), model().layers, plan_.pipeline, plan_.virtual_pipeline),
          "list one number for every part of the model, first to last");
  } else if (*std::max_element(layers.begin(), layers.end()) == 0) {
    error("model", "not-divisible", "a pipeline needs layers", "use pipeline: 1");
  }
}

void Checker::check_virtual_group() {
  const std::int64_t sequences = product({workload_.micro_batch, plan_.data});
  if (plan_.virtual_pipeline == 1) {
    if (plan_.virtual_group > 0) {
      error("plan.virtual_group", "not-used", "'virtual_group' is for interleaved pipelines",
            "write virtual_pipeline: 2, or leave out 'virtual_group'");
    }
    return;
  }
  if (workload_.phase == Phase::attention || workload_.global_batch % sequences != 0) {
    return;  // said by check_support, check_batch
  }
  const std::int64_t micro_batches = workload_.global_batch / sequences;
  const std::int64_t group = virtual_group_of(plan_, micro_batches);
  if (group == 0 || !is_virtual_group(plan_, micro_batches, group)) {
    error(group == 0 ? "plan.virtual_pipeline" : "plan.virtual_group", "not-divisible",
          group == 0 ? fmt::format("the interleaved schedule needs as many micro-batches as "
                                   "stages, but there are {} for {}",
                                   micro_batches, plan_.pipeline)
                     : fmt::format("groups of {} of {} micro-batches: each group, the last one too, "
                                   "needs at least as many as the {} stages",
                                   group, micro_batches, plan_.pipeline),
          "choose a larger global batch, or a 'virtual_group' that divides the micro-batches");
  } else if (group != plan_.pipeline && plan_.virtual_group == 0) {
    remarks_.push_back(fmt::format("interleaved: {} micro-batches in groups of {}, as {} leave "
                                   "fewer than the {} stages over",
                                   micro_batches, group, plan_.pipeline, plan_.pipeline));
  }
}

void Checker::check_phase() {
  if (draft_.has("workload.pass") && workload_.phase != Phase::attention) {
    error("workload.pass", "not-used", "'pass' is for phase attention only",
          "remove it, or write phase: attention");
  }
  if (is_attention_only(model()) && workload_.phase != Phase::attention) {
    error("model", "missing-key",
          fmt::format("the model has no 'ffn' and 'vocab', which phase {} needs",
                      word_of(phase_words, workload_.phase)),
          "add them, or write phase: attention");
  }
  if (draft_.plan.zero < 0 || draft_.plan.zero > 3) {
    error("plan.zero", "out-of-range", "zero is a stage from 0 to 3");
  }
  check_reading();
}

void Checker::check_reading() {
  if (workload_.sample_time > Seconds() && workload_.phase != Phase::train) {
    error("workload.sample_time", "not-used", "'sample_time' is about the data of training",
          "leave it out, or write phase: train");
  }
  if (plan_.loader_workers && workload_.sample_time <= Seconds()) {
    error("plan.loader_workers", "not-used",
          "loader_workers is about reading data, of which 'sample_time' says nothing",
          "say what a sequence takes (workload: sample_time: 20 ms), or leave out 'loader_workers'");
  }
}

std::optional<Scenario> Checker::run() {
  check_support();
  check_software();
  check_context_degrees();
  check_ring_variant();
  if (!has_parts()) {
    return std::nullopt;
  }
  choose_mask();
  check_model();
  check_precision();
  check_phase();
  choose_degrees();
  check_tensor();
  if (degrees_known_) {
    check_heads();
    check_sequence();
    check_cached();
    choose_chunks();
    if (choose_data()) {
      check_rank_order();
      choose_inner_ring();
      say_what_straddles();
      check_zero_group();
      check_overlaps();
      check_offload();
      check_experts();
      check_recompute();
      check_half_recompute();
      check_batch();
      check_pipeline();
    }
  }
  if (broken_) {
    return std::nullopt;
  }
  Scenario scenario{model(),
                    cluster(),
                    gpus_,
                    workload_,
                    plan_,
                    precision_,
                    draft_.software,
                    draft_.attention_kernel,
                    std::move(remarks_),
                    draft_.stack_override};
  scenario.deterministic = draft_.deterministic;
  scenario.expandable_segments = draft_.expandable_segments;
  const NodeSpec& node = cluster().spec().node;
  scenario.host_speed = node.host.speed;
  scenario.node_gpus = cluster().gpus_per_node();
  scenario.host_cores = node.host.cores;
  scenario.ranks_of_a_host = std::min<std::int64_t>(gpus_, node.gpus);
  say_host_threads(scenario);
  return scenario;
}

// How many threads a launcher leaves a rank decides how long its host takes, and nobody sees it.
void Checker::say_host_threads(Scenario& scenario) const {
  if (!plan_.offloads(Offload::optimizer) || plan_.host_threads ||
      !scenario.stack().states_host_threads) {
    return;
  }
  const std::int64_t set = scenario.host_threads();
  const std::string threads =
      set > 0 ? fmt::format("{} thread{} per rank", set, set > 1 ? "s" : "")
              : std::string("the ranks of a node share its cores");
  scenario.remarks.push_back(fmt::format(
      "optimizer in host memory: {}, as {}'s launcher leaves it; plan.host_threads says otherwise{}",
      threads, scenario.software,
      set > 0 ? "" : ", and threads that are not bound to cores take longer"));
}

std::optional<Cluster> find_drafts_cluster(const ScenarioDraft& draft, Diagnostics& diagnostics) {
  const ClusterSize size{draft.gpus};
  if (draft.cluster_value) {
    return read_cluster(*draft.cluster_value, size, diagnostics);
  }
  if (draft.cluster_name.empty()) {
    return std::nullopt;
  }
  return find_cluster(draft.cluster_name, size, draft.place("cluster"), diagnostics);
}

// Every flow of a collective is looked at once before equal ranks are folded: 1.3 GB here.
constexpr std::int64_t most_gpus = 262144;

// A cluster that is too small is not the mistake of the cluster's file: points at the user's GPUs.
void append_with_gpus(const ScenarioDraft& draft, const Diagnostics& from, Diagnostics& to) {
  Diagnostics moved;
  for (const Diagnostic& diagnostic : from.all()) {
    const bool too_many = diagnostic.code == "too-many-gpus" && draft.has("gpus");
    const Place place = too_many ? draft.place("gpus") : diagnostic.place;
    switch (diagnostic.severity) {
      case Severity::error:
        moved.error(place, diagnostic.code, diagnostic.message, diagnostic.help);
        break;
      case Severity::warning:
        moved.warning(place, diagnostic.code, diagnostic.message, diagnostic.help);
        break;
      case Severity::note:
        moved.note(place, diagnostic.code, diagnostic.message, diagnostic.help);
        break;
    }
  }
  to.append(moved);
}

}  // namespace

void resolve_cluster(ScenarioDraft& draft, Diagnostics& diagnostics) {
  if (!draft.cluster) {
    Diagnostics own;
    draft.cluster = find_drafts_cluster(draft, own);
    append_with_gpus(draft, own, diagnostics);
  }
  if (!draft.cluster) {
    return;
  }
  const std::int64_t offered = draft.cluster->gpu_count();
  if (draft.gpus.value_or(offered) > offered) {
    diagnostics.error(draft.place("gpus"), "too-many-gpus",
                      fmt::format("{} GPUs are asked for, but cluster {} has {}", *draft.gpus,
                                  draft.cluster->name(), offered),
                      fmt::format("use at most {}", offered));
  } else if (draft.gpus.value_or(offered) > most_gpus) {
    diagnostics.error(draft.place("gpus"), "too-many-gpus",
                      fmt::format("{} GPUs are asked for; a simulation has room for {}",
                                  draft.gpus.value_or(offered), most_gpus),
                      "simulate fewer replicas: what they compute is the same, and only the "
                      "data-parallel collectives grow");
  }
  draft.gpus = draft.gpus.value_or(offered);
}

std::optional<Scenario> check_scenario(const ScenarioDraft& draft, Diagnostics& diagnostics) {
  // Mistakes of this scenario only, so that others recorded before do not make it vanish.
  Diagnostics own;
  ScenarioDraft resolved = draft;
  resolve_cluster(resolved, own);
  std::optional<Scenario> scenario = Checker(resolved, own).run();
  diagnostics.append(own);
  return own.has_errors() ? std::nullopt : scenario;
}

}  // namespace longhaul
