// Simulating one rank of each class of equal ranks changes nothing: folded equals unfolded, tick by
// tick and byte by byte.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "sim/cost/collective.h"
#include "sim/cost/kernel.h"
#include "sim/engine/engine.h"
#include "sim/input/yaml.h"
#include "sim/scenario/read_scenario.h"
#include "sim/schedule/lower.h"
#include "sim/schedule/pass_lists.h"
#include "sim/search/pass_costs.h"

using namespace longhaul;

namespace {

struct Case {
  const char* text;          // a scenario
  std::int64_t most_actors;  // it must fold to at most so many
  const char* model_text = nullptr;  // absent: the dense model below
};

Scenario checked(const std::string& text) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"case", text});
  const auto document = YamlValue::parse(source, diagnostics);
  diagnostics.throw_if_errors();
  const ScenarioDraft draft = read_scenario(*document, diagnostics);
  const auto scenario = check_scenario(draft, diagnostics);
  diagnostics.throw_if_errors();
  REQUIRE(scenario);
  return *scenario;
}

Timeline run(const Scenario& scenario, bool fold, bool skip = true) {
  Diagnostics diagnostics;
  const Program program = lower(scenario);
  const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
  EngineOptions options;
  options.fold = fold;
  options.skip_repetition = skip;
  return simulate(program, scenario.cluster, kernels, transport, options);
}

void check_equal(const Timeline& folded, const Timeline& whole) {
  CHECK(folded.end == whole.end);
  CHECK(folded.events == whole.events);
  REQUIRE(folded.ranks.size() == whole.ranks.size());
  for (std::size_t rank = 0; rank < whole.ranks.size(); ++rank) {
    INFO("rank " << rank);
    CHECK(folded.ranks[rank].ticks == whole.ranks[rank].ticks);
    CHECK(folded.ranks[rank].end == whole.ranks[rank].end);
    CHECK(folded.ranks[rank].forward_end == whole.ranks[rank].forward_end);
    CHECK(folded.memory[rank].bytes == whole.memory[rank].bytes);
    CHECK(folded.memory[rank].when == whole.memory[rank].when);
  }
  REQUIRE(folded.link_bytes.size() == whole.link_bytes.size());
  for (std::size_t link = 0; link < whole.link_bytes.size(); ++link) {
    INFO("link " << link);
    CHECK_THAT(folded.link_bytes[link], Catch::Matchers::WithinRel(whole.link_bytes[link], 1e-9));
  }
}

constexpr const char* model =
    "model: {name: tiny, layers: 3, hidden: 1024, heads: 16, kv_heads: 8, head_dim: 64, ffn: 2048,"
    " gated_mlp: true, vocab: 8192, tied_embeddings: false}\n";

constexpr const char* experts_model =
    "model: {name: tiny-moe, layers: 4, hidden: 1024, heads: 16, kv_heads: 8, head_dim: 64, ffn: "
    "2048, vocab: 8192, experts: 16, experts_per_token: 2, expert_ffn: 512, shared_expert_ffn: "
    "512, first_dense_layers: 1}\n";

