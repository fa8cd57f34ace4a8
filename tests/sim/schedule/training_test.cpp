// A training step's structure: exchanges per layer, memory of states and of what is saved.
#include <algorithm>
#include <catch2/catch.hpp>

#include "sim/program/attention_calls.h"
#include "sim/schedule/lower.h"
#include "sim/schedule/mixture.h"
#include "sim/schedule/parameters.h"
#include "sim/units/check.h"
#include "tests/sim/schedule/small_scenarios.h"
#include "tests/sim/schedule/walk.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

struct StateBytes {
  std::int64_t parameters = 0, gradients = 0, optimizer = 0;
};

StateBytes states_of(const Scenario& scenario) {
  const Program program = lower(scenario);
  StateBytes states;
  for (const Tensor& tensor : program.tensors) {
    const auto bytes = static_cast<std::int64_t>(tensor.slot_bytes().value()) * tensor.slots;
    if (tensor.persistent && !tensor.view) {
      states.parameters += tensor.category == MemoryCategory::parameters ? bytes : 0;
      states.gradients += tensor.category == MemoryCategory::gradients ? bytes : 0;
      states.optimizer += tensor.category == MemoryCategory::optimizer ? bytes : 0;
    }
  }
  return states;
}

Plan plain(std::int64_t data, int zero) {
  Plan plan;
  plan.data = data;
  plan.zero = zero;
  return plan;
}

// Activations held when the loss is computed: everything the forward pass saved.
std::int64_t saved_at_loss(const Scenario& scenario) {
  std::int64_t saved = 0;
  const Program program = lower(scenario);
  const Walk walk(program, 0, [&](const Walk& at, const Instruction& instruction) {
    if (instruction.op == Op::loss) {
      saved = at.held(MemoryCategory::activations);
    }
  });
  return saved;
}

Walk walk_training(const Model& model, const Plan& plan) {
  const Program program = lower(scenario_of(model, Phase::train, plan));
  return Walk(program);
}

}  // namespace

TEST_CASE("every parameter of a model is stored, with its gradient and three optimizer states") {
  // bf16 weights, fp32 gradients, fp32 master weights and two moments: 2 + 4 + 12 bytes each.
  Model qwen = small_llama();
  qwen.attention_bias = qwen.qk_norm = true;
  Model deepseek = small_llama(8, 8);
  deepseek.latent = {12, 8, 4, 2, 4};
  deepseek.head_dim = 6;
  deepseek.experts = {4, 2, 12, 24, true, 1, 1, Router::sigmoid, true};
  for (const Model& model : {small_llama(), small_gpt(), qwen, deepseek}) {
    const std::int64_t count = count_parameters(model).total;
    const StateBytes states = states_of(scenario_of(model, Phase::train, plain(1, 1)));
    CHECK(states.parameters == 2 * count);
    CHECK(states.gradients == 4 * count);
    CHECK(states.optimizer == 12 * count);
  }
}

TEST_CASE(
    "ZeRO cuts optimizer states, then gradients, then parameters by the ranks that share them") {
  // arXiv 1910.02054, figure 1, with fp32 gradients; 4 ranks, every size divides.
  const std::int64_t count = count_parameters(small_llama()).total;
  const auto states = [](int zero) {
    return states_of(scenario_of(small_llama(), Phase::train, plain(4, zero)));
  };
  CHECK(states(0).optimizer == 12 * count);
  CHECK(states(1).optimizer == 12 * count / 4);
  CHECK(states(1).gradients == 4 * count);
  CHECK(states(1).parameters == 2 * count);
  CHECK(states(2).gradients == 4 * count / 4);
  CHECK(states(2).parameters == 2 * count);
  CHECK(states(3).parameters == 2 * count / 4);
  CHECK(states(3).gradients == 4 * count / 4);
  CHECK(states(3).optimizer == 12 * count / 4);
}

TEST_CASE("hybrid sharding cuts states by the group and sends 2 (G-1)/G of a shard between groups") {
  // 8 replicas in groups of 4. A rank reduce-scatters 3/4 of all gradients in its group and then
  // all-reduces its quarter with the one other group: 2 x 1/2 of a quarter.
  const std::int64_t count = count_parameters(small_llama()).total;
  for (const int zero : {1, 3}) {
    Plan plan = plain(8, zero);
    plan.zero_group = 4;
    const Scenario scenario = scenario_of(small_llama(), Phase::train, plan);
    CHECK(states_of(scenario).optimizer == 12 * count / 4);
    const Walk walk(lower(scenario));
    const std::int64_t element = 4;
    // ZeRO 3 scatters what kernels wrote in bf16, and sums the shards in fp32.
    const std::int64_t scattered = zero == 3 ? 2 : element;
    CHECK(walk.sent(Op::reduce_scatter, Stream::data) == scattered * count * 3 / 4);
    CHECK(walk.sent(Op::all_reduce, Stream::outer) == element * count / 4);
  }
}

namespace {

// Four experts of a 32 x 12 gated MLP, two shared widths; what of its parameters is routed.
struct SmallMixture {
  Model model = small_llama();
  std::int64_t routed = 0;
  std::int64_t rest = 0;
};

SmallMixture small_mixture() {
  SmallMixture made;
  made.model.experts.count = 4;
  made.model.experts.per_token = 2;
  made.model.experts.ffn = 12;
  made.model.experts.shared_ffn = 24;
  const ParameterCounts counts = count_parameters(made.model);
  made.routed = made.model.layers * 4 * counts.expert;
  made.rest = counts.total - made.routed;
  return made;
}

}  // namespace

TEST_CASE("experts are stored once per expert rank, their optimizer states shared by the rest") {
  const auto [model, routed, rest] = small_mixture();
  for (const std::int64_t expert : {1, 2, 4}) {
    Plan plan = plain(8, 1);
    plan.expert = expert;
    const StateBytes states = states_of(scenario_of(model, Phase::train, plan));
    CHECK(states.parameters == 2 * (rest + routed / expert));
    CHECK(states.gradients == 4 * (rest + routed / expert));
    // However the experts are dealt, 8 ranks hold each of their states once.
    CHECK(states.optimizer == 12 * (rest + routed) / 8);
  }
}

