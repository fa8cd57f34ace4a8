// Plans drawn at random, every part of one beside every other: what check_scenario accepts is lowered,
// computes what one GPU computes, does the model's work and no more, and holds its states.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/program/cursor.h"
#include "sim/scenario/read_scenario.h"
#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proven.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

// The same draws on every machine: distributions of <random> are not.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(count));
  }
  bool once_in(std::int64_t times) { return below(times) == 0; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<std::int64_t>(choices.size()))];
  }

 private:
  std::mt19937_64 engine_;
};

Model draw_model(Draw& draw) {
  Model model = small_llama(8, draw.of<std::int64_t>({8, 4, 2}));
  model.layers = draw.of<std::int64_t>({2, 4, 4, 5});
  model.hidden = 16;
  model.ffn = 24;
  model.vocab = 24;
  model.gated_mlp = !draw.once_in(4);
  model.tied_embeddings = draw.once_in(4);
  if (draw.once_in(3)) {
    model.gated_mlp = true;
    model.experts = {4, 2, 8, draw.of<std::int64_t>({0, 8})};
    model.experts.dense_layers = draw.of<std::int64_t>({0, 1, 2});
    model.experts.period = draw.of<std::int64_t>({1, 2});
    if (expert_layers(model) == 0) {
      model.experts.dense_layers = 0;
      model.experts.period = 1;
    }
  }
  if (draw.once_in(6)) {
    model.kv_heads = 8;
    model.head_dim = 6;
    model.latent = {draw.of<std::int64_t>({0, 12}), 8, 4, 2, 4};
  }
  return model;
}

void draw_context(Draw& draw, ContextPlan& context) {
  using M = ContextMethod;
  context.method = draw.of({M::none, M::ring, M::ulysses, M::usp, M::all_gather, M::double_ring});
  if (context.method == M::ulysses || context.method == M::usp) {
    context.ulysses = draw.of<std::int64_t>({2, 4});
    context.packed_qkv = draw.once_in(3);
  }
  if (context.method != M::none && context.method != M::ulysses) {
    context.ring = context.method == M::double_ring ? 4 : draw.of<std::int64_t>({2, 4});
  }
  context.inner_ring = context.method == M::double_ring ? 2 : 1;
  context.order =
      draw.of({SequenceOrder::zigzag, SequenceOrder::striped, SequenceOrder::contiguous});
  if (context.ring > 1 && context.method != M::all_gather) {
    context.variant = draw.of({RingVariant::pass_kv, RingVariant::pass_kv,
                               RingVariant::q_side_backward, RingVariant::helpers,
                               RingVariant::pass_q});
  }
}

void draw_recompute(Draw& draw, Plan& plan) {
  using D = RecomputeDetail;
  plan.recompute = draw.of({Recompute::none, Recompute::selective, Recompute::full});
  if (plan.recompute == Recompute::full) {
    plan.recompute_detail = draw.of({D::standard, D::standard, D::keep_attention_output,
                                     D::keep_attention_output_part, D::keep_linear_outputs,
                                     D::op_sac});
  }
  if (plan.recompute != Recompute::none) {
    plan.recompute_layers = draw.of<std::int64_t>({0, 0, 1, 2});
  }
  plan.mlp_tiles = draw.once_in(4) ? 2 : 1;
  plan.loss_chunks = draw.once_in(4) ? 2 : 1;
}

void draw_dispatch(Draw& draw, const Model& model, Plan& plan) {
  using D = ExpertDispatch;
  if (plan.expert * plan.expert_tensor == 1) {
    return;
  }
  plan.expert_dispatch = draw.of({D::alltoall, D::alltoall, D::allgather, D::deepep});
  plan.fp8_expert_dispatch = plan.expert_dispatch == D::deepep && draw.once_in(3);
  plan.shared_expert_overlap = plan.expert_dispatch != D::allgather && plan.expert > 1 &&
                               model.experts.shared_ffn > 0 && draw.once_in(2);
}

void draw_states(Draw& draw, const Model& model, Plan& plan) {
  plan.zero = static_cast<int>(draw.below(4));
  plan.shard_over_context = !draw.once_in(4);
  if (plan.zero == 3 && draw.once_in(2)) {
    plan.reshard_after_forward = draw.once_in(2);
    plan.prefetch = draw.below(3);
  }
  if (plan.zero > 0 && draw.once_in(has_experts(model) ? 2 : 5)) {
    plan.zero_group = 2 * (plan.shard_over_context ? plan.context.degree() : 1);
  }
  if (draw.once_in(5)) {
    plan.offload.push_back(Offload::optimizer);
    if (plan.zero == 3 && draw.once_in(2)) {
      plan.offload.push_back(Offload::parameters);
    }
  }
  if (draw.once_in(6)) {
    plan.offload.push_back(Offload::activations);
  }
  if (has_experts(model)) {
    plan.expert = draw.of<std::int64_t>({1, 2, 4});
    plan.expert_tensor = draw.once_in(2) ? plan.tensor : 1;
    draw_dispatch(draw, model, plan);
  }
}

