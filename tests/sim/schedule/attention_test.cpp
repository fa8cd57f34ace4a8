// What methods of context parallelism exchange, against the counts of their papers.
#include <catch2/catch.hpp>

#include "sim/program/attention_calls.h"
#include "sim/schedule/lower.h"
#include "tests/sim/schedule/small_scenarios.h"
#include "tests/sim/schedule/walk.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

// Of a rank before any exchange, in bf16: [2 sequences, 64 / ranks tokens, heads, 4].
std::int64_t bytes_of_heads(std::int64_t heads, std::int64_t ranks) {
  return 2 * (64 / ranks) * heads * 4 * 2;
}

Walk walk_attention(ContextMethod method, std::int64_t ring, std::int64_t ulysses,
                    const Model& model = small_llama(), const std::string& software = "ideal") {
  Scenario scenario = scenario_of(model, Phase::attention, plan_of(method, ring, ulysses));
  scenario.software = software;
  const Program program = lower(scenario);
  return Walk(program);
}

}  // namespace

TEST_CASE("attention on one GPU is one kernel each way and sends nothing") {
  const Walk walk = walk_attention(ContextMethod::none, 1, 1);
  CHECK(walk.count(Op::attend) == 1);
  CHECK(walk.count(Op::attend_backward) == 1);
  CHECK(walk.count(Op::merge_attention) == 0);
  CHECK(walk.count(Op::send_receive) + walk.count(Op::all_to_all) + walk.count(Op::all_gather) ==
        0);
}

TEST_CASE("a ring of R attends R times and sends keys and values R - 1 times") {
  // Forward: R - 1 hops of k and v. Backward: the same again, and R hops of their gradients in
  // fp32, the last of which brings them home. Only the 4 key/value heads travel, never the 8
  // query heads.
  for (const std::int64_t ring : {2, 4, 8}) {
    const Walk walk = walk_attention(ContextMethod::ring, ring, 1);
    const std::int64_t pair = 2 * bytes_of_heads(4, ring);
    CAPTURE(ring);
    CHECK(walk.count(Op::attend) == ring);
    CHECK(walk.count(Op::attend_backward) == ring);
    CHECK(walk.count(Op::merge_attention) == ring - 1);
    CHECK(walk.count(Op::send_receive) == 2 * (ring - 1) + ring);
    CHECK(walk.sent(Op::send_receive) == 2 * (ring - 1) * pair + ring * 2 * pair);
  }
}

TEST_CASE("keys and values of a packed tensor are copied out of it where a stack works on copies") {
  // Once each in the forward pass, behind the exchange if there is one; unpacked ones never.
  const auto copies = [](std::int64_t ring, std::int64_t ulysses, bool packed, bool habit) {
    Plan plan = plan_of(ContextMethod::usp, ring, ulysses);
    plan.context.packed_qkv = packed;
    Scenario scenario = scenario_of(small_llama(8, 8), Phase::attention, plan);
    SoftwareProfile stack = scenario.stack();
    stack.packed_copies = habit;
    scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
    std::int64_t count = 0;
    const Walk walk(lower(scenario), 0, [&](const Walk&, const Instruction& instruction) {
      count += instruction.op == Op::copy && !instruction.fused ? 1 : 0;
    });
    return count;
  };
  for (const auto& [ring, ulysses] : {std::pair<std::int64_t, std::int64_t>{4, 1}, {2, 2}}) {
    CAPTURE(ring, ulysses);
    CHECK(copies(ring, ulysses, true, true) == copies(ring, ulysses, true, false) + 2);
    CHECK(copies(ring, ulysses, false, true) == copies(ring, ulysses, false, false));
  }
}

TEST_CASE("Megatron sends travelling gradients in the compute type, half of fp32") {
  const Walk walk = walk_attention(ContextMethod::ring, 4, 1, small_llama(), "megatron");
  const std::int64_t pair = 2 * bytes_of_heads(4, 4);
  CHECK(walk.sent(Op::send_receive) == (2 * 3 + 4) * pair);
}