TEST_CASE("a zero group holds all experts, its ranks share their states, and groups sum them") {
  const auto [model, routed, rest] = small_mixture();
  for (const std::int64_t expert : {1, 2, 4}) {
    Plan plan = plain(8, 1);
    plan.expert = expert;
    plan.zero_group = 4;
    const Scenario scenario = scenario_of(model, Phase::train, plan);
    // 4 ranks hold every expert's states once, however the experts are dealt among them.
    CHECK(states_of(scenario).optimizer == 12 * (rest + routed) / 4);
    const Walk walk(lower(scenario));
    // In fp32: experts held twice or four times are scattered over that many ranks, ...
    const std::int64_t held = 4 / expert;
    CHECK(walk.sent(Op::reduce_scatter, Stream::data) ==
          4 * (rest * 3 / 4 + routed / expert * (held - 1) / held));
    // ... and with the other group each rank sums its quarter: 2 x 1/2 of it. Experts that a group
    // holds once are summed as without ZeRO.
    const bool once = expert == 4;
    CHECK(walk.sent(Op::all_reduce, Stream::outer) == rest + (once ? 0 : routed));
    CHECK(walk.sent(Op::all_reduce, Stream::data) == (once ? routed : 0));
  }
}

TEST_CASE("a layer sends each token to its experts and back, forward and backward") {
  // 2 x 64 tokens of 32 bf16 channels, two experts each, of which 3/4 are on another rank; with
  // every row on its way there its weight (fp32), forward, or the weight's gradient, backward.
  Model model = small_llama();
  model.experts.count = 4;
  model.experts.per_token = 2;
  model.experts.ffn = 12;
  Plan plan = plain(4, 1);
  plan.expert = 4;
  Scenario scenario = scenario_of(model, Phase::train, plan);
  const std::int64_t rows = 2 * 64 * 2 * 3 / 4;
  const auto sent = [](const Scenario& of) {
    return Walk(lower(of)).sent(Op::all_to_all, Stream::expert);
  };
  CHECK(sent(scenario) == model.layers * (4 * rows * 32 * 2 + 2 * rows * 4));
  // The most loaded of 4 experts on 4 ranks has half as many again: so has its rank.
  scenario.workload.expert_imbalance = 1.5;
  CHECK(sent(scenario) == model.layers * (4 * rows * 32 * 2 + 2 * rows * 4) * 3 / 2);
  // With all experts on a rank nothing travels, and no balance matters.
  scenario.plan.expert = 1;
  CHECK(sent(scenario) == 0);
  const std::int64_t saved = saved_at_loss(scenario);
  scenario.workload.expert_imbalance = 1.0;
  CHECK(saved_at_loss(scenario) == saved);
}

TEST_CASE("a layer with experts saves their inputs, both sides of their activation and weights") {
  Model dense = small_llama();
  Model model = dense;
  model.experts.count = 4;
  model.experts.per_token = 2;
  model.experts.ffn = 12;
  const std::int64_t tokens = 2 * 64;
  const std::int64_t mlp = tokens * 3 * dense.ffn * 2;
  // Router logits in fp32; two rows a token: input, gate, up and product in bf16, weight in fp32.
  const std::int64_t experts = tokens * 4 * 4 + 2 * tokens * ((32 + 3 * 12) * 2 + 4);
  const auto saved = [](const Model& of) {
    return saved_at_loss(scenario_of(of, Phase::train, plain(1, 1)));
  };
  CHECK(saved(model) - saved(dense) == model.layers * (experts - mlp));
}

TEST_CASE("the load of a rank is an expert's alone, all experts' together, or between") {
  CHECK(rank_imbalance(1.8, 8, 1) == 1.8);
  CHECK(rank_imbalance(1.8, 8, 8) == 1.0);
  CHECK(rank_imbalance(1.0, 64, 8) == 1.0);
  double before = 2.0;
  for (const std::int64_t local : {2, 4, 8, 16, 32}) {
    const double now = rank_imbalance(2.0, 64, local);
    CHECK(now < before);
    CHECK(now > 1.0);
    before = now;
  }
}

TEST_CASE("layers of two kinds are runs of one kind, numbered within it") {
  Model model = small_llama();
  model.layers = 7;
  CHECK(layer_runs(model).size() == 1);
  model.experts.count = 4;
  model.experts.dense_layers = 3;
  const std::vector<LayerRun> runs = layer_runs(model);
  REQUIRE(runs.size() == 2);
  CHECK_FALSE(runs[0].mixture);
  CHECK(runs[0].count == 3);
  CHECK(runs[1].mixture);
  CHECK(runs[1].first == 3);
  CHECK(runs[1].count == 4);
  CHECK(runs[1].others_before == 3);
  model.experts.dense_layers = 0;
  model.experts.period = 2;
  CHECK(layer_runs(model).size() == 7);
  CHECK(layer_runs(model)[5].others_before == 3);
}

TEST_CASE("context ranks share optimizer states only if the plan says so") {
  const std::int64_t count = count_parameters(small_llama()).total;
  Plan plan = plan_of(ContextMethod::ring, 4, 1);
  plan.data = 2;
  CHECK(states_of(scenario_of(small_llama(), Phase::train, plan)).optimizer == 12 * count / 8);
  plan.shard_over_context = false;
  CHECK(states_of(scenario_of(small_llama(), Phase::train, plan)).optimizer == 12 * count / 2);
}

TEST_CASE("Megatron sequence parallelism gathers 6 and scatters 4 times per layer") {
  // arXiv 2205.05198: 2 all-gathers and 2 reduce-scatters forward, as many backward, and the two
  // inputs of the column-parallel products gathered again for their weight gradients. At the
  // ends: the embedding scatters and gathers; the head gathers, scatters, and gathers statistics.
  Plan plan;
  plan.tensor = 4;
  plan.sequence_parallel = true;
  const Walk walk = walk_training(small_llama(), plan);
  const std::int64_t stream = 2 * 64 * 32 * 2;  // [2, 64, 32] in bf16
  const std::int64_t share = stream * 3 / 4;    // (T - 1)/T of it
  const std::int64_t statistics = 3 * (2 * 64 * 3 * 4);
  CHECK(walk.sent(Op::all_gather, Stream::tensor) == (3 * 6 + 2) * share + statistics);
  CHECK(walk.sent(Op::reduce_scatter, Stream::tensor) == (3 * 4 + 2) * share);
}

