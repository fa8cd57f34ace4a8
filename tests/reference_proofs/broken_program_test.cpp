// The proofs can fail: programs broken on purpose, the way schedules get broken, are found out.
#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>

#include "sim/schedule/lower.h"
#include "tests/reference_proofs/proof.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;

namespace {

using M = ContextMethod;

Scenario attention(const Plan& plan) {
  Scenario scenario = scenario_of(small_llama(8, 4), Phase::attention, plan);
  scenario.workload.sequence_length = 24;
  return scenario;
}

Scenario training(const Plan& plan, std::int64_t micro_batches = 1) {
  Model model = small_llama(8, 4);
  model.layers = 2;
  model.hidden = 16;
  model.ffn = model.vocab = 24;
  Scenario scenario = scenario_of(model, Phase::train, plan);
  scenario.workload.sequence_length = 16;
  scenario.workload.micro_batch = 1;
  scenario.workload.global_batch = plan.data * micro_batches;
  return scenario;
}

std::vector<std::size_t> places_of(const Program& program, Op op, const std::string& label = "") {
  std::vector<std::size_t> places;
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    const Instruction& instruction = program.code[place];
    if (instruction.op == op && (label.empty() || instruction.label == label)) {
      places.push_back(place);
    }
  }
  REQUIRE_FALSE(places.empty());
  return places;
}

void remove(Program& program, std::size_t place) {
  program.code.erase(program.code.begin() + static_cast<std::ptrdiff_t>(place));
}

void repeat(Program& program, std::size_t place) {
  const Instruction again = program.code[place];
  program.code.insert(program.code.begin() + static_cast<std::ptrdiff_t>(place), again);
}

Tensor& tensor_named(Program& program, const std::string& name) {
  return *std::find_if(program.tensors.begin(), program.tensors.end(),
                       [&](const Tensor& tensor) { return tensor.name == name; });
}

// The verdict on a scenario's program after `fault`; the sound program must be proven first.
Verdict after(const Scenario& scenario, const std::function<void(Program&)>& fault) {
  Program program = lower(scenario);
  REQUIRE(is_proven(prove(scenario, program)));
  fault(program);
  return prove(scenario, program);
}

// The same for each place of an op in turn.
void each_place(const Scenario& scenario, Op op,
                const std::function<void(Program&, std::size_t)>& fault,
                const std::function<bool(const Verdict&)>& caught) {
  for (const std::size_t place : places_of(lower(scenario), op)) {
    const Verdict verdict = after(scenario, [&](Program& program) { fault(program, place); });
    INFO("at instruction " << place << ": " << verdict.why << ": " << verdict.error);
    CHECK(caught(verdict));
  }
}

bool is_refused_for(const Verdict& verdict, const std::string& why) {
  return verdict.refused && verdict.why.find(why) != std::string::npos;
}

bool is_caught(const Verdict& verdict) { return verdict.refused || is_wrong(verdict); }

const Scenario ring4 = attention(plan_of(M::ring, 4, 1));

}  // namespace

TEST_CASE("a ring that makes one turn too few, forward or backward, gives wrong numbers") {
  // The last step then reads the pair of the step before, which is a pair seen twice.
  for (const std::string name : {"ring steps", "ring steps backward"}) {
    const Verdict verdict = after(ring4, [&](Program& program) {
      for (Loop& loop : program.loops) {
        loop.count -= loop.name == name ? 1 : 0;
      }
    });
    CHECK(is_caught(verdict));
  }
}

TEST_CASE("no hop can be dropped") {
  each_place(
      ring4, Op::send_receive, [](Program& program, std::size_t place) { remove(program, place); },
      is_caught);
}

TEST_CASE("hops in the wrong direction give wrong numbers") {
  each_place(
      ring4, Op::send_receive,
      [](Program& program, std::size_t place) { program.code[place].shift = -1; }, is_wrong);
}

