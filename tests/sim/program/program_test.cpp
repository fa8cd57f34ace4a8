// Meshes, groups, layouts, cursors: the small machinery both executors share.
#include <catch2/catch.hpp>
#include <set>

#include "sim/program/cursor.h"
#include "sim/program/layout.h"
#include "sim/program/program.h"
#include "sim/units/check.h"

using namespace longhaul;

namespace {

Mesh mesh_of(std::int64_t tensor, std::int64_t ulysses, std::int64_t ring, std::int64_t data) {
  Mesh mesh;
  mesh.sizes[static_cast<int>(Axis::tensor)] = tensor;
  mesh.sizes[static_cast<int>(Axis::ulysses)] = ulysses;
  mesh.sizes[static_cast<int>(Axis::ring)] = ring;
  mesh.sizes[static_cast<int>(Axis::data)] = data;
  return mesh;
}

Instruction marker(Op op, std::size_t loop) {
  Instruction instruction;
  instruction.op = op;
  instruction.loop = LoopId(loop);
  return instruction;
}

Instruction zero_of(std::size_t tensor) {
  Instruction instruction;
  instruction.op = Op::zero;
  instruction.writes.push_back({TensorId(tensor), {}, {}, {}, 0});
  return instruction;
}

// outer x 2 { zero; inner x 3 { zero } }
Program nested_loops() {
  Program program;
  Tensor x;
  x.name = "x";
  x.shape = {1};
  x.shards = {{}};
  x.type = DataType::fp32;
  x.persistent = true;
  program.tensors.push_back(x);
  program.loops = {{"outer", 2, false}, {"inner", 3, false}};
  program.code = {marker(Op::loop_begin, 0), zero_of(0), marker(Op::loop_begin, 1), zero_of(0),
                  marker(Op::loop_end, 1), marker(Op::loop_end, 0)};
  return program;
}

}  // namespace

TEST_CASE("ranks are numbered along the mesh order, fastest axis first") {
  const Mesh mesh = mesh_of(2, 1, 3, 2);
  CHECK(mesh.ranks() == 12);
  CHECK(mesh.coordinate(RankId(7), Axis::tensor) == 1);
  CHECK(mesh.coordinate(RankId(7), Axis::ring) == 0);
  CHECK(mesh.coordinate(RankId(7), Axis::data) == 1);
}

TEST_CASE("a group holds the ranks that share every other coordinate, in order of its axes") {
  const Mesh mesh = mesh_of(2, 1, 3, 2);
  const Group ring{"ring", {Axis::ring}};
  const std::vector<RankId> members = group_members(mesh, ring, RankId(9));
  REQUIRE(members.size() == 3);
  CHECK(members[0] == RankId(7));
  CHECK(members[1] == RankId(9));
  CHECK(members[2] == RankId(11));
  CHECK(group_index(mesh, ring, RankId(9)) == 1);
  const Group both{"data x ring", {Axis::ring, Axis::data}};
  CHECK(group_size(mesh, both) == 6);
  const std::vector<RankId> all = group_members(mesh, both, RankId(3));
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(group_index(mesh, both, all[i]) == static_cast<std::int64_t>(i));
  }
}

TEST_CASE("parts of an axis are its coordinate divided: the inner part turns fastest") {
  // 2 tensor ranks x a ring of 6 in inner rings of 3: rank 9 has ring coordinate 4, the second of
  // the second inner ring.
  Mesh mesh = mesh_of(2, 1, 6, 1);
  mesh.ring_part = 3;
  CHECK(mesh.size(Axis::ring_inner) == 3);
  CHECK(mesh.size(Axis::ring_outer) == 2);
  CHECK(mesh.coordinate(RankId(9), Axis::ring_inner) == 1);
  CHECK(mesh.coordinate(RankId(9), Axis::ring_outer) == 1);
  const auto members = [&](Axis axis) {
    std::vector<std::size_t> out;
    for (const RankId rank : group_members(mesh, {"", {axis}}, RankId(9))) {
      out.push_back(rank.index);
    }
    return out;
  };
  CHECK(members(Axis::ring_inner) == std::vector<std::size_t>{7, 9, 11});
  CHECK(members(Axis::ring_outer) == std::vector<std::size_t>{3, 9});
}