// Of 6 gathers and 4 scatters, 4 and 2 feed or follow a product that waits for them; two gathers run
// beside a data gradient and two scatters beside a weight gradient anyway. In pieces the same bytes
// travel in 3 (t - 1) hops of gathers, two of them forward, and as many of sums.
TEST_CASE("autograd's tensor parallelism keeps what a recompute gathered, and waits for the rest") {
  // Forward gathers the inputs of qkv and up, so does a recompute; backward the gradients of both
  // outputs. Megatron's backward pass gathers the inputs once more, beside its products.
  Plan plan = plan_of(ContextMethod::none, 1, 1);
  plan.tensor = 2;
  plan.sequence_parallel = true;
  const auto made = [&](bool autograd, Recompute recompute) {
    plan.recompute = recompute;
    Scenario scenario = scenario_of(small_llama(), Phase::train, plan);
    auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
    stack->waits_for_tensor_ranks = stack->keeps_gathered_tokens = autograd;
    scenario.stack_override = stack;
    return Walk(lower(scenario));
  };
  const Walk theirs = made(true, Recompute::full);
  const Walk ours = made(false, Recompute::full);
  const std::int64_t layers = small_llama().layers;
  CHECK(ours.count(Op::all_gather) - theirs.count(Op::all_gather) == 2 * layers);
  CHECK(ours.count(Op::reduce_scatter) == theirs.count(Op::reduce_scatter));
  CHECK(ours.count(Op::wait) == 0);
  CHECK(theirs.count(Op::wait) == 2 * layers);  // for the sums alone
  const Walk none = made(true, Recompute::none);
  CHECK(none.count(Op::all_gather) == made(false, Recompute::none).count(Op::all_gather));
  CHECK(none.count(Op::wait) == 4 * layers);
}

TEST_CASE("products in pieces send the same bytes in hops, and gather what no product waits for") {
  Plan plan;
  plan.tensor = 4;
  plan.sequence_parallel = true;
  const Walk whole = walk_training(small_llama(), plan);
  plan.overlap_tensor_collectives = true;
  const Walk pieces = walk_training(small_llama(), plan);
  const std::int64_t layers = 3;
  CHECK(whole.count(Op::all_gather) - pieces.count(Op::all_gather) == 4 * layers);
  CHECK(whole.count(Op::reduce_scatter) - pieces.count(Op::reduce_scatter) == 2 * layers);
  CHECK(pieces.count(Op::send_receive) == (4 + 2) * 3 * layers);
  const auto sent = [](const Walk& walk) {
    return walk.sent(Op::all_gather, Stream::tensor) + walk.sent(Op::reduce_scatter, Stream::tensor) +
           walk.sent(Op::send_receive, Stream::tensor);
  };
  CHECK(sent(pieces) == sent(whole));
}

TEST_CASE("what fp8 products gather travels in fp8 where the stack casts first") {
  Plan plan;
  plan.tensor = 4;
  plan.sequence_parallel = true;
  const auto gathered = [&](const char* stack) {
    Scenario scenario = scenario_of(small_llama(), Phase::train, plan);
    scenario.precision.compute = DataType::fp8;
    scenario.software = stack;
    return Walk(lower(scenario)).sent(Op::all_gather, Stream::tensor);
  };
  const std::int64_t stream = 2 * 64 * 32 * 2;  // batch, tokens, hidden, bytes
  const std::int64_t saved = 3 * 6 * stream * 3 / 4 / 2;  // of 6 gathers in each of 3 layers, half
  CHECK(gathered("ideal") - gathered("megatron") == saved);
}

TEST_CASE("what fp8 products have read is saved in fp8 where the stack saves what it has cast") {
  // Per token of a dense layer both norms' outputs and the MLP's product, 2m + f elements, a byte less
  // each; of one with experts the first norm's output and k rows of input and product, m + k (m + f_e).
  // Attention's output stays as attention saves it, the second norm's as the router reads it.
  Model m = small_llama();
  const auto saved = [](const Model& model, bool keeps, Recompute recompute) {
    Scenario scenario = scenario_of(model, Phase::train, Plan());
    scenario.precision.compute = DataType::fp8;
    scenario.plan.recompute = recompute;
    SoftwareProfile stack;
    stack.keeps_fp8_inputs = keeps;
    scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
    return saved_at_loss(scenario);
  };
  const std::int64_t tokens = 2 * 64;
  for (const Recompute recompute : {Recompute::none, Recompute::selective}) {
    CHECK(saved(m, false, recompute) - saved(m, true, recompute) ==
          tokens * m.layers * (2 * m.hidden + m.ffn));
  }
  CHECK(saved(m, false, Recompute::full) == saved(m, true, Recompute::full));
  m.experts.count = 4;
  m.experts.per_token = 2;
  m.experts.ffn = 12;
  CHECK(saved(m, false, Recompute::none) - saved(m, true, Recompute::none) ==
        tokens * m.layers * (m.hidden + 2 * (m.hidden + 12)));
}

TEST_CASE("weights are cast to fp8 once a step by stacks that keep them, else in each micro-batch") {
  Scenario scenario = scenario_of(small_llama(), Phase::train, Plan());
  scenario.precision.compute = DataType::fp8;
  scenario.workload.global_batch = 2 * 4;  // four micro-batches
  const auto casts = [&](const char* stack) {
    scenario.software = stack;
    const Program program = lower(scenario);
    const auto found = std::find_if(program.code.begin(), program.code.end(),
                                    [](const Instruction& each) { return each.op == Op::gemm; });
    return found->weight_casts;
  };
  CHECK(casts("ideal") == 1.0);
  CHECK(casts("megatron") == 0.25);
}

TEST_CASE("tensor parallelism alone sums 4 times per layer, twice each way") {
  // arXiv 1909.08053, section 3; besides, the embedding's output and the head's input gradient.
  Plan plan;
  plan.tensor = 2;
  const Walk walk = walk_training(small_llama(), plan);
  CHECK(walk.count(Op::all_reduce) == 3 * 4 + 2);
  CHECK(walk.count(Op::reduce_scatter) == 0);
}

TEST_CASE("without recompute a layer saves its residual streams, norms, heads and MLP") {
  // Per token of a Llama layer, in bf16: the residual stream before attention and before the MLP
  // and both norms' outputs, 4m; q and o, 2 h d; k and v, 2 g d; gate, up and their product, 3f;
  // and an fp32 log-sum-exp per head. Besides: the last layer's output and the final norm's, and
  // the token's id and label.
  const Model m = small_llama();
  const std::int64_t layer =
      2 * (4 * m.hidden + 2 * m.heads * m.head_dim + 2 * m.kv_heads * m.head_dim + 3 * m.ffn) +
      4 * m.heads;
  const std::int64_t ends = 2 * 2 * m.hidden + 2 * 8;
  const Scenario scenario = scenario_of(m, Phase::train, Plan());
  CHECK(saved_at_loss(scenario) == 2 * 64 * (m.layers * layer + ends));
}