TEST_CASE("a block masked as that of the next rank is found out") {
  // Mostly by wrong numbers; where rows then see no key at all, by the NaNs of their gradients.
  for (const Op op : {Op::attend, Op::attend_backward}) {
    each_place(
        ring4, op,
        [](Program& program, std::size_t place) {
          Index& owner = *program.code[place].block->key_owner;
          owner.constant += 1;
          owner.modulus = 4;
        },
        is_caught);
  }
}

TEST_CASE("another mask, window or order than the scenario's gives wrong numbers") {
  CHECK(is_wrong(
      after(ring4, [](Program& program) { program.attention.mask.kind = MaskKind::full; })));
  CHECK(is_wrong(
      after(ring4, [](Program& program) { program.attention.order = SequenceOrder::contiguous; })));
  Scenario windowed = ring4;
  windowed.workload.mask = {MaskKind::window, 7};
  for (const std::int64_t window : {6, 8}) {
    CHECK(is_wrong(
        after(windowed, [&](Program& program) { program.attention.mask.window = window; })));
  }
}

TEST_CASE("a block seen twice gives wrong numbers") {
  for (const Op op : {Op::merge_attention, Op::add}) {
    each_place(
        ring4, op, [](Program& program, std::size_t place) { repeat(program, place); }, is_wrong);
  }
  // The first attend_backward writes; the later ones add to dq.
  const std::vector<std::size_t> kernels = places_of(lower(ring4), Op::attend_backward);
  for (const std::size_t place : {kernels[1], kernels[2]}) {
    CHECK(is_wrong(after(ring4, [&](Program& program) { repeat(program, place); })));
  }
}

TEST_CASE("partial results that overwrite instead of combining are found out") {
  for (const Op op : {Op::merge_attention, Op::attend_backward}) {
    const std::vector<std::size_t> places = places_of(lower(ring4), op);
    const Verdict verdict =
        after(ring4, [&](Program& program) { program.code[places.back()].accumulate = false; });
    INFO(name_of(op) << ": " << verdict.why << ": " << verdict.error);
    CHECK(is_caught(verdict));
  }
}

TEST_CASE("a pair released before its last use is refused, and so is one never released") {
  CHECK(is_refused_for(after(ring4,
                             [](Program& program) {
                               const std::size_t release =
                                   places_of(program, Op::release, "release ring_k")[0];
                               const std::size_t use = places_of(program, Op::attend).back();
                               const auto begin = program.code.begin();
                               std::rotate(begin + static_cast<std::ptrdiff_t>(use),
                                           begin + static_cast<std::ptrdiff_t>(release),
                                           begin + static_cast<std::ptrdiff_t>(release) + 1);
                             }),
                       "which is not held"));
  CHECK(is_refused_for(after(ring4,
                             [](Program& program) {
                               remove(program,
                                      places_of(program, Op::release, "release ring_dv").back());
                             }),
                       "held at the end"));
}

TEST_CASE("a buffer that is not doubled gives wrong numbers or is refused") {
  const Verdict verdict = after(ring4, [](Program& program) {
    for (Instruction& instruction : program.code) {
      if (instruction.op == Op::send_receive && instruction.label == "ring exchange") {
        instruction.writes[0].slot = instruction.writes[1].slot = Index::of(0);
      }
    }
  });
  CHECK(is_caught(verdict));
}

TEST_CASE("an all-to-all along the wrong dimensions is refused") {
  each_place(
      attention(plan_of(M::usp, 2, 2)), Op::all_to_all,
      [](Program& program, std::size_t place) {
        std::swap(program.code[place].dim, program.code[place].join_dim);
      },
      [](const Verdict& verdict) { return verdict.refused; });
}

TEST_CASE("all-gathered keys left in the order of their shards give wrong numbers") {
  const Scenario scenario = attention(plan_of(M::all_gather, 4, 1));
  for (const std::string label : {"keys into natural order", "key gradients into shards"}) {
    CHECK(is_wrong(after(scenario, [&](Program& program) {
      program.code[places_of(program, Op::reorder, label)[0]].op = Op::copy;
    })));
  }
}

