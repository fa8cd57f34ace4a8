// The matrix that `nvidia-smi topo -m` prints: how every two of a machine's GPUs and adapters reach
// one another. It names neither the GPU nor any bandwidth.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sim/topology/import_node.h"
#include "sim/topology/smi_matrix.h"
#include "sim/units/parse.h"

namespace longhaul {

namespace {

/// Groups of numbers that relations join (union-find by relabelling; matrices are small).
class Groups {
 public:
  explicit Groups(std::size_t size) : label_(size) { std::iota(label_.begin(), label_.end(), 0); }
  void join(std::size_t a, std::size_t b) {
    const std::size_t low = std::min(label_[a], label_[b]);
    const std::size_t high = std::max(label_[a], label_[b]);
    std::replace(label_.begin(), label_.end(), high, low);
  }
  /// The lowest member of the group.
  [[nodiscard]] std::size_t of(std::size_t i) const { return label_[i]; }

 private:
  std::vector<std::size_t> label_;
};

/// From the matrix to sockets, switches and seats.
class SmiImport {
 public:
  SmiImport(const SmiMatrix& matrix, Diagnostics& diagnostics)
      : matrix_(matrix), diagnostics_(diagnostics), size_(matrix.names.size()) {}

  FoundNode import() {
    node_.format = "nvidia-smi topo -m";
    node_.whole = {matrix_.place.source, 0, 0, 1};
    seats_.resize(size_);
    find_sockets();
    find_switches();
    for (std::size_t i = 0; i < size_; ++i) {
      matrix_.is_gpu(i) ? add_gpu(i) : add_nic(i);
    }
    add_nvlinks();
    note_hidden_wiring();
    return std::move(node_);
  }

 private:
  using Relation = SmiMatrix::Relation;

  [[nodiscard]] Relation relation(std::size_t a, std::size_t b) const {
    return matrix_.cell(a, b).relation;
  }
  /// Joined without crossing from one NUMA node to another.
  [[nodiscard]] static bool is_near(Relation relation) {
    return relation == Relation::pix || relation == Relation::pxb || relation == Relation::phb ||
           relation == Relation::node;
  }

  template <class Joins>
  [[nodiscard]] Groups grouped(Joins joins) const {
    Groups groups(size_);
    for (std::size_t a = 0; a < size_; ++a) {
      for (std::size_t b = a + 1; b < size_; ++b) {
        if (joins(a, b)) {
          groups.join(a, b);
        }
      }
    }
    return groups;
  }

  /// GPUs of one NUMA node share a socket, and so does all that is nearer than SYS. What is SYS to
  /// everything sits on a NUMA node of its own: two such parts, whose relation the file does not
  /// tell, are taken to share one.
  void find_sockets() {
    Groups near = grouped([&](std::size_t a, std::size_t b) {
      const std::string& home = matrix_.home(a);
      return is_near(relation(a, b)) || (!home.empty() && home == matrix_.home(b));
    });
    std::optional<std::size_t> alone;
    for (std::size_t i = 0; i < size_; ++i) {
      if (matrix_.is_gpu(i) || has_near(i)) {
        continue;
      }
      if (!alone) {
        alone = i;
      } else if (relation(*alone, i) == Relation::unknown) {
        near.join(*alone, i);
      }
    }
    number_sockets(near);
  }

  [[nodiscard]] bool has_near(std::size_t i) const {
    for (std::size_t other = 0; other < size_; ++other) {
      if (other != i && is_near(relation(i, other))) {
        return true;
      }
    }
    return false;
  }

  /// By NUMA number where there is one, then in order of appearance.
  void number_sockets(const Groups& near) {
    std::vector<std::size_t> order(size_);
    std::iota(order.begin(), order.end(), 0);
    const auto numa = [&](std::size_t i) {
      const Parsed<std::int64_t> parsed = parse_integer(matrix_.numa[i]);
      return parsed.ok() && parsed.value >= 0 ? parsed.value : INT64_MAX;
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return numa(a) < numa(b); });
    std::map<std::size_t, int> number;
    for (const std::size_t i : order) {
      const auto [entry, fresh] =
          number.emplace(near.of(i), static_cast<int>(node_.sockets.size()));
      if (fresh) {
        FoundSocket socket;
        socket.note = matrix_.numa[i].empty() ? fmt::format("of {}", matrix_.names[i])
                                              : fmt::format("NUMA node {}", matrix_.numa[i]);
        socket.numa = numa(i) < 1024 ? static_cast<int>(numa(i)) : 0;
        node_.sockets.push_back(socket);
      }
      seats_[i] = {Seat::Kind::socket, entry->second, std::nullopt};
    }
  }