TEST_CASE("attention that is not fused saves its scores, dropout its masks") {
  // arXiv 2205.05198, equation 1: s b h (34 + 5 a s / h) for a layer whose MLP is 4 h wide: that is
  // 2 bytes of probabilities, 1 of mask and 2 of their product per score, and two masks of 1 byte
  // per element of the residual stream. Our kernels also leave an fp32 log-sum-exp per head.
  // Besides: the embedding's mask, the last layer's output and the final norm's, ids and labels.
  Model m = small_gpt();
  m.ffn = 4 * m.hidden;
  SoftwareProfile stack;
  stack.gpt_dropout = true;
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  scenario.attention_kernel = "unfused";
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  REQUIRE(m.heads * m.head_dim == m.hidden);
  const std::int64_t layer = 34 * m.hidden + 5 * m.heads * 64 + 4 * m.heads;
  const std::int64_t ends = m.hidden + 2 * 2 * m.hidden + 2 * 8;
  CHECK(saved_at_loss(scenario) == 2 * 64 * (m.layers * layer + ends));

  // Selective recompute of the same paper, equation 6: the scores and the statistics go.
  scenario.plan.recompute = Recompute::selective;
  CHECK(saved_at_loss(scenario) == 2 * 64 * (m.layers * 34 * m.hidden + ends));
}

TEST_CASE("scores that a softmax kernel does not take cost more launches") {
  // Megatron-LM's kernel wants a multiple of 4 sequences and heads, of 4 scores a row, up to 4096.
  struct Shape {
    std::int64_t micro_batch, tensor, tokens;
    bool taken;
  };
  Model m = small_llama(8, 8);
  for (const Shape shape : {Shape{1, 1, 64, true}, Shape{1, 4, 64, false}, Shape{2, 4, 64, true},
                            Shape{1, 1, 66, false}, Shape{1, 1, 8192, false}, Shape{1, 1, 16, false}}) {
    INFO(shape.micro_batch << " sequences of " << shape.tokens << " on " << shape.tensor << " ranks");
    Plan plan;
    plan.tensor = shape.tensor;
    Scenario scenario = scenario_of(m, Phase::train, plan);
    scenario.workload.micro_batch = scenario.workload.global_batch = shape.micro_batch;
    scenario.workload.sequence_length = shape.tokens;
    scenario.attention_kernel = "unfused";
    scenario.software = "megatron_deepspeed";
    const Program program = lower(scenario);
    const auto attend = std::find_if(program.code.begin(), program.code.end(),
                                     [](const Instruction& one) { return one.op == Op::attend; });
    REQUIRE(attend != program.code.end());
    CHECK(attend->launches == (shape.taken ? 10.0 : 15.0));
  }
}

TEST_CASE("a Llama is trained with dropout where the stack does so, and its attention draws numbers") {
  // A mask of one byte per element of the stream behind attention and the MLP of each layer, and one
  // behind the embedding.
  const Model m = small_llama();
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  const std::int64_t plain = saved_at_loss(scenario);
  CHECK_FALSE(lower(scenario).attention.dropout);
  SoftwareProfile stack;
  stack.gpt_dropout = true;
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  CHECK(saved_at_loss(scenario) == plain);
  stack.gated_dropout = true;
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  CHECK(saved_at_loss(scenario) == plain + 2 * 64 * (2 * m.layers + 1) * m.hidden);
  CHECK(lower(scenario).attention.dropout);
  scenario.workload.dropout = false;
  CHECK_FALSE(lower(scenario).attention.dropout);
}

TEST_CASE("a stack that keeps the gate's activation saves f more elements per token and layer") {
  const Model m = small_llama();
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  const std::int64_t plain = saved_at_loss(scenario);
  SoftwareProfile stack;
  stack.keeps_silu = true;
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  CHECK(saved_at_loss(scenario) == plain + 2 * 64 * m.layers * 2 * m.ffn);
  stack.norm_copies = 2;
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  const std::int64_t copies = m.ffn + 2 * 2 * m.hidden;
  CHECK(saved_at_loss(scenario) == plain + 2 * 64 * m.layers * 2 * copies);
  scenario.plan.recompute = Recompute::full;
  const std::int64_t recomputed = saved_at_loss(scenario);
  scenario.stack_override = nullptr;
  CHECK(saved_at_loss(scenario) == recomputed);
}

TEST_CASE("an MLP in pieces saves neither its projection nor its activation") {
  const Model m = small_llama();
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  const std::int64_t whole = saved_at_loss(scenario);
  scenario.plan.mlp_tiles = 4;
  CHECK(saved_at_loss(scenario) == whole - 2 * 64 * m.layers * 2 * 3 * m.ffn);
}

TEST_CASE("full recompute saves only the residual stream before each layer") {
  // And after the last one, the final norm's output, and ids and labels.
  const Model m = small_llama();
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  scenario.plan.recompute = Recompute::full;
  CHECK(saved_at_loss(scenario) == 2 * 64 * (2 * (m.layers + 2) * m.hidden + 2 * 8));
}

TEST_CASE("a layer of a pass that keeps nothing gives its tensors back as it goes") {
  // bf16, 2 x 64 tokens. While the MLP's activation is made there are the layer's input, the stream
  // after attention, its norm and 3f elements of the MLP; nothing of attention. The output comes last.
  const Model m = small_llama();
  Plan recomputing;
  recomputing.recompute = Recompute::full;
  const auto held_at = [&](const Scenario& scenario, Op op) {
    std::int64_t first = 0;
    const Program program = lower(scenario);
    const Walk walk(program, 0, [&](const Walk& at, const Instruction& instruction) {
      if (instruction.op == op && first == 0) {
        first = at.held(MemoryCategory::activations);
      }
    });
    return first;
  };
  const Scenario forward = scenario_of(m, Phase::forward, Plan());
  const Scenario training = scenario_of(m, Phase::train, recomputing);
  const std::int64_t ids = 2 * 64 * 8;
  CHECK(held_at(forward, Op::swiglu) == 2 * 64 * 2 * (3 * m.hidden + 3 * m.ffn) + ids);
  CHECK(held_at(training, Op::swiglu) == 2 * 64 * 2 * (3 * m.hidden + 3 * m.ffn) + 2 * ids);
  const std::int64_t heads = m.head_dim * (2 * m.heads + 2 * m.kv_heads);
  CHECK(held_at(scenario_of(m, Phase::train, Plan()), Op::swiglu) ==
        held_at(training, Op::swiglu) + 2 * 64 * (2 * (m.hidden + heads) + 4 * m.heads));
}

TEST_CASE("selective recompute gives back attention's statistics and attends again") {
  const Model m = small_llama();
  Scenario scenario = scenario_of(m, Phase::train, Plan());
  const std::int64_t none = saved_at_loss(scenario);
  scenario.plan.recompute = Recompute::selective;
  CHECK(none - saved_at_loss(scenario) == 2 * 64 * m.layers * 4 * m.heads);
  const Program program = lower(scenario);
  CHECK(Walk(program).count(Op::attend) == 2 * m.layers);
}

