#include "sim/program/program.h"

#include <algorithm>
#include <numeric>

#include "sim/units/check.h"

namespace longhaul {

namespace {

std::int64_t floor_mod(std::int64_t value, std::int64_t modulus) {
  const std::int64_t rest = value % modulus;
  return rest < 0 ? rest + modulus : rest;
}

bool of_experts(Axis axis) {
  return axis == Axis::expert_tensor || axis == Axis::expert || axis == Axis::expert_data ||
         axis == Axis::expert_data_inner || axis == Axis::expert_data_outer;
}

bool in_expert_count(Axis axis) { return axis != Axis::pipeline; }

// Distance between neighbours along an axis: in ranks, or in the count of a stage's ranks.
std::int64_t stride_of(const Mesh& mesh, Axis axis) {
  switch (axis) {
    case Axis::expert_tensor: return 1;
    case Axis::expert: return mesh.expert_tensor;
    case Axis::expert_data:
    case Axis::expert_data_inner: return mesh.expert_tensor * mesh.experts;
    case Axis::expert_data_outer:
      return stride_of(mesh, Axis::expert_data) * mesh.expert_data_part;
    case Axis::ring_inner: return stride_of(mesh, Axis::ring);
    case Axis::ring_outer: return stride_of(mesh, Axis::ring) * mesh.ring_part;
    case Axis::data_inner: return stride_of(mesh, Axis::data);
    case Axis::data_outer: return stride_of(mesh, Axis::data) * mesh.data_part;
    default: break;
  }
  std::int64_t stride = 1;
  for (const Axis faster : mesh.order) {
    if (faster == axis) {
      return stride;
    }
    stride *= mesh.size(faster);
  }
  check(mesh.size(axis) == 1, "an axis outside the mesh order must have size 1");
  return stride;
}

// A rank's place in the count of its stage's ranks that the axes of experts deal.
std::int64_t place_in_stage(const Mesh& mesh, RankId rank) {
  std::int64_t place = 0;
  std::int64_t stride = 1;
  for (const Axis axis : mesh.order) {
    if (in_expert_count(axis)) {
      place += mesh.coordinate(rank, axis) * stride;
      stride *= mesh.size(axis);
    }
  }
  return place;
}

// The rank at another place of the same stage.
std::int64_t rank_at(const Mesh& mesh, RankId rank, std::int64_t place) {
  std::int64_t moved = rank.index;
  for (const Axis axis : mesh.order) {
    if (in_expert_count(axis)) {
      const std::int64_t wanted = place % mesh.size(axis);
      moved += (wanted - mesh.coordinate(rank, axis)) * stride_of(mesh, axis);
      place /= mesh.size(axis);
    }
  }
  return moved;
}

}  // namespace

std::int64_t Mesh::ranks() const {
  std::int64_t product = 1;
  for (const std::int64_t axis_size : sizes) {
    product *= axis_size;
  }
  return product;
}

std::int64_t Mesh::size(Axis axis) const {
  switch (axis) {
    case Axis::ring_inner: return ring_part;
    case Axis::ring_outer: return size(Axis::ring) / ring_part;
    case Axis::data_inner: return data_part;
    case Axis::data_outer: return size(Axis::data) / data_part;
    case Axis::expert_tensor: return expert_tensor;
    case Axis::expert: return experts;
    case Axis::expert_data: return ranks() / size(Axis::pipeline) / (expert_tensor * experts);
    case Axis::expert_data_inner: return expert_data_part;
    case Axis::expert_data_outer: return size(Axis::expert_data) / expert_data_part;
    default: return sizes[static_cast<int>(axis)];
  }
}

std::int64_t Mesh::coordinate(RankId rank, Axis axis) const {
  // The plain axes without their parts, which the engine asks for in every turn: no calls.
  if (static_cast<int>(axis) < axis_count) {
    const std::int64_t axis_size = sizes[static_cast<int>(axis)];
    std::int64_t stride = 1;
    for (std::size_t i = 0; axis_size > 1 && i < order.size() && order[i] != axis; ++i) {
      stride *= sizes[static_cast<int>(order[i])];
    }
    return axis_size > 1 ? rank.index / stride % axis_size : 0;
  }
  const std::int64_t place = of_experts(axis) ? place_in_stage(*this, rank) : rank.index;
  return floor_mod(place / stride_of(*this, axis), size(axis));
}

bool in_group(const Mesh& mesh, const Group& group, RankId rank) {
  if (!group.ends) {
    return true;
  }
  const std::int64_t place = mesh.coordinate(rank, group.axes[0]);
  return place == 0 || place == mesh.size(group.axes[0]) - 1;
}

std::int64_t group_size(const Mesh& mesh, const Group& group) {
  if (group.ends) {
    return std::min<std::int64_t>(2, mesh.size(group.axes[0]));
  }
  std::int64_t product = 1;
  for (const Axis axis : group.axes) {
    product *= mesh.size(axis);
  }
  return product;
}

std::int64_t group_index(const Mesh& mesh, const Group& group, RankId rank) {
  if (group.ends) {
    return mesh.coordinate(rank, group.axes[0]) > 0 ? 1 : 0;
  }
  std::int64_t index = 0;
  std::int64_t stride = 1;
  for (const Axis axis : group.axes) {
    index += stride * mesh.coordinate(rank, axis);
    stride *= mesh.size(axis);
  }
  return index;
}

std::vector<RankId> group_members(const Mesh& mesh, const Group& group, RankId rank) {
  const bool experts = !group.axes.empty() && of_experts(group.axes[0]);
  std::vector<std::int64_t> members{experts ? place_in_stage(mesh, rank) : rank.index};
  for (const Axis axis : group.axes) {
    check(of_experts(axis) == experts, "a group mixes axes of experts with others");
    members[0] -= mesh.coordinate(rank, axis) * stride_of(mesh, axis);
  }
  for (const Axis axis : group.axes) {
    const std::size_t block = members.size();
    for (std::int64_t c = 1; c < mesh.size(axis); ++c) {
      for (std::size_t i = 0; i < block; ++i) {
        members.push_back(members[i] + c * stride_of(mesh, axis));
      }
    }
  }
  if (group.ends && members.size() > 2) {
    members = {members.front(), members.back()};
  }
  std::vector<RankId> ids;
  ids.reserve(members.size());
  for (const std::int64_t member : members) {
    const std::int64_t id = experts ? rank_at(mesh, rank, member) : member;
    ids.emplace_back(static_cast<std::size_t>(id));
  }
  return ids;
}

Index Index::counter(LoopId loop, std::int64_t coefficient, std::int64_t constant,
                     std::int64_t modulus) {
  Index index;
  index.constant = constant;
  index.loop = loop;
  index.loop_coefficient = coefficient;
  index.modulus = modulus;
  return index;
}

Index Index::coordinate(Axis axis, std::int64_t constant, std::int64_t modulus) {
  Index index;
  index.constant = constant;
  index.axis = axis;
  index.axis_coefficient = 1;
  index.modulus = modulus;
  return index;
}

std::int64_t Tensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Bytes Tensor::slot_bytes() const {
  return element_size(type) * static_cast<double>(elements());
}

namespace {

// Which slots of the whole a rank has of a tensor that is dealt to stages or owners.
const std::vector<std::int64_t>& dealt_slots(const Tensor& tensor, const Mesh& mesh, RankId rank) {
  std::int64_t entry = mesh.coordinate(rank, Axis::pipeline);
  if (!tensor.owner_axes.empty()) {
    const Group owners{"", tensor.owner_axes};
    entry = entry * group_size(mesh, owners) + group_index(mesh, owners, rank);
  }
  return tensor.stage_slots[static_cast<std::size_t>(entry)];
}

}  // namespace

std::int64_t Tensor::held_slots(const Mesh& mesh, RankId rank) const {
  if (stage_slots.empty()) {
    return slots;
  }
  return static_cast<std::int64_t>(dealt_slots(*this, mesh, rank).size());
}

std::optional<std::int64_t> Tensor::slot_of_whole(const Mesh& mesh, RankId rank,
                                                  std::int64_t whole) const {
  if (stage_slots.empty()) {
    return whole;
  }
  const std::vector<std::int64_t>& mine = dealt_slots(*this, mesh, rank);
  const auto found = std::find(mine.begin(), mine.end(), whole);
  return found == mine.end() ? std::nullopt : std::optional<std::int64_t>(found - mine.begin());
}

std::int64_t Loop::turns(const Mesh& mesh, RankId rank) const {
  return stage_counts.empty()
             ? count
             : stage_counts[static_cast<std::size_t>(mesh.coordinate(rank, Axis::pipeline))];
}

std::pair<std::int64_t, std::int64_t> Loop::uniform_turns(const Mesh& mesh, RankId rank) const {
  if (!uniform) {
    return {0, 0};
  }
  return stage_uniform.empty()
             ? std::pair<std::int64_t, std::int64_t>{0, turns(mesh, rank)}
             : stage_uniform[static_cast<std::size_t>(mesh.coordinate(rank, Axis::pipeline))];
}

const char* name_of(MemoryCategory category) {
  static constexpr const char* names[memory_category_count] = {
      "parameters", "gradients",     "optimizer", "activations",
      "kv_buffers", "communication", "workspace", "logits",      "framework"};
  return names[static_cast<int>(category)];
}

const char* name_of(Op op) {
  static constexpr const char* names[] = {
      "loop_begin",     "loop_end",       "allocate",        "release",
      "zero",           "copy",           "add",             "gemm",
      "grouped_gemm",
      "norm",           "norm_backward",  "rope",            "rope_backward",
      "split_qkv",      "merge_qkv",      "split_columns",   "join_columns",
      "repeat_heads",   "sum_heads",
      "reorder",        "attend",         "merge_attention", "attention_delta",
      "attend_backward", "score",         "softmax",         "softmax_backward",
      "weigh",          "swiglu",        "swiglu_backward", "gelu",
      "gelu_backward",  "route",          "route_backward",  "dispatch",
      "combine",        "embed",          "embed_backward",  "loss_statistics",
      "loss",           "adam",           "host",            "wait",
      "exchange",       "all_gather",     "reduce_scatter",  "all_reduce",
      "all_to_all",     "broadcast",      "node_dispatch",   "node_combine",   "send_receive",
      "to_host",        "from_host",
      "host_zero",      "host_copy",      "host_adam"};
  static_assert(std::size(names) == static_cast<int>(Op::host_adam) + 1);
  return names[static_cast<int>(op)];
}

bool is_collective(Op op) { return op >= Op::all_gather && op <= Op::send_receive; }
bool is_token_exchange(Op op) { return op == Op::node_dispatch || op == Op::node_combine; }
bool is_communication(Op op) { return op >= Op::exchange; }
bool is_host_work(Op op) { return op >= Op::to_host; }

const char* name_of(Stream stream) {
  static constexpr const char* names[stream_count] = {"compute", "context",  "tensor",
                                                      "data",    "pipeline", "copy",
                                                      "outer",   "expert",   "pipeline_back",
                                                      "fetch",   "processor"};
  return names[static_cast<int>(stream)];
}

const char* name_of(Part part) {
  static constexpr const char* names[] = {"forward",          "recompute", "backward",
                                          "gradient_reduction", "parameter_gather", "optimizer"};
  return names[static_cast<int>(part)];
}

namespace {

struct OperandCount {
  std::size_t reads_low, reads_high, writes_low, writes_high;
};
constexpr std::size_t any = 1u << 20;

// Operands each op takes, as its comment in program.h lists them.
OperandCount operands_of(Op op) {
  switch (op) {
    case Op::loop_begin:
    case Op::host:
    case Op::wait:
    case Op::loop_end: return {0, 0, 0, 0};
    case Op::allocate:
    case Op::zero: return {0, 0, 1, any};
    case Op::release: return {1, any, 0, 0};
    case Op::add:
    case Op::gemm:
    case Op::grouped_gemm:
    case Op::norm: return {2, 2, 1, 1};
    case Op::norm_backward: return {3, 3, 2, 2};
    case Op::split_columns: return {1, 1, 2, 2};
    case Op::join_columns: return {2, 2, 1, 1};
    case Op::split_qkv: return {1, 1, 3, 3};
    case Op::merge_qkv: return {3, 3, 1, 1};
    case Op::attend: return {3, 3, 2, 2};
    case Op::merge_attention: return {2, 2, 2, 2};
    case Op::attention_delta: return {2, 2, 1, 1};
    case Op::attend_backward: return {6, 6, 3, 3};
    case Op::score:
    case Op::softmax_backward:
    case Op::weigh: return {2, 2, 1, 1};
    case Op::swiglu: return {1, 2, 1, 1};
    case Op::swiglu_backward: return {2, 3, 1, 2};
    case Op::dispatch:
    case Op::combine: return {1, 2, 1, 2};
    case Op::route_backward:
    case Op::gelu_backward:
    case Op::embed:
    case Op::embed_backward:
    case Op::loss_statistics: return {2, 2, 1, 1};
    case Op::loss: return {3, 3, 2, 2};
    case Op::adam: return {4, 4, 3, 3};
    case Op::host_adam: return {4, 4, 3, 4};
    case Op::host_zero: return {0, 0, 1, any};
    case Op::host_copy: return {1, any, 1, any};
    case Op::exchange: return {0, any, 0, any};
    case Op::all_gather:
    case Op::reduce_scatter:
    case Op::all_reduce:
    case Op::all_to_all:
    case Op::broadcast:
    case Op::node_dispatch:
    case Op::node_combine:
    case Op::send_receive:
    case Op::to_host:
    case Op::from_host: return {1, any, 1, any};
    default: return {1, 1, 1, 1};
  }
}

[[noreturn]] void fail(const Instruction& instruction, std::size_t place, const std::string& why) {
  const std::string text = "program instruction " + std::to_string(place) + " (" +
                           name_of(instruction.op) + " '" + instruction.label + "'): " + why;
  throw BugError(text);
}

void check_operand(const Program& program, const Instruction& instruction, std::size_t place,
                   const TensorRef& ref) {
  if (ref.tensor.index >= program.tensors.size()) {
    fail(instruction, place, "names a tensor that does not exist");
  }
  const Tensor& tensor = program.tensor(ref.tensor);
  if (ref.slice_dim) {
    const auto dims = static_cast<int>(tensor.shape.size());
    if (*ref.slice_dim < 0 || *ref.slice_dim >= dims ||
        ref.slice_length > tensor.shape[static_cast<std::size_t>(*ref.slice_dim)]) {
      fail(instruction, place, "slices beyond tensor '" + tensor.name + "'");
    }
  }
}

// Where the operands of an op stand. Memory ops take either.
struct Places {
  bool reads_host = false;
  bool writes_host = false;
};

Places places_of(Op op) {
  switch (op) {
    case Op::to_host: return {false, true};
    case Op::from_host: return {true, false};
    case Op::host_zero:
    case Op::host_copy:
    case Op::host_adam: return {true, true};
    default: return {false, false};
  }
}

// Kernels and collectives see the GPU's memory only, the host's processor only its own.
void check_places(const Program& program, const Instruction& instruction, std::size_t place) {
  if (instruction.op == Op::allocate || instruction.op == Op::release) {
    return;
  }
  const Places wanted = places_of(instruction.op);
  const auto check_all = [&](const std::vector<TensorRef>& refs, bool host) {
    for (const TensorRef& ref : refs) {
      const Tensor& tensor = program.tensor(ref.tensor);
      if (tensor.in_host_memory != host) {
        fail(instruction, place, "reaches for '" + tensor.name + "' in " +
                                     (host ? "host memory, where it is not"
                                           : "the GPU's memory, but it is in the host's"));
      }
    }
  };
  check_all(instruction.reads, wanted.reads_host);
  check_all(instruction.writes, wanted.writes_host);
}

// What is gathered or passed on arrives as it was sent, and its cost counts on that. Sums may be kept
// in another type than they travel in (FSDP's fp32 shards of bf16 gradients).
void check_types(const Program& program, const Instruction& instruction, std::size_t place) {
  for (std::size_t i = 0; i < instruction.reads.size(); ++i) {
    const Tensor& sent = program.tensor(instruction.reads[i].tensor);
    const Tensor& received = program.tensor(instruction.writes[i].tensor);
    if (sent.type != received.type) {
      fail(instruction, place, "sends '" + sent.name + "' and receives '" + received.name +
                                   "', which have different element types");
    }
  }
}

// Members stand in whole nodes, each with as many experts and rows.
void check_token_exchange(const Program& program, const Instruction& instruction,
                          std::size_t place) {
  const TokenRoute& route = instruction.route;
  const std::int64_t members = group_size(program.mesh, program.group(*instruction.group));
  const bool to_experts = instruction.op == Op::node_dispatch;
  bool fits = route.node_ranks > 0 && members % route.node_ranks == 0 && route.experts > 0 &&
              route.experts % members == 0 && route.node_rows > 0 &&
              instruction.experts_per_token > 0;
  for (const TensorRef& ref : to_experts ? instruction.writes : instruction.reads) {
    fits = fits && program.tensor(ref.tensor).shape[0] % members == 0;
  }
  if (!fits) {
    fail(instruction, place, "does not deal experts and rows to whole nodes");
  }
}

void check_operands(const Program& program, const Instruction& instruction, std::size_t place) {
  const OperandCount want = operands_of(instruction.op);
  const std::size_t reads = instruction.reads.size();
  const std::size_t writes = instruction.writes.size();
  if (reads < want.reads_low || reads > want.reads_high || writes < want.writes_low ||
      writes > want.writes_high) {
    fail(instruction, place, "has the wrong number of operands");
  }
  for (const TensorRef& ref : instruction.reads) {
    check_operand(program, instruction, place, ref);
  }
  for (const TensorRef& ref : instruction.writes) {
    check_operand(program, instruction, place, ref);
  }
  if (instruction.op == Op::exchange &&
      (reads + writes == 0 || instruction.to.size() != reads || instruction.from.size() != writes)) {
    fail(instruction, place, "needs a partner for every message, and a message");
  }
  if (is_communication(instruction.op)) {
    if (!instruction.group || instruction.group->index >= program.groups.size()) {
      fail(instruction, place, "has no group");
    }
    const bool copies = instruction.op == Op::to_host || instruction.op == Op::from_host ||
                        instruction.op == Op::host_copy;
    if ((is_collective(instruction.op) || copies) && reads != writes) {
      fail(instruction, place, "needs as many reads as writes");
    }
    if (is_collective(instruction.op) && instruction.op != Op::reduce_scatter &&
        instruction.op != Op::all_reduce) {
      check_types(program, instruction, place);
    }
    if (is_token_exchange(instruction.op)) {
      check_token_exchange(program, instruction, place);
    }
    if (instruction.op == Op::broadcast &&
        (instruction.root < 0 ||
         instruction.root >= group_size(program.mesh, program.group(*instruction.group)))) {
      fail(instruction, place, "has a root outside its group");
    }
  }
  check_places(program, instruction, place);
  const bool attends = instruction.op == Op::attend || instruction.op == Op::attend_backward ||
                       instruction.op == Op::merge_attention;
  if (attends && !instruction.block) {
    fail(instruction, place, "does not say which attention block it is about");
  }
}

void check_loops(const Program& program) {
  std::vector<LoopId> open;
  std::vector<bool> used(program.loops.size(), false);
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    const Instruction& instruction = program.code[place];
    if (instruction.op == Op::loop_begin) {
      const std::size_t loop = instruction.loop.index;
      if (loop >= program.loops.size() || used[loop] || program.loops[loop].count < 1) {
        fail(instruction, place, "begins an unknown, repeated or empty loop");
      }
      used[loop] = true;
      open.push_back(instruction.loop);
    } else if (instruction.op == Op::loop_end) {
      if (open.empty() || open.back() != instruction.loop) {
        fail(instruction, place, "ends a loop that is not the innermost open one");
      }
      open.pop_back();
    }
  }
  check(open.empty(), "every loop of a program must end");
}

}  // namespace

void check_program(const Program& program) {
  check_loops(program);
  for (std::size_t place = 0; place < program.code.size(); ++place) {
    check_operands(program, program.code[place], place);
  }
}

}  // namespace longhaul
