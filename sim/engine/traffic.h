// All communication of a program on a cluster, lowered: which ranks form communicators, and which
// flows over which links each of their collectives is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sim/cost/collective.h"
#include "sim/program/program.h"

namespace longhaul {

/// One group instance.
struct CommunicatorSpec {
  GroupId group;
  std::vector<RankId> members;
};

/// Collectives of one group that move the same bytes in the same way: instructions that differ in
/// neither share one exchange.
struct Exchange {
  GroupId group;
  CollectiveKind kind = CollectiveKind::all_gather;
  std::optional<HostRequest> host = std::nullopt;  ///< of each member by itself; then no kind
  double bytes = 0.0;
  int shift = 0;  ///< send: to the member that many further; otherwise 0
  double largest = 0.0;  ///< send: bytes of the largest message; `bytes` are those of all
  bool copied = false;   ///< send: the stack copies by itself, without a call of NCCL
  /// Tokens to their experts, node by node (Op::node_dispatch): bytes to the member of equal place in
  /// each other node, and to each other member of the own one. node_ranks 0: no such exchange.
  std::int64_t node_ranks = 0;
  double node_bytes = 0.0;
  double rank_bytes = 0.0;
  double own_bytes = 0.0;  ///< of a member's own tokens
  bool combines = false;   ///< back to them
  int sms = 0;             ///< that its kernel holds
  [[nodiscard]] bool pairwise() const { return !host && kind == CollectiveKind::send; }
  std::uint32_t first_transfer = 0;      ///< of its first communicator
  std::uint32_t first_communicator = 0;  ///< the communicators of its group are contiguous
};

/// One flow of a transfer. Its links are Traffic::links[first_link, + link_count).
struct Wire {
  double bytes = 0.0;
  double cap = 0.0;      ///< bytes per second
  double latency = 0.0;  ///< seconds, its own
  std::uint32_t first_link = 0;
  std::uint32_t link_count = 0;
};

/// A collective of one communicator, or, of a pairwise exchange, the message of one member. Its
/// flows are Traffic::wires[first_wire, + wire_count).
struct Transfer {
  std::uint32_t exchange = 0;
  std::uint32_t communicator = 0;
  std::uint32_t member = 0;  ///< pairwise: the sender
  std::uint32_t first_wire = 0;
  std::uint32_t wire_count = 0;
  Seconds latency;
  int sms_held = 0;
  double spread = 0.0;
  bool extrapolated = false;
};

/// The whole of it. Plain data: size is proportional to the flows of one of each collective.
struct Traffic {
  std::vector<CommunicatorSpec> communicators;
  std::vector<std::vector<std::uint32_t>> communicator_of;  ///< [group][rank]; or none
  static constexpr std::uint32_t none = UINT32_MAX;
  std::vector<Exchange> exchanges;
  /// By place in the program: one of each collective, of an Op::exchange one for each read and
  /// then for each write: sender and receiver of a message mean the same.
  std::vector<std::vector<std::uint32_t>> exchanges_of;
  std::vector<Transfer> transfers;
  std::vector<Wire> wires;
  std::vector<LinkId> links;
  std::vector<std::int64_t> buffers;  ///< by communicator: bytes it holds on each member's GPU

  [[nodiscard]] std::span<const Wire> wires_of(const Transfer& transfer) const {
    return std::span(wires).subspan(transfer.first_wire, transfer.wire_count);
  }
  [[nodiscard]] std::span<const LinkId> links_of(const Wire& wire) const {
    return std::span(links).subspan(wire.first_link, wire.link_count);
  }
  /// The transfer of a communicator in an exchange of its group; pairwise: of that member.
  [[nodiscard]] std::uint32_t transfer_of(std::uint32_t exchange, std::uint32_t communicator,
                                          std::uint32_t member) const;
  /// The member that `member` sends to (shift > 0) or receives from (-shift).
  [[nodiscard]] std::uint32_t neighbour(std::uint32_t communicator, std::uint32_t member,
                                        int shift) const;
};

/// Lowers everything that `program` communicates, rank r on GPU r. O(flows).
Traffic lower_traffic(const Program& program, const TransportCosts& transport);

}  // namespace longhaul