TEST_CASE("details of recompute keep what their names say, per token and layer") {
  // 3 layers of 128 tokens, bf16: hidden 32, 8 heads and 4 key/value heads of 4, ffn 48 (gated);
  // statistics are 4 bytes per head. Besides 4 residual streams, the final norm's output, and ids
  // and labels of 8 bytes.
  const auto saved = [](RecomputeDetail detail, std::int64_t recomputing) {
    Plan plan;
    plan.recompute = Recompute::full;
    plan.recompute_detail = detail;
    plan.recompute_layers = recomputing;
    return saved_at_loss(scenario_of(small_llama(), Phase::train, plan));
  };
  const std::int64_t tokens = 2 * 64;
  const std::int64_t streams = tokens * (5 * 2 * 32 + 2 * 8);
  const std::int64_t attention = tokens * (2 * 8 * 4 + 4 * 8);  // o and statistics
  const std::int64_t heads = tokens * 2 * (8 + 2 * 4) * 4;      // q, k, v
  CHECK(saved(RecomputeDetail::standard, 0) == streams);
  CHECK(saved(RecomputeDetail::keep_attention_output, 0) == streams + 3 * attention);
  CHECK(saved(RecomputeDetail::keep_attention_output_part, 0) == streams + 3 * attention / 2);
  CHECK(saved(RecomputeDetail::keep_linear_outputs, 0) ==
        streams + 3 * (attention + heads + tokens * 2 * (2 * 32 + 2 * 48)));
  CHECK(saved(RecomputeDetail::op_sac, 0) ==
        streams + 3 * (attention + heads + tokens * 2 * (32 + 48)));
  // One of three layers recomputes: two keep what a layer without recompute keeps.
  Plan none;
  const std::int64_t all = saved_at_loss(scenario_of(small_llama(), Phase::train, none));
  CHECK(saved(RecomputeDetail::standard, 1) == streams + (all - streams) * 2 / 3);
}

TEST_CASE("kept attention is not run again, nor does its ring turn again") {
  Plan plan = plan_of(ContextMethod::ring, 4, 1);
  plan.recompute = Recompute::full;
  const Walk all(lower(scenario_of(small_llama(), Phase::train, plan)));
  plan.recompute_detail = RecomputeDetail::keep_attention_output;
  const Walk kept(lower(scenario_of(small_llama(), Phase::train, plan)));
  CHECK(all.count(Op::attend) == 3 * 2 * 4);
  CHECK(kept.count(Op::attend) == 3 * 4);
  CHECK(all.count(Op::gemm) == kept.count(Op::gemm));
  CHECK(all.count(Op::send_receive) - kept.count(Op::send_receive) == 3 * 3);
}

// The later half of the sequence has three quarters of a causal mask's pairs: they are not run again.
// The first half goes around a ring of its own with half the keys.
TEST_CASE("where the later half of attention is kept a quarter of it runs again") {
  const auto pairs = [](const Program& program, Part part) {
    std::int64_t seen = 0;
    for (const Instruction& instruction : program.code) {
      if (instruction.op != Op::attend || instruction.part != part) {
        continue;
      }
      const AttentionGeometry geometry = geometry_of(program, instruction.block);
      for (const AttentionCall& call : attention_calls(geometry, 0, 0)) {
        for (std::int64_t i = 0; i < call.queries * call.keys; ++i) {
          seen += call.band.lets(i / call.keys, i % call.keys) ? 1 : 0;
        }
      }
    }
    return seen;
  };
  Plan plan;
  plan.recompute = Recompute::full;
  plan.recompute_detail = RecomputeDetail::keep_attention_output_part;
  const Program program = lower(scenario_of(small_llama(), Phase::train, plan));
  CHECK(pairs(program, Part::forward) == 64 * 65 / 2);
  CHECK(pairs(program, Part::recompute) == 32 * 33 / 2);
}

TEST_CASE("twice the context ranks halve what is saved") {
  for (const ContextMethod method :
       {ContextMethod::ring, ContextMethod::ulysses, ContextMethod::all_gather}) {
    const auto saved = [&](std::int64_t degree) {
      const bool rings = method != ContextMethod::ulysses;
      return saved_at_loss(scenario_of(small_llama(), Phase::train,
                                       plan_of(method, rings ? degree : 1, rings ? 1 : degree)));
    };
    CHECK(saved(2) == 2 * saved(4));
  }
}

// A stage's whole gradients in fp32 and the shard they are summed into; where it reshards the shard
// alone is held throughout.
TEST_CASE("stages that do not reshard keep whole gradients and sum them once, others in every pass") {
  const auto stage = [](bool reshards) {
    Plan plan = plain(4, 3);
    plan.pipeline = 2;
    plan.reshard_after_forward = reshards;
    Model model = small_llama();
    model.layers = 4;
    model.vocab = 0;  // layers alone
    Scenario scenario = scenario_of(model, Phase::train, plan);
    scenario.gpus = 8;
    scenario.workload.global_batch = 2 * 4 * 3;  // three micro-batches
    return lower(scenario);
  };
  Model model = small_llama();
  const std::int64_t weights = count_parameters(model).attention + count_parameters(model).mlp +
                               count_parameters(model).norms;
  for (const bool reshards : {true, false}) {
    const Program program = stage(reshards);
    std::int64_t held = 0;
    const Walk walk(program, 0, [&](const Walk& now, const Instruction&) {
      held = held == 0 ? now.held(MemoryCategory::gradients) : held;
    });
    CHECK(held == 2 * weights * 4 / 4 * (reshards ? 1 : 1 + 4));
    CHECK(walk.count(Op::reduce_scatter) == (reshards ? 3 : 1) * 2);
  }
}

TEST_CASE("gradients are summed over replicas once a step below ZeRO 2, else every micro-batch") {
  const auto reductions = [](int zero) {
    Scenario scenario = scenario_of(small_llama(), Phase::train, plain(4, zero));
    scenario.workload.global_batch = 2 * 4 * 3;  // three micro-batches
    const Program program = lower(scenario);
    const Walk walk(program);
    return walk.count(Op::all_reduce) + walk.count(Op::reduce_scatter);
  };
  const std::int64_t once = 3 + 2;  // layers, the head and the embedding
  CHECK(reductions(0) == once);
  CHECK(reductions(1) == once);
  CHECK(reductions(2) == 3 * once);
  CHECK(reductions(3) == 3 * once);
}

