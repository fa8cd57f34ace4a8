// What stacks hold besides the tensors of their schedules.
#include <catch2/catch.hpp>

#include <memory>

#include "sim/schedule/lower.h"
#include "sim/search/software_memory.h"
#include "tests/sim/search/sixteen_gpus.h"

using namespace longhaul;

namespace {

// Bytes that the software adds to a plan's program, of communication.
std::int64_t added(const std::string& plan, const SoftwareProfile& stack) {
  Scenario scenario = on_sixteen_gpus(plan, 16);
  scenario.stack_override = std::make_shared<const SoftwareProfile>(stack);
  Program program = lower(scenario);
  const std::size_t before = program.tensors.size();
  add_software_memory(scenario, program);
  std::int64_t bytes = 0;
  for (std::size_t i = before; i < program.tensors.size(); ++i) {
    const Tensor& tensor = program.tensors[i];
    CHECK(tensor.persistent);
    if (tensor.category == MemoryCategory::communication) {
      bytes += static_cast<std::int64_t>(tensor.slot_bytes().value()) * tensor.slots;
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("a bucket of gradients is held under ZeRO: twice below stage 3 where sums overlap") {
  // bf16; stage 3 has one bucket, and as much again to put it in order by rank.
  SoftwareProfile stack;
  stack.reduction_bucket = 1000;
  CHECK(added("{zero: 0}", stack) == 0);
  CHECK(added("{zero: 1}", stack) == 2 * 2 * 1000);
  CHECK(added("{zero: 1, overlap_gradient_reduction: false}", stack) == 2 * 1000);
  CHECK(added("{zero: 3}", stack) == 2 * 2 * 1000);
  stack.reduction_bucket = 0;
  CHECK(added("{zero: 3}", stack) == 0);
}

TEST_CASE("a part of a gradient that leaves for host memory is there in bf16 and in fp64") {
  // Of the largest weight a rank owns a part of: 10 bytes for each of its elements.
  SoftwareProfile stack;
  stack.reduction_bucket = 1000;
  std::int64_t largest = 0;
  for (const Tensor& tensor : lower(on_sixteen_gpus("{zero: 3}", 16)).tensors) {
    largest = std::max(largest, tensor.role == Role::parameter ? tensor.elements() : 0);
  }
  REQUIRE(largest > 0);
  CHECK(added("{zero: 3, offload: [optimizer]}", stack) ==
        added("{zero: 3}", stack) + 10 * largest);
}

TEST_CASE("weights cast to fp8 stay: twice before Blackwell, once since") {
  // Llama 3 8B on 2 tensor ranks: half of 32 layers' matrices, a byte for each element and form; not
  // the embedding nor the head, whose products are not in fp8.
  const auto held = [](const std::string& cluster, const std::string& plan, const char* type) {
    Diagnostics diagnostics;
    const auto source = std::make_shared<const SourceText>(SourceText{
        "s.yaml", fmt::format("model: llama3-8b\ncluster: {}\ngpus: 8\nsoftware: megatron\n"
                              "workload: {{sequence_length: 8k, global_batch: 8}}\nplan: {}\n"
                              "precision: {{compute: {}}}\n", cluster, plan, type)});
    const auto map = YamlValue::parse(source, diagnostics);
    REQUIRE(map);
    const auto scenario = check_scenario(read_scenario(*map, diagnostics), diagnostics);
    REQUIRE(scenario);
    Program program = lower(*scenario);
    add_software_memory(*scenario, program);
    double bytes = 0.0;
    for (const Tensor& tensor : program.tensors) {
      const bool cast = tensor.name.starts_with("fp8 ");
      bytes += cast ? tensor.slot_bytes().value() * static_cast<double>(tensor.slots) : 0.0;
    }
    return bytes;
  };
  const double matrices = 32.0 * (2.0 * 4096 * 4096 + 2.0 * 4096 * 1024 + 3.0 * 4096 * 14336) / 2;
  const std::string plan = "{tensor: 2, sequence_parallel: true}";
  CHECK(held("dgx-h100", plan, "fp8") == 2.0 * matrices);
  CHECK(held("dgx-b200", plan, "fp8") == matrices);
  CHECK(held("dgx-h100", plan, "bf16") == 0.0);
  CHECK(held("dgx-h100", "{tensor: 2, sequence_parallel: true, zero: 3}", "fp8") == 0.0);
}