const Case cases[] = {
    // Replicas are equal, and so are tensor-parallel ranks; ring positions are not.
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "4}\n"
     "plan: {context: {method: ring, ring: 8, order: zigzag}, zero: 0}\n",
     8},
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "2}\n"
     "plan: {tensor: 8, sequence_parallel: true, context: {method: ring, ring: 2}, zero: 1}\n",
     4},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "2}\n"
     "plan: {context: {method: ulysses, ulysses: 8}, zero: 3, recompute: full}\n",
     2},
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 64k, global_batch: "
     "1}\n"
     "plan: {context: {method: usp, ulysses: 8, ring: 4, order: zigzag}, zero: 2}\n",
     8},
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 64k, global_batch: "
     "1}\n"
     "plan: {context: {method: usp, ulysses: 4, ring: 8, order: striped, inner: ring}}\n",
     16},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "1}\n"
     "plan: {tensor: 2, sequence_parallel: true, context: {method: ring, ring: 8, order:"
     " contiguous}}\n",
     16},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "1}\n"
     "plan: {context: {method: all_gather, ring: 16, order: zigzag}, recompute: selective}\n",
     16},
    // Full attention: every position of a ring does the same.
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: attention, sequence_length: 64k, mask: full}\n"
     "plan: {context: {method: ring, ring: 16}}\n",
     16},
    {"cluster: dgx-h100\ngpus: 8\nworkload: {phase: attention, sequence_length: 64k, mask: full}\n"
     "plan: {context: {method: ring, ring: 8}}\n",
     1},
    // Groups that do not fill their nodes, and PCIe nodes whose GPUs are not all alike.
    {"cluster: dgx-h100\ngpus: 12\nworkload: {phase: train, sequence_length: 24k, global_batch: "
     "3}\n"
     "plan: {context: {method: ring, ring: 4}, zero: 1}\n",
     12},
    {"cluster: l40s-pcie\ngpus: 8\nworkload: {phase: train, sequence_length: 16k, global_batch: "
     "2}\n"
     "plan: {tensor: 2, sequence_parallel: true, context: {method: ulysses, ulysses: 2}}\n",
     8},
    {"cluster: a100-pcie\ngpus: 8\nworkload: {phase: forward, sequence_length: 32k}\n"
     "plan: {context: {method: ring, ring: 8}}\n",
     8},
    // One GPU's slot is slower than the others': what was alike without it no longer is.
    {"cluster: {name: odd, nodes: 1, node: {include: l40s-pcie, layout: {switches: [cpu0, cpu0, "
     "cpu1,"
     " cpu1], gpus: [pcie0, {on: pcie0, slot: 8 GB/s}, pcie1, pcie1, pcie2, pcie2, pcie3, pcie3],"
     " nics: [pcie0, pcie1, pcie2, pcie3]}}}\ngpus: 8\n"
     "workload: {phase: train, sequence_length: 16k, global_batch: 4}\n"
     "plan: {tensor: 2, sequence_parallel: true, context: {method: none}, zero: 1}\n",
     8},
    // Experts dealt to a node's ranks, each held twice.
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "16, expert_imbalance: 1.5}\n"
     "plan: {expert: 8, zero: 1}\n",
     4, experts_model},
    // Tokens by node, by all-gather and beside the shared experts.
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "32, expert_imbalance: 1.2}\n"
     "plan: {expert: 16, expert_dispatch: deepep, shared_expert_overlap: true, zero: 1}\n",
     8, experts_model},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "8}\n"
     "plan: {tensor: 2, sequence_parallel: true, expert: 8, expert_tensor: 1, expert_dispatch: "
     "deepep, expert_dispatch_dtype: fp8, recompute: full}\n",
     8, experts_model},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "8}\n"
     "plan: {tensor: 2, sequence_parallel: true, expert: 4, expert_dispatch: allgather}\n",
     8, experts_model},
    // Owners of whole weights: alike if what they own is, whichever layer's it is. 21 weights (with
    // the node's ring: ranks that own a matrix of each kind, embedding, head, norms, nothing).
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "64}\n"
     "plan: {zero: 1, zero_owners: true}\n",
     12},
    {"cluster: dgx-h100\ngpus: 32\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "32}\n"
     "plan: {tensor: 2, pipeline: 2, stage_layers: [1, 2], zero: 1, zero_owners: true, zero_group: 4}\n",
     16},
    // Stages of a pipeline differ; their replicas and tensor-parallel ranks do not.
    {"cluster: dgx-h100\ngpus: 24\nworkload: {phase: train, sequence_length: 8k, global_batch: "
     "8}\n"
     "plan: {tensor: 8, sequence_parallel: true, pipeline: 3, zero: 1}\n",
     3},
    {"cluster: dgx-h100\ngpus: 12\nworkload: {phase: train, sequence_length: 8k, global_batch: "
     "12}\n"
     "plan: {tensor: 2, pipeline: 3, context: {method: none}, zero: 1}\n",
     12},
    // Stages that gather their weights, for every pass or once, and stages of both kinds of layers.
    {"cluster: dgx-h100\ngpus: 12\nworkload: {phase: train, sequence_length: 8k, global_batch: "
     "24}\n"
     "plan: {tensor: 2, pipeline: 3, zero: 3, reshard_after_forward: true}\n",
     12},
    {"cluster: dgx-h100\ngpus: 12\nworkload: {phase: train, sequence_length: 8k, global_batch: "
     "24}\n"
     "plan: {tensor: 2, pipeline: 3, zero: 3, recompute: full, recompute_layers: 1}\n",
     12},
    {"cluster: dgx-h100\ngpus: 16\nworkload: {phase: train, sequence_length: 4k, global_batch: "
     "16}\n"
     "plan: {pipeline: 2, expert: 8, zero: 3, reshard_after_forward: true, prefetch: 1}\n",
     16, experts_model},
    {"cluster: dgx-h100\ngpus: 8\nworkload: {phase: train, sequence_length: 32k, global_batch: "
     "1}\n"
     "plan: {recompute: full, recompute_detail: keep_attention_output_part, context: {method: ring,"
     " ring: 8, order: striped, variant: q_side_backward}}\n",
     8},
    {"cluster: gb200-nvl72\ngpus: 32\nworkload: {phase: prefill, sequence_length: 64k}\n"
     "plan: {tensor: 8, context: {method: ring, ring: 4}}\n",
     32},
    {"cluster: dgx-h100\ngpus: 24\nworkload: {phase: prefill, sequence_length: 8k, cached_tokens: "
     "64k, global_batch: 12}\n"
     "plan: {tensor: 4, pipeline: 3, context: {method: ring, ring: 2}}\n",
     24},
};

}  // namespace