TEST_CASE("ZeRO 3 gathers every layer once forward and once backward in each micro-batch") {
  const Walk walk = walk_training(small_llama(), plain(4, 3));
  const std::int64_t count = count_parameters(small_llama()).total;
  const std::int64_t layers = count - 2 * 64 * 32 - 32;
  CHECK(walk.count(Op::all_gather) == 1 + 2 * 3);
  CHECK(walk.sent(Op::all_gather, Stream::data) == 2 * (2 * layers + (count - layers)) * 3 / 4);
}

// FSDP2 splits each gathered buffer into weights and writes gradients into the fp32 buffer that
// travels: a pass over the weights per gather, one over the gradients, twice the bytes scattered.
TEST_CASE("a stack passes over what it gathers and scatters as often as it says") {
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  Scenario scenario = scenario_of(small_llama(), Phase::train, plain(4, 3));
  const auto copies = [&] {
    scenario.stack_override = stack;
    return Walk(lower(scenario)).count(Op::copy);
  };
  const auto scattered = [&] {
    return Walk(lower(scenario)).sent(Op::reduce_scatter, Stream::data);
  };
  const std::int64_t without = copies();
  const std::int64_t bytes = scattered();
  const std::int64_t per_layer = 6;  // qkv, output, up, down and two norms
  const std::int64_t outside = 3;    // embedding, head and the final norm
  stack->gather_copies = 1;
  CHECK(copies() == without + 2 * 3 * per_layer + outside);  // forward and backward; root once
  stack->gather_copies = 0;
  stack->gradient_copies = 2;
  CHECK(copies() == without + 2 * (3 * per_layer + outside));
  CHECK(scattered() == bytes);
  stack->gradient_copies = 0;
  stack->fp32_gradient_sums = true;
  CHECK(copies() == without + 3 * per_layer + outside);
  CHECK(scattered() == 2 * bytes);
}

TEST_CASE("a stack that bounds what is gathered holds as many elements, and what arrives") {
  // bf16: at most `live_parameters` elements, or all of the model, besides a buffer of
  // `prefetch_bucket` elements and one matrix that what arrives stands in.
  const Model m = small_llama();
  const std::int64_t count = count_parameters(m).total;
  const auto gathered = [&](std::int64_t live) {
    SoftwareProfile stack;
    stack.live_parameters = live;
    stack.prefetch_bucket = 100;
    Scenario scenario = scenario_of(m, Phase::train, plain(4, 3));
    scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
    std::int64_t bytes = 0;
    for (const Tensor& tensor : lower(scenario).tensors) {
      const bool counts = tensor.persistent && !tensor.view &&
                          tensor.category == MemoryCategory::communication;
      bytes += counts ? static_cast<std::int64_t>(tensor.slot_bytes().value()) * tensor.slots : 0;
    }
    return bytes;
  };
  CHECK(gathered(1000) == 2 * (1000 + 100 + m.hidden * m.ffn));
  CHECK(gathered(2 * count) == 2 * (count + 100 + m.hidden * m.ffn));
}

TEST_CASE("weights that are not resharded are gathered once a micro-batch, and all stay") {
  Plan plan = plain(4, 3);
  plan.reshard_after_forward = false;
  const Program program = lower(scenario_of(small_llama(), Phase::train, plan));
  CHECK(Walk(program).count(Op::all_gather) == 1 + 3);
  for (const Tensor& tensor : program.tensors) {
    if (tensor.name == "w_qkv_gathered") {
      CHECK(tensor.slots == 3);
    }
  }
}

// 3 layers of w_qkv, w_o, w_gate_up, w_down and two norms, embedding, head and last norm: 21 weights.
TEST_CASE("every weight has one owner, the largest weights are dealt first, and each owner sends once") {
  for (const std::int64_t ranks : {4, 64}) {
    Plan plan = plain(ranks, 1);
    plan.zero_owners = true;
    const Program program = lower(scenario_of(small_llama(), Phase::train, plan));
    CHECK(Walk(program).count(Op::broadcast) == std::min<std::int64_t>(ranks, 21));
    CHECK(Walk(program).count(Op::all_gather) == 0);
    CHECK(Walk(program).count(Op::reduce_scatter) == 0);
    std::int64_t all = 0, most = 0, largest = 0, updates = 0;
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(ranks); ++rank) {
      std::int64_t mine = 0;
      for (const Tensor& tensor : program.tensors) {
        if (tensor.name.starts_with("moment1.")) {
          mine += tensor.elements() * tensor.held_slots(program.mesh, RankId(rank));
          largest = std::max(largest, tensor.elements());
        }
      }
      all += mine;
      most = std::max(most, mine);
      updates += Walk(program, rank).count(Op::adam);
    }
    CHECK(all == count_parameters(small_llama()).total);
    CHECK(updates == 21);
    // No rank has more than its share and one weight: dealt to whoever has least.
    CHECK(most >= std::max(largest, all / ranks));
    CHECK(most <= all / ranks + largest);
  }
}

TEST_CASE("an overlapped gather comes before the first layer, another one after Adam") {
  for (const bool overlap : {true, false}) {
    Plan plan = plain(4, 1);
    plan.overlap_parameter_gather = overlap;
    const Program program = lower(scenario_of(small_llama(), Phase::train, plan));
    const auto first = [&](Op op) {
      return std::find_if(program.code.begin(), program.code.end(),
                          [&](const Instruction& each) { return each.op == op; });
    };
    CHECK((first(Op::all_gather) < first(Op::embed)) == overlap);
    CHECK((first(Op::all_gather) > first(Op::adam)) == !overlap);
    CHECK(Walk(program).count(Op::all_gather) == 3 + 2);
  }
}

TEST_CASE("a reduction that is not overlapped comes after the last backward pass") {
  for (const bool overlap : {true, false}) {
    Plan plan = plain(4, 0);
    plan.overlap_gradient_reduction = overlap;
    const Program program = lower(scenario_of(small_llama(), Phase::train, plan));
    const auto first_sum = std::find_if(
        program.code.begin(), program.code.end(),
        [](const Instruction& each) { return each.op == Op::all_reduce; });
    const auto end = std::find_if(program.code.begin(), program.code.end(),
                                  [](const Instruction& each) {
                                    return each.op == Op::embed_backward;
                                  });
    CHECK((first_sum < end) == overlap);
    CHECK(Walk(program).count(Op::all_reduce) == 3 + 2);
  }
}

TEST_CASE("loops over layers are uniform, so that the engine may skip their turns") {
  const Program program =
      lower(scenario_of(small_llama(), Phase::train, plan_of(ContextMethod::ring, 4, 1)));
  for (const Loop& loop : program.loops) {
    CHECK(loop.uniform == !loop.name.starts_with("ring steps"));
  }
}

