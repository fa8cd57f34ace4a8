// What the machine simulates: one rank of each class with its multiplicity, and communicators,
// flows and links likewise. Without folding every class has one member.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sim/engine/symmetry.h"
#include "sim/engine/traffic.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// A class of ranks that behave alike, simulated as its lowest rank. Dense, in the order of those
/// ranks: rank 0 belongs to actor 0.
using ActorId = Id<struct ActorTag>;

/// Members of one actor in a communicator.
struct FoldedMember {
  ActorId actor;
  std::uint32_t count = 0;  ///< members of that class
  std::uint32_t first = 0;  ///< the first of them, as a member of the representative
};

/// A class of communicators, as one of them.
struct FoldedCommunicator {
  std::uint32_t original = 0;           ///< index into Traffic::communicators
  std::vector<FoldedMember> members;    ///< by actor, in the order of their first members
  std::vector<std::uint32_t> place_of;  ///< by member of the original: index into `members`
  std::int64_t buffers = 0;             ///< bytes on each member's GPU
};

/// A class of flows: FlowSpec's links (classes of links) and weights.
struct FoldedFlow {
  std::vector<LinkId> links;
  std::vector<std::uint32_t> weights;
  Bytes bytes;
  BytesPerSecond cap;
  Seconds latency;
  std::int64_t copies = 0;  ///< flows of the class in the whole cluster
};

/// A transfer with its flows by class.
struct FoldedTransfer {
  std::vector<FoldedFlow> flows;
  Seconds latency;
  int sms_held = 0;
  double spread = 0.0;
  bool extrapolated = false;
  std::uint32_t receiver = 0;  ///< pairwise: index into the communicator's members
  std::uint32_t sender = 0;    ///< pairwise: who sends to this member
};

class Fold {
 public:
  Fold(const Traffic& traffic, const Symmetry& symmetry,
       std::span<const BytesPerSecond> capacities);

  [[nodiscard]] std::size_t actors() const { return rank_of_.size(); }
  /// The rank that an actor is simulated as, and how many it stands for.
  [[nodiscard]] RankId rank_of(ActorId actor) const { return rank_of_[actor.index]; }
  [[nodiscard]] const std::vector<RankId>& ranks() const { return rank_of_; }  ///< by actor
  [[nodiscard]] std::int64_t size_of(ActorId actor) const { return size_of_[actor.index]; }
  [[nodiscard]] const std::vector<ActorId>& actor_of() const { return actor_of_; }  ///< by rank
  /// Capacities by class of links; `class_of_links()` by LinkId of the cluster (none: unused).
  [[nodiscard]] const std::vector<BytesPerSecond>& capacities() const { return capacities_; }
  [[nodiscard]] const std::vector<std::uint32_t>& class_of_links() const { return link_class_; }
  static constexpr std::uint32_t none = UINT32_MAX;

  [[nodiscard]] const std::vector<FoldedCommunicator>& communicators() const {
    return communicators_;
  }
  /// An actor's communicator of a group, and its place among that one's members.
  [[nodiscard]] std::uint32_t communicator_of(GroupId group, ActorId actor) const {
    return communicator_of_[group.index][actor.index];
  }
  [[nodiscard]] std::uint32_t member_of(GroupId group, ActorId actor) const {
    return member_of_[group.index][actor.index];
  }
  /// The transfer of a communicator in an exchange; pairwise: of that member (place among members).
  [[nodiscard]] const FoldedTransfer& transfer(std::uint32_t exchange, std::uint32_t communicator,
                                               std::uint32_t member) const;

 private:
  void find_actors(const Symmetry& symmetry);
  void find_links(const Symmetry& symmetry, std::span<const BytesPerSecond> capacities);
  void find_communicators(const Symmetry& symmetry);
  std::uint32_t add_communicator(std::uint32_t original);
  void find_transfers(const Symmetry& symmetry);
  void count_crossings(const Symmetry& symmetry);
  FoldedTransfer make_transfer(std::uint32_t exchange, std::uint32_t communicator,
                               const FoldedMember& member, const Symmetry& symmetry) const;
  FoldedFlow make_flow(std::uint32_t wire, const Symmetry& symmetry) const;

  // How many flows of a colour cross the representative of a class of links.
  struct Crossings {
    std::uint64_t colour;
    std::uint32_t link_class;
    std::uint32_t count;
    bool operator<(const Crossings& other) const {
      return colour != other.colour ? colour < other.colour : link_class < other.link_class;
    }
  };

  const Traffic& traffic_;
  std::vector<RankId> rank_of_;
  std::vector<std::int64_t> size_of_;
  std::vector<ActorId> actor_of_;
  std::vector<std::uint32_t> link_class_;
  std::vector<std::uint32_t> representative_;  // link, by class
  std::vector<BytesPerSecond> capacities_;
  std::vector<FoldedCommunicator> communicators_;
  std::vector<std::vector<std::uint32_t>> communicator_of_;          // [group][actor]
  std::vector<std::vector<std::uint32_t>> member_of_;                // [group][actor]
  std::vector<std::vector<std::vector<FoldedTransfer>>> transfers_;  // [exchange][comm.][member]
  std::vector<Crossings> crossings_;
  std::vector<std::pair<std::uint64_t, std::int64_t>> copies_;  // by colour of flows, sorted
};

}  // namespace longhaul