// Some plans with what attention in chunks wants in place of what it does not go with.
void draw_chunks(Draw& draw, ScenarioDraft& draft) {
  if (!draw.once_in(8) || has_latent_attention(*draft.model)) {
    return;
  }
  Plan& plan = draft.plan;
  plan.context = ContextPlan();
  plan.context.method = ContextMethod::ulysses;
  plan.context.ulysses = 2;
  plan.context.variant = RingVariant::chunked_offload;
  plan.context.chunks = draw.of<std::int64_t>({1, 2, 4});
  plan.context.packed_qkv = draw.once_in(3);
  plan.tensor = plan.pipeline = plan.virtual_pipeline = plan.expert_tensor = 1;
  plan.sequence_parallel = plan.uneven_stages = false;
  plan.zero_group = 0;
  plan.recompute = Recompute::full;
  plan.recompute_detail = RecomputeDetail::standard;
  plan.recompute_layers = 0;
  draft.workload.mask = MaskSpec{};
  draft.gpus = 2 * plan.data;
}

ScenarioDraft draw_draft(Draw& draw) {
  ScenarioDraft draft = empty_draft();
  draft.open = {};
  draft.model = draw_model(draw);
  draft.cluster_name = "dgx-h100";
  Plan& plan = draft.plan;
  plan.tensor = draw.of<std::int64_t>({1, 1, 2});
  plan.sequence_parallel = plan.tensor > 1 && !draw.once_in(3);
  plan.pipeline = draw.of<std::int64_t>({1, 1, 2, 2, 4});
  plan.virtual_pipeline = plan.pipeline > 1 ? draw.of<std::int64_t>({1, 2}) : 1;
  plan.uneven_stages = plan.pipeline > 1 && draw.once_in(4);
  plan.data = draw.of<std::int64_t>({1, 2, 4});
  draw_context(draw, plan.context);
  draw_recompute(draw, plan);
  draw_states(draw, *draft.model, plan);
  draft.data = plan.data;
  draft.gpus = plan.tensor * plan.pipeline * plan.data * plan.context.degree();
  draft.workload.phase = Phase::train;
  draft.workload.sequence_length = 16;
  draft.workload.mask = draw.once_in(5) ? MaskSpec{MaskKind::window, 5} : MaskSpec{};
  draft.workload.global_batch =
      plan.data * (plan.virtual_pipeline > 1 ? plan.pipeline : draw.of<std::int64_t>({1, 2, 3}));
  draft.workload.expert_imbalance = 2.0;  // room for all tokens of 4 experts, of which each takes 2
  draft.software = draw.of<const char*>({"ideal", "megatron", "fsdp", "deepspeed", "nanotron"});
  draft.precision.states =
      draw.of({States::mixed, States::mixed, States::compute, States::fp32});
  draw_chunks(draw, draft);
  if (plan.zero == 1 && draw.once_in(2)) {
    plan.zero_owners = true;
  }
  return draft;
}

// Legal scenarios among the draws; why the others were refused is for `refused`.
std::optional<Scenario> checked(const ScenarioDraft& draft, std::map<std::string, int>& refused) {
  Diagnostics diagnostics;
  auto scenario = check_scenario(draft, diagnostics);
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    refused[diagnostic.code + ": " + diagnostic.message] +=
        diagnostic.severity == Severity::error ? 1 : 0;
  }
  return scenario;
}

// True if the executor can compute it in reasonable time: shards of weights that do not divide are
// flat parts, which it cannot.
bool is_computable(const Scenario& scenario) {
  const Plan& plan = scenario.plan;
  const std::int64_t context = plan.shard_over_context ? plan.context.degree() : 1;
  const std::int64_t shards = plan.zero == 0 ? 1 : plan.sharing_replicas() * context;
  const std::int64_t ranks = plan.tensor * plan.context.degree() * plan.data;
  const std::int64_t owners = plan.zero == 0 ? 1 : ranks / (plan.expert * plan.expert_tensor);
  const bool cuts_experts = !has_experts(scenario.model) || 4 % owners == 0;
  return scenario.gpus <= 16 && 4 % shards == 0 && cuts_experts;
}