TEST_CASE("a double ring sends each pair O-1 times between inner rings and O(I-1) times in them") {
  // 8 ranks as O = 2 rings of I = 4, or the other way round. Backward the same again, and fp32
  // gradients: O rounds of I hops home in the inner ring, one hop per round in the outer one.
  for (const std::int64_t inner : {2, 4}) {
    Plan plan = plan_of(ContextMethod::double_ring, 8, 1);
    plan.context.inner_ring = inner;
    const std::int64_t nodes = 8 / inner;
    const Walk walk(lower(scenario_of(small_llama(), Phase::attention, plan)));
    const std::int64_t pair = 2 * bytes_of_heads(4, 8);
    CAPTURE(inner);
    CHECK(walk.count(Op::attend) == 8);
    CHECK(walk.count(Op::merge_attention) == 7);
    CHECK(walk.sent(Op::send_receive) == 2 * nodes * (inner - 1) * pair + nodes * inner * 2 * pair);
    CHECK(walk.sent(Op::send_receive, Stream::outer) == 2 * (nodes - 1) * pair + nodes * 2 * pair);
  }
}

TEST_CASE("a query-side backward sends q, do, two statistics and dq instead of k, v, dk, dv") {
  // arXiv 2403.09347, section 3.2: 3 N d + 2 N per hop instead of 4 N d, where all heads have
  // their own keys; the statistics and dq (here) in fp32.
  const Plan plain = plan_of(ContextMethod::ring, 4, 1);
  Plan queries = plain;
  queries.context.variant = RingVariant::q_side_backward;
  Scenario scenario = scenario_of(small_llama(8, 8), Phase::attention, queries);
  scenario.workload.pass = Pass::backward;
  const Walk walk(lower(scenario));
  const std::int64_t heads = bytes_of_heads(8, 4);
  const std::int64_t statistics = heads / (2 * 4) * 4;  // 4 bytes per row of 4 x 2 bytes
  CHECK(walk.count(Op::attend_backward) == 4);
  CHECK(walk.sent(Op::send_receive) == 3 * (2 * heads + 2 * statistics) + 4 * 2 * heads);
}

TEST_CASE("a ring visits every key shard exactly once, beginning with its own") {
  for (const std::int64_t ring : {2, 3, 5}) {
    Scenario scenario =
        scenario_of(small_llama(), Phase::attention,
                    plan_of(ContextMethod::ring, ring, 1, SequenceOrder::contiguous));
    scenario.workload.sequence_length = 30;
    const Program program = lower(scenario);
    for (std::int64_t rank = 0; rank < ring; ++rank) {
      std::map<Op, std::vector<std::int64_t>> seen;
      const Walk walk(program, static_cast<std::size_t>(rank),
                      [&](const Walk& at, const Instruction& instruction) {
                        if (instruction.block) {
                          const RankId me(static_cast<std::size_t>(rank));
                          CHECK(evaluate(instruction.block->query_owner, program.mesh, me,
                                         at.counters()) == rank);
                          seen[instruction.op].push_back(evaluate(*instruction.block->key_owner,
                                                                  program.mesh, me, at.counters()));
                        }
                      });
      std::vector<std::int64_t> backwards_from_me;
      for (std::int64_t step = 0; step < ring; ++step) {
        backwards_from_me.push_back((rank + ring - step) % ring);
      }
      CHECK(seen[Op::attend] == backwards_from_me);
      CHECK(seen[Op::attend_backward] == backwards_from_me);
    }
  }
}

TEST_CASE("Ulysses exchanges q, k, v and o, and their four gradients: (P-1)/P of each") {
  // arXiv 2309.14509, section 3.2: 4 all-to-alls of N h / P each way for multi-head attention.
  for (const std::int64_t ulysses : {2, 4}) {
    const Walk walk = walk_attention(ContextMethod::ulysses, 1, ulysses);
    const std::int64_t once = 2 * bytes_of_heads(8, ulysses) + 2 * bytes_of_heads(4, ulysses);
    CAPTURE(ulysses);
    CHECK(walk.count(Op::all_to_all) == 8);
    CHECK(walk.sent(Op::all_to_all) == 2 * once * (ulysses - 1) / ulysses);
    CHECK(walk.count(Op::repeat_heads) == 0);
  }
}