TEST_CASE("one rank of each class stands for all: times, accounts, peaks and bytes are the same") {
  for (const Case& one : cases) {
    INFO(one.text);
    const Scenario scenario = checked(std::string(one.model_text ? one.model_text : model) + one.text);
    const Timeline folded = run(scenario, true);
    const Timeline whole = run(scenario, false);
    check_equal(folded, whole);
    CHECK(folded.actors <= one.most_actors);
    CHECK(whole.actors == static_cast<std::int64_t>(whole.ranks.size()));
    CHECK(folded.simulated_events <= whole.simulated_events);
  }
}

TEST_CASE("skipped turns of a pipeline are the same as stepped ones") {
  for (const char* plan :
       {"{tensor: 2, pipeline: 3, data: 1}", "{pipeline: 2, virtual_pipeline: 3, data: 1}",
        "{pipeline: 2, virtual_pipeline: 3, virtual_group: 4}",
        "{pipeline: 2, virtual_pipeline: 3, virtual_group: 7}",  // 4 of 60 are left over
        "{pipeline: 2, virtual_pipeline: 2, virtual_group: 3, uneven_stages: true}",
        "{pipeline: 2, virtual_pipeline: 2, stage_layers: [3, 0, 1, 2]}",
        "{pipeline: 2, virtual_pipeline: 3, recompute: full, recompute_layers: 1}",
        "{tensor: 2, pipeline: 3, recompute: full, recompute_layers: 1}"}) {
    INFO(plan);
    const bool interleaved = std::string(plan).find("virtual") != std::string::npos;
    const Scenario scenario =
        checked(std::string(model).replace(std::string(model).find("layers: 3"), 9, "layers: 6") +
                "cluster: dgx-h100\ngpus: " + (interleaved ? "2" : "6") +
                "\nworkload: {phase: train, sequence_length: 4k, global_batch: 60}\nplan: " + plan);
    const Timeline skipped = run(scenario, true);
    const Timeline stepped = run(scenario, true, false);
    check_equal(skipped, stepped);
    CHECK(skipped.simulated_events < stepped.simulated_events);
  }
}