// FLOPs of matrix products on all ranks, apart from what is recomputed.
double matrix_flops(const Program& program) {
  double flops = 0.0;
  const auto elements = [&](const TensorRef& ref) {
    const Tensor& tensor = program.tensor(ref.tensor);
    double all = static_cast<double>(tensor.elements());
    if (ref.slice_dim) {
      all *= static_cast<double>(ref.slice_length) /
             static_cast<double>(tensor.shape[static_cast<std::size_t>(*ref.slice_dim)]);
    }
    return all;
  };
  for (std::int64_t rank = 0; rank < program.mesh.ranks(); ++rank) {
    for (Cursor cursor(program, RankId(rank)); !cursor.done(); cursor.advance()) {
      const Instruction& instruction = cursor.instruction();
      if (instruction.op == Op::gemm && instruction.part != Part::recompute) {
        flops += 2.0 * std::sqrt(elements(instruction.reads[0]) * elements(instruction.reads[1]) *
                                 elements(instruction.writes[0]));
      }
    }
  }
  return flops;
}

// Matrix products of a step, whoever does them: all but attention's.
void check_work(const Scenario& scenario, const Program& program) {
  const double done = matrix_flops(program);
  if (has_experts(scenario.model) || has_latent_attention(scenario.model)) {
    return;  // rows are rounded up; latent projections run on every tensor rank
  }
  const Model& model = scenario.model;
  const auto tokens = static_cast<double>(scenario.workload.global_batch *
                                          scenario.workload.sequence_length);
  const ParameterCounts counts = count_parameters(model);
  const auto matrices = static_cast<double>(model.layers * (counts.attention + counts.mlp) +
                                            model.vocab * model.hidden);
  CHECK_THAT(done, Catch::Matchers::WithinRel(6.0 * matrices * tokens, 1e-12));
}

// Every weight and its optimizer's states are somewhere, on a GPU or its host.
void check_states(const Scenario& scenario, const Program& program) {
  std::int64_t elements = 0;
  for (std::int64_t rank = 0; rank < program.mesh.ranks(); ++rank) {
    for (const Tensor& tensor : program.tensors) {
      if (tensor.name.starts_with("moment1.")) {
        elements += tensor.elements() * tensor.held_slots(program.mesh, RankId(rank));
      }
    }
  }
  CHECK(elements >= count_parameters(scenario.model).total);
}

// What the program computes equals what one GPU does; half of the draws in another legal order.
void check_outputs(const Scenario& scenario, const Program& program, std::uint64_t seed) {
  const ExecutionOrder order =
      seed % 2 == 0 ? ExecutionOrder::program : ExecutionOrder::any_legal;
  const Verdict verdict = prove(scenario, program, order, seed);
  INFO(verdict.why << ": " << verdict.error);
  CHECK(is_proven(verdict));
}


// On every rank the peak holds the rank's weights and optimizer's states, and something besides.
void check_peak(const Scenario& scenario, const Program& program) {
  Diagnostics diagnostics;
  const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
  const Timeline timeline = simulate(program, scenario.cluster, kernels, transport);
  CHECK(timeline.end > SimTime());
  for (std::size_t rank = 0; rank < timeline.memory.size(); ++rank) {
    std::int64_t states = 0, peak = 0;
    for (const Tensor& tensor : program.tensors) {
      if (tensor.persistent && !tensor.view && !tensor.in_host_memory) {
        states += static_cast<std::int64_t>(tensor.slot_bytes().value()) *
                  tensor.held_slots(program.mesh, RankId(rank));
      }
    }
    for (const std::int64_t bytes : timeline.memory[rank].bytes) {
      peak += bytes;
    }
    INFO("rank " << rank);
    CHECK(peak > states);
  }
}

}  // namespace

TEST_CASE("whatever plan is legal trains the model of one GPU, does its work and holds its states") {
  std::map<std::string, int> refused;
  int accepted = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    Draw draw(seed);
    const auto scenario = checked(draw_draft(draw), refused);
    if (!scenario || !is_computable(*scenario)) {
      continue;
    }
    ++accepted;
    INFO("draw " << seed << ": " << describe(*scenario));
    INFO("pipeline " << scenario->plan.pipeline << " x " << scenario->plan.virtual_pipeline
                     << ", software " << scenario->software);
    const Program program = lower(*scenario);
    check_outputs(*scenario, program, seed);
    check_work(*scenario, program);
    check_states(*scenario, program);
    check_peak(*scenario, program);
  }
  for (const auto& [why, times] : refused) {
    UNSCOPED_INFO(times << " x " << why);
  }
  CHECK(accepted >= 300);
}