TEST_CASE("passing queries sends R - 1 shards of them around and R - 1 partial results home") {
  // arXiv 2411.01783: queries instead of keys and values, o and its log-sum-exp (fp32) back.
  Scenario scenario = scenario_of(small_llama(), Phase::attention,
                                  plan_of(ContextMethod::ring, 4, 1));
  scenario.workload.pass = Pass::forward;
  scenario.plan.context.variant = RingVariant::pass_q;
  const Walk walk(lower(scenario));
  const std::int64_t queries = bytes_of_heads(8, 4);
  CHECK(walk.count(Op::attend) == 4);
  CHECK(walk.count(Op::merge_attention) == 3);
  CHECK(walk.count(Op::exchange) == 1);
  CHECK(walk.sent(Op::send_receive) == 3 * queries);
}

TEST_CASE("a ring that stores its scores sends keys and values twice and sums whole gradients") {
  // arXiv 2105.13120, section 3.2: R - 1 hops of each forward and backward, no overlap; two
  // all-reduces of the gradients of the whole sequence, 2 (R - 1) / R of them each.
  Plan plan = plan_of(ContextMethod::ring, 4, 1);
  plan.context.variant = RingVariant::materialised;
  const Walk walk(lower(scenario_of(small_llama(), Phase::attention, plan)));
  const std::int64_t keys = bytes_of_heads(4, 4);
  CHECK(walk.count(Op::attend) == 0);
  CHECK(walk.count(Op::score) == 2 * 4);
  CHECK(walk.count(Op::softmax) == 1);
  CHECK(walk.sent(Op::send_receive) == 4 * 3 * keys);
  CHECK(walk.count(Op::all_reduce) == 2);
}

TEST_CASE("helpers leave no rank of a causal ring more than half the rounds and one") {
  // arXiv 2310.03294, section 3.2: P/2 + 1 rounds instead of P; of every pair of shards one block.
  for (const std::int64_t ring : {2, 5, 8}) {
    Plan plan = plan_of(ContextMethod::ring, ring, 1, SequenceOrder::contiguous);
    plan.context.variant = RingVariant::helpers;
    Scenario scenario = scenario_of(small_llama(), Phase::attention, plan);
    scenario.workload.sequence_length = 8 * ring;
    const Program program = lower(scenario);
    std::int64_t blocks = 0;
    for (std::int64_t rank = 0; rank < ring; ++rank) {
      const Walk walk(program, static_cast<std::size_t>(rank));
      CAPTURE(ring, rank);
      CHECK(walk.count(Op::attend) <= ring / 2 + 1);
      CHECK(walk.count(Op::attend) == walk.count(Op::attend_backward));
      blocks += walk.count(Op::attend);
    }
    CHECK(blocks == ring * (ring + 1) / 2);
  }
}

TEST_CASE("packed q, k, v take one all-to-all there and their gradients one back") {
  // The same bytes in four exchanges instead of eight: q k v, o, do, dq dk dv.
  Scenario scenario =
      scenario_of(small_llama(), Phase::attention, plan_of(ContextMethod::ulysses, 1, 4));
  const Walk apart(lower(scenario));
  scenario.plan.context.packed_qkv = true;
  const Walk packed(lower(scenario));
  CHECK(apart.count(Op::all_to_all) == 8);
  CHECK(packed.count(Op::all_to_all) == 4);
  CHECK(packed.sent(Op::all_to_all) == apart.sent(Op::all_to_all));
}

TEST_CASE("a stack that puts tensors in order around an exchange copies each of them") {
  // Eight tensors travel. One sequence: a copy on the side where heads are cut or joined. Several:
  // on both sides. YunChang also copies where nobody is there to exchange with, unless packed: then keys
  // and values are copied out, and take the place of what they were copied from at no cost.
  Scenario scenario =
      scenario_of(small_llama(), Phase::attention, plan_of(ContextMethod::ulysses, 1, 4));
  scenario.software = "deepspeed";
  scenario.workload.micro_batch = scenario.workload.global_batch = 1;
  CHECK(Walk(lower(scenario)).count(Op::copy) == 8);
  scenario.workload.micro_batch = scenario.workload.global_batch = 2;
  CHECK(Walk(lower(scenario)).count(Op::copy) == 16);
  Scenario ring = scenario_of(small_llama(), Phase::attention, plan_of(ContextMethod::ring, 4, 1));
  ring.software = "yunchang";
  ring.plan.context.packed_qkv = true;
  const std::int64_t packed = Walk(lower(ring)).count(Op::copy);
  ring.plan.context.packed_qkv = false;
  CHECK(Walk(lower(ring)).count(Op::copy) == packed - 4 + 16);
}