TEST_CASE("skipped turns of stages without backward passes are the same as stepped ones") {
  for (const char* work :
       {"{phase: forward, sequence_length: 4k, global_batch: 60}\nplan: {pipeline: 2}",
        "{phase: prefill, sequence_length: 1k, cached_tokens: 8k, global_batch: 60}\n"
        "plan: {pipeline: 2, virtual_pipeline: 3}",
        "{phase: prefill, sequence_length: 4k, global_batch: 62}\n"
        "plan: {pipeline: 2, virtual_pipeline: 2, stage_layers: [3, 0, 1, 2]}"}) {
    INFO(work);
    const Scenario scenario =
        checked(std::string(model).replace(std::string(model).find("layers: 3"), 9, "layers: 6") +
                "cluster: dgx-h100\ngpus: 2\nworkload: " + work);
    const Timeline skipped = run(scenario, true);
    const Timeline stepped = run(scenario, true, false);
    check_equal(skipped, stepped);
    CHECK(skipped.simulated_events < stepped.simulated_events);
  }
}

TEST_CASE("skipped turns are stepped ones where stages gather weights and hold layers of two kinds") {
  for (const char* plan :
       {"{pipeline: 2, data: 2, zero: 3, reshard_after_forward: true, prefetch: 1}",
        "{pipeline: 2, data: 2, zero: 3, virtual_pipeline: 2, reshard_after_forward: true}",
        "{pipeline: 2, data: 2, expert: 2, zero: 3}",
        "{pipeline: 2, data: 2, expert: 2, virtual_pipeline: 2, stage_layers: [0, 2, 1, 1]}"}) {
    INFO(plan);
    const Scenario scenario =
        checked(std::string(experts_model) +
                "cluster: dgx-h100\ngpus: 4\nworkload: {phase: train, sequence_length: 1k, "
                "global_batch: 60}\nplan: " + plan);
    check_equal(run(scenario, true), run(scenario, true, false));
  }
}

// Where no stage waits for the others between steps, a rank's step begins with its first input.
TEST_CASE("stages that split their backward passes are skipped, folded and accounted like others") {
  for (const char* plan :
       {"schedule: zb_h1", "schedule: zb_h2", "schedule: zb_2p", "schedule: zb_h2, post_validation: false",
        "schedule: zb_h1, sequence_parallel: true, zero: 1", "schedule: zb_1p, recompute: selective",
        "schedule: zb_h2, stage_layers: [1, 1, 4]"}) {
    INFO(plan);
    const Scenario scenario =
        checked(std::string(model).replace(std::string(model).find("layers: 3"), 9, "layers: 6") +
                "cluster: dgx-h100\ngpus: 12\nworkload: {phase: train, sequence_length: 4k, "
                "global_batch: 24}\nplan: {tensor: 2, pipeline: 3, data: 2, " + plan + "}");
    const Timeline folded = run(scenario, true);
    check_equal(folded, run(scenario, true, false));
    check_equal(folded, run(scenario, false));
    CHECK(folded.actors <= 6);
    for (const RankTimes& rank : folded.ranks) {
      const std::int64_t sum = std::accumulate(rank.ticks.begin(), rank.ticks.end(), std::int64_t{0});
      CHECK(sum == folded.end.ticks());
      CHECK(rank.end <= folded.end);
    }
  }
}