TEST_CASE("whatever plan is legal prefills as one GPU does, behind whatever is cached") {
  std::map<std::string, int> refused;
  int accepted = 0;
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    Draw draw(seed + 5000);
    ScenarioDraft draft = draw_draft(draw);
    draft.workload.phase = Phase::prefill;
    draft.workload.cached_tokens = draw.of<std::int64_t>({0, 8, 20});
    // Room for all tokens, whatever experts they pass.
    draft.workload.expert_imbalance = 2.0;
    draft.workload.expert_capacity =
        draft.plan.expert_dispatch == ExpertDispatch::alltoall ? 2.0 : 0.0;
    draft.plan.offload.clear();
    draft.plan.loss_chunks = 1;
    if (draft.plan.pipeline == 1) {
      draft.workload.global_batch = draft.plan.data;
    }
    const auto scenario = checked(draft, refused);
    if (!scenario || !is_computable(*scenario)) {
      continue;
    }
    ++accepted;
    INFO("draw " << seed << ": " << describe(*scenario));
    INFO("pipeline " << scenario->plan.pipeline << " x " << scenario->plan.virtual_pipeline << ", "
                     << scenario->workload.cached_tokens << " cached");
    const Program program = lower(*scenario);
    check_outputs(*scenario, program, seed);
    check_peak(*scenario, program);
  }
  for (const auto& [why, times] : refused) {
    UNSCOPED_INFO(times << " x " << why);
  }
  CHECK(accepted >= 180);
}

// The same draws with what split backward passes do not go with left out.
TEST_CASE("whatever zero-bubble plan is legal trains the model of one GPU") {
  using S = PipelineSchedule;
  std::map<std::string, int> refused;
  int accepted = 0;
  for (std::uint64_t seed = 1; seed <= 900; ++seed) {
    Draw draw(seed + 9000);
    ScenarioDraft draft = draw_draft(draw);
    Plan& plan = draft.plan;
    draft.model->experts = {};
    draft.model->latent = {};
    plan.expert = plan.expert_tensor = plan.mlp_tiles = plan.loss_chunks = plan.virtual_pipeline = 1;
    plan.expert_dispatch = ExpertDispatch::alltoall;
    plan.fp8_expert_dispatch = plan.shared_expert_overlap = false;
    plan.offload.clear();
    plan.recompute = draw.of({Recompute::none, Recompute::selective});
    plan.recompute_detail = RecomputeDetail::standard;
    plan.recompute_layers = 0;
    plan.zero = static_cast<int>(draw.below(2));
    plan.reshard_after_forward = std::nullopt;
    plan.prefetch = std::nullopt;
    plan.pipeline = draw.of<std::int64_t>({2, 2, 4});
    plan.schedule = draw.of({S::zb_h1, S::zb_h2, S::zb_1p, S::zb_2p});
    draft.gpus = plan.tensor * plan.pipeline * plan.data * plan.context.degree();
    draft.workload.global_batch = plan.data * (1 + draw.below(7));
    auto scenario = checked(draft, refused);
    if (!scenario || !is_computable(*scenario)) {
      continue;
    }
    if (draw.once_in(2)) {
      scenario->pass_costs.emplace();
      for (std::int64_t stage = 0; stage < plan.pipeline; ++stage) {
        scenario->pass_costs->forward.push_back(1 + draw.below(20));
        scenario->pass_costs->backward.push_back(1 + draw.below(20));
        scenario->pass_costs->weights.push_back(1 + draw.below(20));
        scenario->pass_costs->held.push_back(1 + draw.below(20));
        scenario->pass_costs->kept.push_back(1 + draw.below(20));
      }
      scenario->pass_costs->message = draw.below(20);
    }
    ++accepted;
    INFO("draw " << seed << ": " << describe(*scenario));
    INFO("pipeline " << plan.pipeline << ", schedule " << static_cast<int>(plan.schedule));
    const Program program = lower(*scenario);
    check_outputs(*scenario, program, seed);
    check_work(*scenario, program);
    check_states(*scenario, program);
    check_peak(*scenario, program);
  }
  for (const auto& [why, times] : refused) {
    UNSCOPED_INFO(times << " x " << why);
  }
  CHECK(accepted >= 100);
}