TEST_CASE("Ulysses over more ranks than key/value heads replicates them and sums their gradients") {
  // 8 ranks, 2 key/value heads: each is sent four times, as if there were 8.
  const Walk walk = walk_attention(ContextMethod::ulysses, 1, 8, small_llama(8, 2));
  CHECK(walk.count(Op::repeat_heads) == 2);
  CHECK(walk.count(Op::sum_heads) == 2);
  CHECK(walk.sent(Op::all_to_all) == 2 * 4 * bytes_of_heads(8, 8) * 7 / 8);
}

TEST_CASE("a hybrid sends 1/ulysses of the key/value heads around a ring of ring ranks") {
  // After the all-to-all a rank holds the tokens of its ring shard, 64/4, with 4/2 KV heads.
  const Walk walk = walk_attention(ContextMethod::usp, 4, 2);
  const std::int64_t pair = 2 * bytes_of_heads(2, 4);
  CHECK(walk.count(Op::all_to_all) == 8);
  CHECK(walk.count(Op::attend) == 4);
  CHECK(walk.sent(Op::send_receive) == 2 * 3 * pair + 4 * 2 * pair);
}

TEST_CASE("all-gather context parallelism gathers keys and values both ways and scatters once") {
  const Walk walk = walk_attention(ContextMethod::all_gather, 4, 1);
  const std::int64_t pair = 2 * bytes_of_heads(4, 4);
  CHECK(walk.count(Op::attend) == 1);
  CHECK(walk.sent(Op::all_gather) == 2 * 3 * pair);
  CHECK(walk.sent(Op::reduce_scatter) == 3 * pair);
}

TEST_CASE("the inner of two context axes sits on neighbouring ranks") {
  Plan plan = plan_of(ContextMethod::usp, 4, 2);
  const auto first_two = [&](InnerPlacement inner) {
    plan.context.inner = inner;
    const Mesh mesh = lower(scenario_of(small_llama(), Phase::attention, plan)).mesh;
    return std::pair(mesh.coordinate(RankId(1), Axis::ulysses),
                     mesh.coordinate(RankId(1), Axis::ring));
  };
  CHECK(first_two(InnerPlacement::ulysses) == std::pair<std::int64_t, std::int64_t>(1, 0));
  CHECK(first_two(InnerPlacement::ring) == std::pair<std::int64_t, std::int64_t>(0, 1));
}

TEST_CASE(
    "the next step's keys arrive while a step attends: the hop never touches the pair in use") {
  const Program program =
      lower(scenario_of(small_llama(), Phase::attention, plan_of(ContextMethod::ring, 4, 1)));
  bool in_forward_loop = false;
  int hops = 0;
  const Instruction* hop = nullptr;
  for (const Instruction& instruction : program.code) {
    if (instruction.op == Op::loop_begin || instruction.op == Op::loop_end) {
      in_forward_loop = instruction.op == Op::loop_begin && instruction.label == "ring steps";
    }
    if (in_forward_loop && instruction.op == Op::send_receive) {
      hop = &instruction;
      CHECK(instruction.stream == Stream::context);
    }
    if (in_forward_loop && instruction.op == Op::attend) {
      REQUIRE(hop != nullptr);  // issued before the kernel it overlaps
      for (std::int64_t turn = 0; turn < 2; ++turn) {
        const std::vector<std::int64_t> counters(program.loops.size(), turn);
        const auto slot = [&](const TensorRef& ref) {
          return evaluate(ref.slot, program.mesh, RankId(0), counters);
        };
        CHECK(hop->writes[0].tensor == instruction.reads[1].tensor);
        CHECK(slot(hop->writes[0]) != slot(instruction.reads[1]));
        CHECK(slot(hop->reads[0]) == slot(instruction.reads[1]));
      }
      ++hops;
    }
  }
  CHECK(hops == 1);
}