// Equal layers, the model's ends next to nothing, messages small: a step is as long as its lists are with
// the lengths of F, B and W that the engine itself gives (calls that wait hold SMs: within 3 %), and ZB-H1 stands still for some third of what
// 1F1B does (arXiv 2401.10241: exactly that, if F, B and W are alike and messages free).
TEST_CASE("planned pipelines count with messages that all stages send at once, not one after another") {
  const auto measured = [](const std::string& cluster, std::int64_t stages) {
    Diagnostics diagnostics;
    const Scenario scenario = checked(
        "model: {name: equal, layers: 16, hidden: 4096, heads: 32, kv_heads: 32, head_dim: 128,"
        " ffn: 16384, gated_mlp: false, vocab: 128, tied_embeddings: false}\ncluster: " + cluster +
        "\ngpus: " + std::to_string(stages) +
        "\nworkload: {phase: train, sequence_length: 4k, global_batch: 32}\n"
        "plan: {zero: 0, schedule: zb_1p, pipeline: " + std::to_string(stages) + "}\n");
    const KernelCosts kernels = find_kernel_costs(scenario.cluster.device(), "", diagnostics);
    const TransportCosts transport = find_transport_costs(scenario.cluster, diagnostics);
    const auto timed = with_pass_costs(scenario, kernels, transport);
    REQUIRE(timed);
    std::vector<GpuId> all;
    for (std::int64_t gpu = 0; gpu < stages; ++gpu) {
      all.emplace_back(static_cast<std::size_t>(gpu));
    }
    // The slowest neighbours: those of different nodes, if there are several.
    const std::size_t sender = stages > 8 ? 7 : 0;
    CollectiveRequest message{CollectiveKind::send, std::span(all).subspan(sender, 2),
                              Bytes::of(4096.0 * 4096.0 * 2.0)};
    message.communicator = all;
    return SimTime::of_ticks(timed->pass_costs->message).seconds().value() /
           transport.alone(message).value();
  };
  for (const std::int64_t stages : {2, 4, 8, 16}) {
    INFO(stages);
    CHECK_THAT(measured("dgx-h100", stages), Catch::Matchers::WithinRel(1.0, 0.05));
  }
}