TEST_CASE("experts count a stage's ranks anew, whatever the order of the mesh") {
  // 2 tensor x 2 ulysses x 4 data, dealt as 2 that cut, 4 that hold, 2 that repeat.
  Mesh mesh = mesh_of(2, 2, 1, 4);
  mesh.expert_tensor = 2;
  mesh.experts = 4;
  CHECK(mesh.ranks() == 16);
  CHECK(mesh.size(Axis::expert_data) == 2);
  const auto members = [&](Axis axis, std::size_t rank) {
    std::vector<std::size_t> out;
    for (const RankId id : group_members(mesh, {"", {axis}}, RankId(rank))) {
      out.push_back(id.index);
    }
    return out;
  };
  CHECK(members(Axis::expert_tensor, 5) == std::vector<std::size_t>{4, 5});
  CHECK(members(Axis::expert, 5) == std::vector<std::size_t>{1, 3, 5, 7});
  CHECK(members(Axis::expert_data, 5) == std::vector<std::size_t>{5, 13});
  CHECK(mesh.coordinate(RankId(5), Axis::expert) == 2);
  mesh.sizes[static_cast<int>(Axis::pipeline)] = 3;
  mesh.order = {Axis::pipeline, Axis::tensor, Axis::ulysses, Axis::ring, Axis::data};
  // The same 16 places, each three ranks apart; the stage stays.
  CHECK(members(Axis::expert, 5 * 3 + 2) == std::vector<std::size_t>{5, 11, 17, 23});
  CHECK(mesh.size(Axis::expert_data) == 2);
}

TEST_CASE("a layout is a bijection between ranks with local indices and the whole") {
  const Mesh mesh = mesh_of(1, 2, 3, 1);
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    const std::vector<Shard> shards{{Axis::ring, order}, {Axis::ulysses, SequenceOrder::contiguous}};
    std::set<std::int64_t> seen;
    for (std::size_t rank = 0; rank < 6; ++rank) {
      for (std::int64_t local = 0; local < 4; ++local) {
        seen.insert(global_index(mesh, shards, 4, RankId(rank), local));
      }
    }
    CHECK(global_size(mesh, shards, 4) == 24);
    CHECK(seen.size() == 24);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == 23);
  }
}

TEST_CASE("dealt in chunks, a chunk of all ranks together is a contiguous part of the whole") {
  const Mesh mesh = mesh_of(1, 2, 1, 1);
  const std::vector<Shard> shards{{Axis::ulysses, SequenceOrder::contiguous, 3}};
  // 12 places in 3 chunks of 4, of which each of 2 ranks has 2.
  const std::vector<std::vector<std::int64_t>> expected{{0, 1, 4, 5, 8, 9}, {2, 3, 6, 7, 10, 11}};
  for (std::size_t rank = 0; rank < 2; ++rank) {
    for (std::int64_t local = 0; local < 6; ++local) {
      CHECK(global_index(mesh, shards, 6, RankId(rank), local) ==
            expected[rank][static_cast<std::size_t>(local)]);
    }
  }
}

TEST_CASE("a cursor visits the body of nested loops as often as their counts say") {
  const Program program = nested_loops();
  check_program(program);
  Cursor cursor(program, RankId(0));
  int visits = 0;
  std::int64_t inner_sum = 0;
  while (!cursor.done()) {
    ++visits;
    inner_sum += cursor.counters()[1];
    cursor.advance();
  }
  CHECK(visits == 2 * (1 + 3));
  CHECK(inner_sum == 2 * (0 + 1 + 2));
}