TEST_CASE("a program does not grow with layers, micro-batches or ring ranks") {
  const auto length = [](std::int64_t layers, std::int64_t ring, std::int64_t micro_batches) {
    Scenario scenario =
        scenario_of(small_llama(), Phase::train, plan_of(ContextMethod::ring, ring, 1));
    scenario.model.layers = layers;
    scenario.workload.global_batch *= micro_batches;
    return lower(scenario).code.size();
  };
  CHECK(length(3, 4, 2) == length(48, 16, 9));
}

namespace {

// Eight layers on these stages, four micro-batches, on a changed stack.
Scenario staged(std::int64_t stages, std::int64_t chunks, const SoftwareProfile& stack) {
  Plan plan;
  plan.pipeline = stages;
  plan.virtual_pipeline = chunks;
  Scenario scenario = scenario_of(small_llama(), Phase::train, plan);
  scenario.model.layers = 8;
  scenario.workload.global_batch = 4 * scenario.workload.micro_batch;
  scenario.stack_override = std::make_shared<SoftwareProfile>(stack);
  return scenario;
}

// How often a rank's host works, or waits for its GPU.
std::int64_t host_turns(const Program& program, std::size_t rank, bool waits) {
  std::int64_t turns = 0;
  const Walk walk(program, rank, [&](const Walk&, const Instruction& instruction) {
    turns += instruction.op == Op::host && instruction.waits == waits ? 1 : 0;
  });
  return turns;
}

}  // namespace

TEST_CASE("the ends of a pipeline read data, once per micro-batch; stages between them read none") {
  SoftwareProfile stack = *find_software("ideal");
  stack.at(SoftwareNumber::host_micro_batch).value = 1e-3;
  for (const std::int64_t chunks : {1, 2}) {
    const Program program = lower(staged(4, chunks, stack));
    CHECK(host_turns(program, 0, false) == 4);
    CHECK(host_turns(program, 1, false) == 0);
    CHECK(host_turns(program, 2, false) == 0);
    CHECK(host_turns(program, 3, false) == 4);
  }
  CHECK(host_turns(lower(staged(1, 1, stack)), 0, false) == 4);
}

TEST_CASE("a host reads each loss back where the loss is, and waits for batched messages") {
  SoftwareProfile stack = *find_software("ideal");
  stack.reads_loss = true;
  CHECK(host_turns(lower(staged(1, 1, stack)), 0, true) == 4);
  for (const std::int64_t chunks : {1, 2}) {
    const Program program = lower(staged(4, chunks, stack));
    CHECK(host_turns(program, 0, true) == 0);
    CHECK(host_turns(program, 3, true) == 4);
  }
  stack.reads_loss = false;
  stack.waits_for_messages = true;
  const Program batched = lower(staged(4, 1, stack));
  for (const std::size_t rank : {0, 1, 3}) {
    CHECK(host_turns(batched, rank, true) == Walk(batched, rank).count(Op::exchange));
  }
  // Interleaved schedules send each message by itself and do not wait.
  CHECK(host_turns(lower(staged(4, 2, stack)), 1, true) == 0);
}

TEST_CASE("a compiled loss holds the exponentials beside the fp32 copy of the logits") {
  SoftwareProfile stack = *find_software("ideal");
  stack.fp32_logits = true;
  const auto most = [&] {
    std::int64_t held = 0;
    const Walk walk(lower(staged(1, 1, stack)), 0, [&](const Walk& at, const Instruction&) {
      held = std::max(held, at.held(MemoryCategory::logits));
    });
    return held;
  };
  const std::int64_t plain = most();
  stack.compiled_loss = true;
  CHECK(most() == plain + 2 * 64 * 64 * 4);  // sequences, tokens, vocabulary, bytes
}

TEST_CASE("what has no schedule is refused") {
  Plan plan;
  plan.pipeline = 2;
  CHECK_THROWS_AS(lower(scenario_of(small_llama(), Phase::prefill, plan)), BugError);
  CHECK_THROWS_AS(lower(scenario_of(small_llama(), Phase::decode, Plan())), BugError);
}

TEST_CASE("attention of a sequence spread over ranks has habits of its own, that of one rank none") {
  // A habit of "attend_shards" with a ring of two; alone, the same stack's kernel is as it comes.
  const auto traffic = [](const Plan& plan) {
    Scenario scenario = scenario_of(small_llama(), Phase::attention, plan);
    auto stack = std::make_shared<SoftwareProfile>(scenario.stack());
    stack->operators = {{"attend_shards", 9.0, 5.4}};
    scenario.stack_override = stack;
    double most = 0.0;
    for (const Instruction& instruction : lower(scenario).code) {
      most = instruction.op == Op::attend ? std::max(most, instruction.traffic) : most;
    }
    return most;
  };
  CHECK(traffic(plan_of(ContextMethod::ring, 2, 1)) == 5.4);
  CHECK(traffic(Plan()) == 1.0);
}

TEST_CASE("hosts of some stacks wait for their GPU before each hop of a ring") {
  // Of R ranks: R - 1 hops forward; R - 1 of keys and R of their gradients backward.
  const auto waits = [](std::int64_t ring, Pass pass, bool synchronous) {
    Plan plan = plan_of(ContextMethod::ring, ring, 1);
    Scenario scenario = scenario_of(small_llama(), Phase::attention, plan);
    auto stack = std::make_shared<SoftwareProfile>(scenario.stack());
    stack->synchronous_hops = synchronous;
    scenario.stack_override = stack;
    scenario.workload.pass = pass;
    const Program program = lower(scenario);
    std::int64_t found = 0;
    std::int64_t turns = 1;
    for (const Instruction& instruction : program.code) {
      if (instruction.op == Op::loop_begin) {
        turns = program.loops[instruction.loop.index].count;
      } else if (instruction.op == Op::loop_end) {
        turns = 1;
      }
      found += instruction.op == Op::host && instruction.waits ? turns : 0;
    }
    return found;
  };
  CHECK(waits(2, Pass::forward, true) == 1);
  CHECK(waits(8, Pass::forward, true) == 7);
  CHECK(waits(8, Pass::backward, true) == 7 + 8);
  CHECK(waits(8, Pass::forward_backward, false) == 0);
}