TEST_CASE("zero-bubble pipelines take as long as their lists say") {
  const auto equal = [](const std::string& schedule) {
    return checked(
        "model: {name: equal, layers: 8, hidden: 8192, heads: 64, kv_heads: 64, head_dim: 128,"
        " ffn: 32768, gated_mlp: false, vocab: 128, tied_embeddings: false}\n"
        "cluster: dgx-h100\ngpus: 4\nworkload: {phase: train, sequence_length: 8k, global_batch: 12}\n"
        "plan: {pipeline: 4, zero: 0, schedule: " + schedule + "}\n");
  };
  Diagnostics diagnostics;
  const Scenario planned = equal("zb_2p");
  const KernelCosts kernels = find_kernel_costs(planned.cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(planned.cluster, diagnostics);
  const auto timed = with_pass_costs(planned, kernels, transport);
  REQUIRE(timed);
  const auto step = [&](Scenario scenario, double* idle) {
    scenario.pass_costs = timed->pass_costs;
    const Timeline timeline = run(scenario, true);
    const auto& ticks = timeline.ranks[0].ticks;
    *idle = static_cast<double>(ticks[static_cast<std::size_t>(Cause::pipeline)] +
                                ticks[static_cast<std::size_t>(Cause::slower_ranks)]);
    return static_cast<double>(timeline.end.ticks() -
                               ticks[static_cast<std::size_t>(Cause::optimizer)]);
  };
  double idle[5] = {};
  int next = 0;
  step(equal("1f1b"), &idle[next++]);
  for (const char* schedule : {"zb_h1", "zb_h2", "zb_1p", "zb_2p"}) {
    INFO(schedule);
    Scenario scenario = equal(schedule);
    scenario.pass_costs = timed->pass_costs;
    const auto listed = static_cast<double>(
        clock_of(lists_of(scenario), *timed->pass_costs).step(scenario.steps_apart()));
    CHECK_THAT(step(scenario, &idle[next++]), Catch::Matchers::WithinRel(listed, 0.03));
  }
  const auto [one_f_one_b, h1, h2, one_p, two_p] = idle;
  CHECK_THAT(h1 / one_f_one_b, Catch::Matchers::WithinAbs(0.45, 0.12));
  CHECK(h2 < 0.6 * h1);
  CHECK(one_p <= h1);
  CHECK(two_p < 0.6 * h1);
}

// The share of a step in which a stage of equal stages with free messages stands still is
// (p - 1) / (v m + p - 1) (arXiv 2104.04473). Here the messages and the ends of the model are small,
// not free, and the optimizer runs after the pipeline: within 15 % of it.
TEST_CASE("equal stages stand still for the closed form's share of the step") {
  // Passes without backward ones fill and empty the pipeline alike; a third as long, each waits for
  // its message, a fiftieth of it.
  for (const auto& [phase, chunks] :
       std::vector<std::pair<const char*, std::int64_t>>{{"train", 1}, {"train", 2},
                                                         {"forward", 1}, {"forward", 2}}) {
    const bool training = std::string(phase) == "train";
    for (const std::int64_t micro_batches : {4, 8, 32}) {
      const Scenario scenario = checked(
          "model: {name: equal, layers: 8, hidden: 8192, heads: 64, kv_heads: 64, head_dim: 128,"
          " ffn: 32768, gated_mlp: false, vocab: 128, tied_embeddings: false}\n"
          "cluster: dgx-h100\ngpus: 4\nworkload: {phase: " + std::string(phase) +
          ", sequence_length: 8k, global_batch: " + std::to_string(micro_batches) + "}\nplan: {pipeline: 4, virtual_pipeline: " +
          std::to_string(chunks) + ", zero: 0}\n");
      const Timeline timeline = run(scenario, true);
      const double step = timeline.end.seconds().value();
      double busy = 0.0;
      for (const RankTimes& times : timeline.ranks) {
        for (int cause = 0; cause < busy_cause_count; ++cause) {
          busy += SimTime::of_ticks(times.ticks[static_cast<std::size_t>(cause)]).seconds().value();
        }
      }
      const double bubble = 1.0 - busy / 4.0 / step;
      const double expected = 3.0 / static_cast<double>(chunks * micro_batches + 3);
      INFO(chunks << " chunks, " << micro_batches << " micro-batches: " << bubble);
      const double messages = training ? 0.15 * expected : 0.025;
      CHECK_THAT(bubble, Catch::Matchers::WithinAbs(expected, messages));
    }
  }
}

TEST_CASE("a slower link splits the classes that it touches") {
  const std::string work =
      "gpus: 8\nworkload: {phase: attention, sequence_length: 64k, mask: full}\n"
      "plan: {context: {method: ring, ring: 8}}\n";
  const std::string slots[] = {"pcie0", "{on: pcie0, slot: 8 GB/s}"};
  std::int64_t actors[2] = {};
  for (int i = 0; i < 2; ++i) {
    const std::string cluster =
        "cluster: {name: odd, nodes: 1, node: {include: l40s-pcie, layout: {switches: [cpu0, cpu0,"
        " cpu1, cpu1], gpus: [pcie0, " +
        slots[i] +
        ", pcie1, pcie1, pcie2, pcie2, pcie3, pcie3],"
        " nics: [pcie0, pcie1, pcie2, pcie3]}}}\n";
    const Scenario scenario = checked(std::string(model) + cluster + work);
    const Timeline folded = run(scenario, true);
    check_equal(folded, run(scenario, false));
    actors[i] = folded.actors;
  }
  CHECK(actors[0] < actors[1]);
}

TEST_CASE("what is recorded is recorded of every rank, so nothing is folded then") {
  const Scenario scenario = checked(std::string(model) + cases[0].text);
  Diagnostics diagnostics;
  EngineOptions options;
  options.record_spans = true;
  const Timeline timeline = simulate(lower(scenario), scenario.cluster,
                                     find_kernel_costs(scenario.cluster.device(), "", diagnostics),
                                     find_transport_costs(scenario.cluster, diagnostics), options);
  CHECK(timeline.actors == 32);
  std::vector<bool> seen(32, false);
  for (const Span& span : timeline.spans) {
    seen[span.rank.index] = true;
  }
  CHECK(std::count(seen.begin(), seen.end(), true) == 32);
}