  /// PIX: under one switch. PXB: under switches that share one above. PHB: under one host bridge.
  void find_switches() {
    const Groups inner =
        grouped([&](std::size_t a, std::size_t b) { return relation(a, b) == Relation::pix; });
    const Groups outer = grouped([&](std::size_t a, std::size_t b) {
      return relation(a, b) == Relation::pix || relation(a, b) == Relation::pxb;
    });
    const Groups bridge = grouped([&](std::size_t a, std::size_t b) {
      return relation(a, b) == Relation::pix || relation(a, b) == Relation::pxb ||
             relation(a, b) == Relation::phb;
    });
    std::map<std::size_t, Seat> top;  // of each outer group
    std::map<std::size_t, Seat> own;  // of each inner group
    for (std::size_t i = 0; i < size_; ++i) {
      if (!top.contains(outer.of(i))) {
        top[outer.of(i)] = place_group(i, inner, outer, bridge);
      }
      const bool nested = differs(i, inner, outer);
      if (nested && !own.contains(inner.of(i))) {
        own[inner.of(i)] = add_switch(top[outer.of(i)], i, "PIX among its parts, PXB to others");
      }
      seats_[i] = nested ? own[inner.of(i)] : top[outer.of(i)];
    }
  }

  [[nodiscard]] std::size_t members(const Groups& groups, std::size_t i) const {
    std::size_t count = 0;
    for (std::size_t other = 0; other < size_; ++other) {
      count += groups.of(other) == groups.of(i) ? 1 : 0;
    }
    return count;
  }
  [[nodiscard]] bool differs(std::size_t i, const Groups& inner, const Groups& outer) const {
    return members(inner, i) != members(outer, i);
  }

  /// The seat of an outer group: a switch, or for a part alone its socket.
  Seat place_group(std::size_t i, const Groups& inner, const Groups& outer, const Groups& bridge) {
    Seat socket = seats_[i];
    if (members(bridge, i) != members(outer, i)) {
      socket.bridge = static_cast<int>(
          bridges_.emplace(bridge.of(i), static_cast<int>(bridges_.size())).first->second);
    }
    if (members(outer, i) == 1) {
      return socket;
    }
    return add_switch(socket, i,
                      differs(i, inner, outer) ? "PXB among its parts" : "PIX among its parts");
  }

  Seat add_switch(const Seat& above, std::size_t i, const char* why) {
    node_.switches.push_back({above, {}, fmt::format("of {}: {}", matrix_.names[i], why)});
    return {Seat::Kind::pcie_switch, static_cast<int>(node_.switches.size()) - 1, std::nullopt};
  }

  void add_gpu(std::size_t i) {
    FoundGpu gpu;
    gpu.name = matrix_.names[i];
    gpu.place = matrix_.rows[i];
    gpu.seat = seats_[i];
    gpu.note = matrix_.numa[i].empty()
                   ? gpu.name
                   : fmt::format("{}, NUMA affinity {}", gpu.name, matrix_.numa[i]);
    node_.gpus.push_back(gpu);
  }

  void add_nic(std::size_t i) {
    FoundNic nic;
    const auto legend = matrix_.legend.find(matrix_.names[i]);
    nic.name = legend == matrix_.legend.end() ? matrix_.names[i] : legend->second;
    nic.place = matrix_.place;
    nic.seat = seats_[i];
    nic.note =
        nic.name == matrix_.names[i] ? nic.name : fmt::format("{}, {}", matrix_.names[i], nic.name);
    node_.nics.push_back(nic);
  }

  /// The same number between all pairs of three or more GPUs may be a switch or a mesh: which, the
  /// number of links of the device decides later.
  void add_nvlinks() {
    for (std::size_t a = 0; a < node_.gpus.size(); ++a) {
      for (std::size_t b = a + 1; b < node_.gpus.size(); ++b) {
        if (matrix_.cell(a, b).relation == Relation::nvlink) {
          node_.nvlinks[{static_cast<int>(a), static_cast<int>(b)}] = matrix_.cell(a, b).links;
        }
      }
    }
  }

  /// NV# hides how two GPUs are joined over PCIe; adapters beside them may still show it.
  void note_hidden_wiring() {
    for (std::size_t i = 0; i < node_.gpus.size(); ++i) {
      const bool on_switch = seats_[i].kind == Seat::Kind::pcie_switch;
      bool shown = on_switch;
      for (std::size_t other = 0; other < node_.gpus.size(); ++other) {
        shown = shown || (other != i && relation(i, other) != Relation::nvlink);
      }
      node_.shows_pcie = node_.shows_pcie && (shown || node_.gpus.size() == 1);
    }
  }

  const SmiMatrix& matrix_;
  Diagnostics& diagnostics_;
  std::size_t size_;
  std::vector<Seat> seats_;
  std::map<std::size_t, int> bridges_;
  FoundNode node_;
};

}  // namespace

std::optional<FoundNode> import_smi_topo(const SourcePtr& source, Diagnostics& diagnostics) {
  const std::optional<SmiMatrix> matrix = read_smi_matrix(source, diagnostics);
  return matrix ? std::optional(SmiImport(*matrix, diagnostics).import()) : std::nullopt;
}

}  // namespace longhaul