TEST_CASE("a stack that empties its cache pays for segments, each rank of a node behind the others") {
  // 150 us on a host as fast as a DGX H100's: 8 ranks of a node wait for each other, 16 ranks of two
  // nodes of 8 no longer; a host of half the speed takes twice as long.
  const auto segment = [](std::int64_t ranks, double speed) {
    Scenario scenario = scenario_of(small_llama(), Phase::train, plan_of(ContextMethod::ring, ranks, 1));
    auto stack = std::make_shared<SoftwareProfile>(scenario.stack());
    stack->segment = Seconds::of(150e-6);
    scenario.stack_override = stack;
    scenario.host_speed = speed;
    scenario.node_gpus = 8;
    return lower(scenario).host.segment.value();
  };
  CHECK_THAT(segment(2, 1.0), Catch::Matchers::WithinRel(2 * 150e-6, 1e-12));
  CHECK_THAT(segment(8, 1.0), Catch::Matchers::WithinRel(8 * 150e-6, 1e-12));
  CHECK_THAT(segment(16, 0.5), Catch::Matchers::WithinRel(16 * 150e-6, 1e-12));
}

TEST_CASE("a benchmark of attention ends with its host: the time of the calls of its kernel") {
  // Forward 100 us and backward 300 us a call on a host as fast as a DGX H100's; one of half the speed
  // takes twice as long, a ring of four ranks calls four times, other kernels cost nothing.
  Plan ring = plan_of(ContextMethod::ring, 4, 1);
  const auto calls = [](const Plan& plan, Pass pass, double speed, const std::string& kernel) {
    Scenario scenario = scenario_of(small_llama(), Phase::attention, plan);
    auto stack = std::make_shared<SoftwareProfile>(scenario.stack());
    stack->attention_calls = {{"fa4", Seconds::of(100e-6), Seconds::of(300e-6)}};
    scenario.stack_override = stack;
    scenario.attention_kernel = kernel;
    scenario.workload.pass = pass;
    scenario.host_speed = speed;
    const Instruction last = lower(scenario).code.back();
    return last.op == Op::host && !last.waits ? last.host_time.value() : 0.0;
  };
  CHECK(calls(Plan(), Pass::forward, 1.0, "fa4") == 100e-6);
  CHECK(calls(Plan(), Pass::backward, 1.0, "fa4") == 300e-6);
  CHECK_THAT(calls(Plan(), Pass::forward_backward, 0.5, "fa4"),
             Catch::Matchers::WithinRel(800e-6, 1e-12));
  CHECK_THAT(calls(ring, Pass::forward, 1.0, "fa4"), Catch::Matchers::WithinRel(400e-6, 1e-12));
  CHECK(calls(Plan(), Pass::forward, 1.0, "fa2") == 0.0);
}

namespace {

// How often a stage's host waits in a step of `micro_batches`.
std::int64_t host_waits_of_stage(std::int64_t stages, std::int64_t micro_batches,
                                 std::int64_t stage) {
  Plan plan;
  plan.pipeline = stages;
  Model model = small_llama();
  model.layers = 4;
  Scenario scenario = scenario_of(model, Phase::train, plan);
  scenario.gpus = stages;
  scenario.workload.global_batch = 2 * micro_batches;
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  stack->waits_for_batches = true;
  scenario.stack_override = stack;
  std::int64_t waits = 0;
  Walk(lower(scenario), static_cast<std::size_t>(stage), [&](const Walk&, const Instruction& one) {
    waits += one.op == Op::host && one.waits ? 1 : 0;
  });
  return waits;
}

}  // namespace

TEST_CASE("a host that reads batches back does so once a micro-batch, in a pipeline at both ends") {
  CHECK(host_waits_of_stage(1, 5, 0) == 5);
  CHECK(host_waits_of_stage(4, 5, 0) == 5);
  CHECK(host_waits_of_stage(4, 5, 1) == 0);
  CHECK(host_waits_of_stage(4, 5, 2) == 0);
  CHECK(host_waits_of_stage(4, 5, 3) == 5);
}

// nanotron copies each rank's slice of each updated weight by itself: 6 weights of 3 layers and 3
// outside, of each of 4 ranks.
TEST_CASE("weights gathered by the piece take a launch per rank and weight") {
  const auto launches = [](std::int64_t ranks, bool pieces) {
    Scenario scenario = scenario_of(small_llama(), Phase::train, plain(ranks, 1));
    auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
    stack->piecewise_shards = pieces;
    scenario.stack_override = stack;
    double sum = 0.0;
    Walk(lower(scenario), 0, [&](const Walk&, const Instruction& one) {
      sum += one.op == Op::copy && one.part == Part::parameter_gather ? one.launches : 0.0;
    });
    return sum;
  };
  CHECK(launches(4, false) == 0.0);
  CHECK(launches(4, true) == 4.0 * 21.0);
  CHECK(launches(16, true) == 16.0 * 21.0);
}

// DeepSpeed sums gradients in a bucket: a pass into it and one back.
TEST_CASE("gradients that travel in a bucket are copied there and back") {
  auto stack = std::make_shared<SoftwareProfile>(*find_software("ideal"));
  Scenario scenario = scenario_of(small_llama(), Phase::train, plain(4, 0));
  const auto copies = [&](bool overlaps, std::int64_t passes) {
    stack->overlap_gradient_reduction = overlaps;
    stack->gradient_copies = passes;
    scenario.stack_override = stack;
    return Walk(lower(scenario)).count(Op::copy);
  };
  CHECK(copies(false, 3) == copies(false, 0) + 2 * 21);
  CHECK(copies(true, 3) == copies(true, 0));
}

TEST_CASE("the habits of a stack reach the instructions; the ideal stack has none") {
  Scenario scenario = scenario_of(small_llama(), Phase::train, Plan());
  const Program ideal = lower(scenario);
  CHECK(ideal.host.launch == Seconds());
  CHECK(ideal.slowdown == 1.0);
  auto stack = std::make_shared<SoftwareProfile>(scenario.stack());
  stack->at(SoftwareNumber::host_launch).value = 1e-5;
  stack->at(SoftwareNumber::host_step).value = 1e-2;
  stack->operators = {{"norm", 7.0, 8.0}};
  scenario.stack_override = stack;
  const Program program = lower(scenario);
  CHECK(program.host.launch.value() == 1e-5);
  CHECK(program.code.back().op == Op::host);
  for (const Instruction& instruction : program.code) {
    CHECK(instruction.launches == (instruction.op == Op::norm ? 7.0 : 1.0));
    CHECK(instruction.traffic == (instruction.op == Op::norm ? 8.0 : 1.0));
  }
  // A host half as fast takes twice as long for everything.
  scenario.host_speed = 0.5;
  const Program slow = lower(scenario);
  CHECK(slow.host.launch.value() == 2e-5);
  CHECK(slow.code.back().host_time.value() == 2.0 * program.code.back().host_time.value());
}