TEST_CASE("gradients that are not summed over replicas are found out") {
  Plan plan = plan_of(M::ring, 2, 1);
  plan.data = 2;
  plan.zero = 0;
  // Replicas then disagree. ZeRO 1 and 2 have shards that nothing was ever written to.
  CHECK(is_refused_for(
      after(training(plan),
            [](Program& program) { remove(program, places_of(program, Op::all_reduce)[0]); }),
      "disagree"));
  plan.zero = 1;
  CHECK(is_refused_for(
      after(training(plan),
            [](Program& program) { remove(program, places_of(program, Op::reduce_scatter)[0]); }),
      "never written"));
  plan.zero = 2;
  CHECK(is_wrong(after(training(plan, 2), [](Program& program) {
    program.code[places_of(program, Op::reduce_scatter).back()].accumulate = false;
  })));
}

TEST_CASE("a weight broadcast by another rank than its owner, or by nobody, is found out") {
  Plan plan;
  plan.data = 3;
  plan.zero = 1;
  plan.zero_owners = true;
  each_place(
      training(plan), Op::broadcast,
      [](Program& program, std::size_t place) {
        program.code[place].root = (program.code[place].root + 1) % 3;
      },
      is_wrong);
  each_place(
      training(plan), Op::broadcast,
      [](Program& program, std::size_t place) { remove(program, place); }, is_caught);
}

TEST_CASE("norm gradients of sequence parallel ranks that are not summed are found out") {
  Plan plan;
  plan.tensor = 2;
  plan.sequence_parallel = true;
  CHECK(is_refused_for(after(training(plan),
                             [](Program& program) {
                               remove(program,
                                      places_of(program, Op::all_reduce, "sum norm gradients")[1]);
                             }),
                       "disagree"));
}

TEST_CASE("rotary positions of another order of tokens give wrong numbers") {
  CHECK(is_wrong(after(training(plan_of(M::ring, 4, 1)), [](Program& program) {
    tensor_named(program, "k").shards[1][0].order = SequenceOrder::contiguous;
  })));
}

TEST_CASE("a loss scaled twice too much gives wrong gradients") {
  CHECK(is_wrong(after(training(Plan()), [](Program& program) {
    program.code[places_of(program, Op::loss)[0]].scale *= 2;
  })));
}

TEST_CASE("no instruction is idle: whichever is left out, the program is found out") {
  Plan plan = plan_of(M::usp, 2, 2);
  plan.tensor = 2;
  plan.sequence_parallel = true;
  plan.recompute = Recompute::selective;
  std::vector<Scenario> scenarios{ring4, attention(plan_of(M::all_gather, 3, 1)),
                                  attention(plan_of(M::usp, 3, 2))};
  for (const int zero : {0, 1, 2, 3}) {
    plan.zero = zero;
    // ZeRO 3 gathers embedding and head again in a second micro-batch, into buffers that still hold
    // them here, as FSDP does: leaving that out would change no number.
    scenarios.push_back(training(plan, zero == 1 || zero == 2 ? 2 : 1));
  }
  for (const Scenario& scenario : scenarios) {
    const Program sound = lower(scenario);
    REQUIRE(is_proven(prove(scenario, sound)));
    for (std::size_t place = 0; place < sound.code.size(); ++place) {
      const Instruction& instruction = sound.code[place];
      if (instruction.op == Op::loop_begin || instruction.op == Op::loop_end) {
        continue;
      }
      Program broken = sound;
      remove(broken, place);
      const Verdict verdict = prove(scenario, broken);
      INFO(describe(scenario));
      INFO("without instruction " << place << ", " << name_of(instruction.op) << " '"
                                  << instruction.label << "': " << verdict.error);
      CHECK_FALSE(is_proven(verdict));
    }
  }
}