TEST_CASE("a rank meets what its coordinates and the turn let it run, and nothing else") {
  Program program = nested_loops();
  program.mesh = mesh_of(1, 1, 2, 1);
  // Only ring position 1 enters the inner loop, only the second outer turn the first one.
  program.code[2].when.push_back({Index::coordinate(Axis::ring), 1, 1});
  program.code[1].when.push_back({Index::counter(LoopId(0)), 1, 1});
  CHECK(presence_of(program, RankId(0)) ==
        std::vector{Presence::always, Presence::by_turn, Presence::never, Presence::always,
                    Presence::always, Presence::always});
  CHECK(presence_of(program, RankId(1))[2] == Presence::always);
  const auto places = [&](RankId rank) {
    std::vector<std::size_t> met;
    for (Cursor cursor(program, rank); !cursor.done(); cursor.advance()) {
      met.push_back(cursor.place());
    }
    return met;
  };
  CHECK(places(RankId(0)) == std::vector<std::size_t>{1});
  CHECK(places(RankId(1)) == std::vector<std::size_t>{3, 3, 3, 1, 3, 3, 3});
}

TEST_CASE("skipping turns lands where stepping would") {
  const Program program = nested_loops();
  Cursor stepped(program, RankId(0));
  stepped.advance();
  Cursor skipped = stepped;
  stepped.advance();
  stepped.advance();
  skipped.skip(LoopId(1), 2);
  CHECK(stepped.place() == skipped.place());
  CHECK(stepped.counters() == skipped.counters());
  CHECK_THROWS_AS(skipped.skip(LoopId(1), 1), BugError);
}

TEST_CASE("an index adds constant, counter and coordinate and reduces to a positive remainder") {
  const Mesh mesh = mesh_of(1, 1, 4, 1);
  Index index = Index::coordinate(Axis::ring, 0, 4);
  index.loop = LoopId(0);
  index.loop_coefficient = -1;
  CHECK(evaluate(index, mesh, RankId(1), {3}) == 2);
  CHECK(evaluate(Index::of(7), mesh, RankId(1), {3}) == 7);
}

TEST_CASE("a program whose loops do not nest or whose operands are missing is refused") {
  Program program = nested_loops();
  program.code.pop_back();
  CHECK_THROWS_AS(check_program(program), BugError);
  program = nested_loops();
  program.code[1].writes.clear();
  CHECK_THROWS_AS(check_program(program), BugError);
  program = nested_loops();
  program.code[1].writes[0].tensor = TensorId(5);
  CHECK_THROWS_AS(check_program(program), BugError);
}

TEST_CASE("a gather that would convert what it gathers is refused, a sum may") {
  const auto collective = [](Op op, DataType sent, DataType received) {
    Program program;
    program.mesh = mesh_of(1, 1, 4, 1);
    program.groups = {{"ring", {Axis::ring}}};
    for (const DataType type : {sent, received}) {
      Tensor tensor;
      tensor.shape = {4};
      tensor.shards = {{}};
      tensor.type = type;
      tensor.persistent = true;
      program.tensors.push_back(tensor);
    }
    Instruction instruction;
    instruction.op = op;
    instruction.stream = Stream::context;
    instruction.group = GroupId(0);
    instruction.reads = {{TensorId(0), Index::of(0), std::nullopt, Index::of(0), 0}};
    instruction.writes = {{TensorId(1), Index::of(0), std::nullopt, Index::of(0), 0}};
    program.code = {instruction};
    return program;
  };
  CHECK_THROWS_AS(check_program(collective(Op::all_gather, DataType::fp8, DataType::bf16)), BugError);
  CHECK_NOTHROW(check_program(collective(Op::all_gather, DataType::fp8, DataType::fp8)));
  CHECK_NOTHROW(check_program(collective(Op::reduce_scatter, DataType::bf16, DataType::fp32)));
}
