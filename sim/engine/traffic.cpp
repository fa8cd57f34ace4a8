#include "sim/engine/traffic.h"

#include <algorithm>
#include <span>

#include "sim/engine/price.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

CollectiveKind kind_of(Op op) {
  switch (op) {
    case Op::all_gather: return CollectiveKind::all_gather;
    case Op::reduce_scatter: return CollectiveKind::reduce_scatter;
    case Op::all_reduce: return CollectiveKind::all_reduce;
    case Op::all_to_all:
    case Op::node_dispatch:
    case Op::node_combine: return CollectiveKind::all_to_all;
    case Op::broadcast: return CollectiveKind::broadcast;
    default: break;
  }
  check(op == Op::send_receive || op == Op::exchange, "only collectives have a kind");
  return CollectiveKind::send;
}

std::optional<HostRequest> host_work_of(const Program& program, const Instruction& instruction) {
  switch (instruction.op) {
    case Op::to_host: return HostRequest{HostWork::to_host, instruction.pageable};
    case Op::from_host: return HostRequest{HostWork::from_host, instruction.pageable};
    default: break;
  }
  if (!is_host_work(instruction.op)) {
    return std::nullopt;
  }
  return HostRequest{HostWork::in_memory, false, program.host.threads};
}

class Lowering {
 public:
  Lowering(const Program& program, const TransportCosts& transport)
      : program_(program), transport_(transport) {}

  Traffic run() {
    make_communicators();
    find_exchanges();
    for (std::uint32_t i = 0; i < traffic_.exchanges.size(); ++i) {
      lower(i);
    }
    find_buffers();
    return std::move(traffic_);
  }

 private:
  // One communicator per group and set of members.
  void make_communicators() {
    const auto ranks = static_cast<std::size_t>(program_.mesh.ranks());
    for (std::size_t g = 0; g < program_.groups.size(); ++g) {
      const Group& group = program_.groups[g];
      std::vector<std::uint32_t> communicator(ranks, Traffic::none);
      first_.push_back(static_cast<std::uint32_t>(traffic_.communicators.size()));
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        if (!in_group(program_.mesh, group, RankId(rank)) ||
            group_index(program_.mesh, group, RankId(rank)) != 0) {
          continue;
        }
        CommunicatorSpec made{GroupId(g), group_members(program_.mesh, group, RankId(rank))};
        for (const RankId id : made.members) {
          communicator[id.index] = static_cast<std::uint32_t>(traffic_.communicators.size());
        }
        traffic_.communicators.push_back(std::move(made));
      }
      traffic_.communicator_of.push_back(std::move(communicator));
    }
    first_.push_back(static_cast<std::uint32_t>(traffic_.communicators.size()));
  }

  void find_exchanges() {
    traffic_.exchanges_of.resize(program_.code.size());
    for (std::size_t place = 0; place < program_.code.size(); ++place) {
      const Instruction& instruction = program_.code[place];
      if (!is_communication(instruction.op)) {
        continue;
      }
      Exchange wanted;
      wanted.group = *instruction.group;
      wanted.host = host_work_of(program_, instruction);
      if (!wanted.host) {
        wanted.kind = kind_of(instruction.op);
      }
      wanted.first_communicator = first_[wanted.group.index];
      std::vector<std::uint32_t>& mine = traffic_.exchanges_of[place];
      if (instruction.op != Op::exchange) {
        wanted.bytes = wanted.host ? host_bytes(program_, instruction).value()
                                   : collective_bytes(program_, instruction).value();
        wanted.shift = wanted.pairwise() ? instruction.shift : 0;
        wanted.largest = wanted.pairwise() ? largest_message(instruction) : 0.0;
        // Pieces of products (sim/schedule/tensor_overlap.cpp) go by buffers that peers share.
        wanted.copied = wanted.pairwise() && instruction.stream == Stream::tensor;
        if (is_token_exchange(instruction.op)) {
          count_tokens(instruction, wanted);
        }
        mine.push_back(find_or_add(wanted));
        continue;
      }
      for (std::size_t i = 0; i < instruction.reads.size(); ++i) {
        wanted.bytes = bytes_of(program_, instruction.reads[i]).value();
        wanted.shift = instruction.to[i];
        mine.push_back(find_or_add(wanted));
      }
      for (std::size_t i = 0; i < instruction.writes.size(); ++i) {
        wanted.bytes = bytes_of(program_, instruction.writes[i]).value();
        wanted.shift = instruction.from[i];
        mine.push_back(find_or_add(wanted));
      }
    }
  }

  // A member sends each other node its rows once. What reaches a member for its node, it passes on to
  // the others there, own tokens included; combining goes the same ways back.
  void count_tokens(const Instruction& instruction, Exchange& wanted) const {
    const auto members = static_cast<double>(
        group_size(program_.mesh, program_.group(*instruction.group)));
    const bool dispatches = instruction.op == Op::node_dispatch;
    const TokenRoute& route = instruction.route;
    const double nodes = members / static_cast<double>(route.node_ranks);
    wanted.node_ranks = route.node_ranks;
    wanted.sms = route.sms;
    for (const TensorRef& ref : dispatches ? instruction.writes : instruction.reads) {
      const double rows = static_cast<double>(program_.tensor(ref.tensor).shape[0]);
      const double row_bytes = bytes_of(program_, ref).value() / rows;
      wanted.node_bytes += row_bytes * static_cast<double>(route.node_rows);
      wanted.rank_bytes += row_bytes * rows / members * nodes;
    }
    wanted.combines = !dispatches;
    for (const TensorRef& ref : dispatches ? instruction.reads : instruction.writes) {
      wanted.own_bytes += bytes_of(program_, ref).value();
    }
    wanted.bytes = wanted.node_bytes * nodes +
                   wanted.rank_bytes * static_cast<double>(route.node_ranks);
  }

  double largest_message(const Instruction& instruction) const {
    double largest = 0.0;
    for (const auto* refs : {&instruction.reads, &instruction.writes}) {
      for (const TensorRef& ref : *refs) {
        largest = std::max(largest, bytes_of(program_, ref).value());
      }
    }
    return largest;
  }

  std::uint32_t find_or_add(const Exchange& wanted) {
    auto& all = traffic_.exchanges;
    const auto found = std::find_if(all.begin(), all.end(), [&](const Exchange& known) {
      return known.group == wanted.group && known.kind == wanted.kind &&
             known.host == wanted.host && known.bytes == wanted.bytes &&
             known.shift == wanted.shift && known.largest == wanted.largest &&
             known.copied == wanted.copied && known.node_ranks == wanted.node_ranks &&
             known.node_bytes == wanted.node_bytes && known.rank_bytes == wanted.rank_bytes &&
             known.own_bytes == wanted.own_bytes && known.combines == wanted.combines &&
             known.sms == wanted.sms;
    });
    if (found == all.end()) {
      all.push_back(wanted);
      return static_cast<std::uint32_t>(all.size() - 1);
    }
    return static_cast<std::uint32_t>(found - all.begin());
  }

  // Rank r runs on GPU r.
  std::vector<GpuId> gpus_of(std::uint32_t communicator) const {
    std::vector<GpuId> gpus;
    for (const RankId rank : traffic_.communicators[communicator].members) {
      gpus.emplace_back(rank.index);
    }
    return gpus;
  }

  void lower(std::uint32_t index) {
    Exchange& exchange = traffic_.exchanges[index];
    exchange.first_transfer = static_cast<std::uint32_t>(traffic_.transfers.size());
    for (std::uint32_t c = exchange.first_communicator; c < first_[exchange.group.index + 1]; ++c) {
      const std::vector<GpuId> gpus = gpus_of(c);
      if (!exchange.pairwise()) {
        add(index, c, 0, gpus, gpus);
        continue;
      }
      for (std::uint32_t member = 0; member < gpus.size(); ++member) {
        const std::uint32_t to = traffic_.neighbour(c, member, exchange.shift);
        add(index, c, member, {gpus[member], gpus[to]}, gpus);
      }
    }
  }

  void add(std::uint32_t index, std::uint32_t communicator, std::uint32_t member,
           const std::vector<GpuId>& gpus, std::span<const GpuId> all) {
    const Exchange& exchange = traffic_.exchanges[index];
    const CollectivePlan plan = plan_of(exchange, gpus, all);
    Transfer transfer;
    transfer.exchange = index;
    transfer.communicator = communicator;
    transfer.member = member;
    transfer.first_wire = static_cast<std::uint32_t>(traffic_.wires.size());
    transfer.wire_count = static_cast<std::uint32_t>(plan.flows.size());
    transfer.latency = plan.latency;
    transfer.sms_held = plan.sms_held;
    transfer.spread = plan.relative_spread;
    transfer.extrapolated = plan.extrapolated;
    traffic_.transfers.push_back(transfer);
    for (const PlannedFlow& flow : plan.flows) {
      add_wire(flow);
    }
  }

  CollectivePlan plan_of(const Exchange& exchange, const std::vector<GpuId>& gpus,
                         std::span<const GpuId> all) const {
    const Bytes bytes = Bytes::of(exchange.bytes);
    if (exchange.host) {
      check(gpus.size() == 1, "work of the host is of one rank");
      return transport_.host_work(*exchange.host, gpus[0], bytes);
    }
    CollectiveRequest request;
    request.kind = exchange.kind;
    request.bytes = bytes;
    request.gpus = gpus;
    if (!exchange.copied) {
      request.communicator = all;
      request.largest = Bytes::of(exchange.largest);
    }
    const std::vector<Bytes> pieces = pieces_of(exchange, gpus.size());
    request.pieces = pieces;
    if (exchange.node_ranks > 0) {
      request.tokens = token_kernel(exchange, static_cast<std::int64_t>(gpus.size()));
    }
    return transport_.lower(request);
  }

  static TokenKernel token_kernel(const Exchange& exchange, std::int64_t members) {
    const auto others = static_cast<double>(members / exchange.node_ranks - 1);
    TokenKernel kernel;
    kernel.combines = exchange.combines;
    kernel.sms = exchange.sms;
    kernel.own = Bytes::of(exchange.own_bytes);
    kernel.sent = Bytes::of(exchange.rank_bytes * static_cast<double>(exchange.node_ranks));
    kernel.network = Bytes::of(exchange.node_bytes * others);
    return kernel;
  }

  // Of an exchange by node: what member i sends to member j. Members of a node are neighbours.
  static std::vector<Bytes> pieces_of(const Exchange& exchange, std::size_t members) {
    std::vector<Bytes> pieces;
    if (exchange.node_ranks == 0) {
      return pieces;
    }
    const auto each = static_cast<std::size_t>(exchange.node_ranks);
    pieces.resize(members * members);
    for (std::size_t i = 0; i < members; ++i) {
      for (std::size_t j = 0; j < members; ++j) {
        const bool inside = i / each == j / each;
        const bool opposite = i % each == j % each;
        pieces[i * members + j] = Bytes::of(inside     ? exchange.rank_bytes
                                            : opposite ? exchange.node_bytes
                                                       : 0.0);
      }
    }
    return pieces;
  }

  void add_wire(const PlannedFlow& flow) {
    Wire wire;
    wire.bytes = flow.bytes.value();
    wire.cap = flow.rate_cap.value();
    wire.latency = flow.latency.value();
    wire.first_link = static_cast<std::uint32_t>(traffic_.links.size());
    wire.link_count = static_cast<std::uint32_t>(flow.links.size());
    traffic_.links.insert(traffic_.links.end(), flow.links.begin(), flow.links.end());
    traffic_.wires.push_back(wire);
  }

  // Every communicator keeps buffers on each member's GPU from the start: one set per group, for
  // the kind of collective that the program uses on it first.
  void find_buffers() {
    traffic_.buffers.assign(traffic_.communicators.size(), 0);
    std::vector<bool> known(program_.groups.size(), false);
    for (const Instruction& instruction : program_.code) {
      const bool joins = instruction.group && !is_host_work(instruction.op);
      if (!joins || known[instruction.group->index]) {
        continue;
      }
      const std::size_t group = instruction.group->index;
      known[group] = true;
      const CollectiveKind kind = instruction.op == Op::send_receive ||
                                          instruction.op == Op::exchange
                                      ? CollectiveKind::send
                                  : instruction.op == Op::all_to_all ? CollectiveKind::all_to_all
                                                                     : CollectiveKind::all_gather;
      const std::optional<Bytes>& own = program_.groups[group].buffers;
      for (std::uint32_t c = first_[group]; c < first_[group + 1]; ++c) {
        const Bytes held = own ? *own : transport_.communicator_memory(kind, gpus_of(c));
        traffic_.buffers[c] = static_cast<std::int64_t>(held.value());
      }
    }
  }

  const Program& program_;
  const TransportCosts& transport_;
  Traffic traffic_;
  std::vector<std::uint32_t> first_;  // communicator of each group, and the end
};

}  // namespace

std::uint32_t Traffic::transfer_of(std::uint32_t exchange, std::uint32_t communicator,
                                   std::uint32_t member) const {
  const Exchange& mine = exchanges[exchange];
  const std::uint32_t index = communicator - mine.first_communicator;
  // All communicators of a group have as many members.
  const auto each =
      mine.pairwise() ? static_cast<std::uint32_t>(communicators[communicator].members.size()) : 1;
  return mine.first_transfer + index * each + (mine.pairwise() ? member : 0);
}

std::uint32_t Traffic::neighbour(std::uint32_t communicator, std::uint32_t member,
                                 int shift) const {
  const auto n = static_cast<std::int64_t>(communicators[communicator].members.size());
  return static_cast<std::uint32_t>(((static_cast<std::int64_t>(member) + shift) % n + n) % n);
}

Traffic lower_traffic(const Program& program, const TransportCosts& transport) {
  return Lowering(program, transport).run();
}

}  // namespace longhaul
