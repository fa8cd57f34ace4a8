// NCCL's topology XML (NCCL_TOPO_DUMP_FILE, NCCL_TOPO_FILE) and RCCL's dialect of it. The schema is
// that of NVIDIA/nccl src/graph/xml.cc and topo.cc: system > cpu > pci (nested) > gpu > nvlink, and
// pci > nic > net.
#include <fmt/format.h>

#include <algorithm>

#include "sim/input/xml.h"
#include "sim/topology/import_node.h"
#include "sim/units/parse.h"

namespace longhaul {

namespace {

/// What may be read from an attribute: nothing if it is absent, empty or no whole number.
std::optional<std::int64_t> whole(const XmlElement& element, const std::string& attribute) {
  const std::string text = element.text(attribute);
  const Parsed<std::int64_t> parsed = parse_integer(text);
  return !text.empty() && parsed.ok() ? std::optional(parsed.value) : std::nullopt;
}

int small(const XmlElement& element, const std::string& attribute, int most) {
  const auto value = whole(element, attribute);
  return value && *value > 0 && *value <= most ? static_cast<int>(*value) : 0;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

/// "0x10de", "0x2330" -> "10de:2330"; empty if the file leaves them open.
std::string pci_id_of(const XmlElement& pci) {
  const auto digits = [&](const char* attribute) {
    const std::string text = lower(pci.text(attribute));
    return text.starts_with("0x") ? text.substr(2) : text;
  };
  const std::string vendor = digits("vendor");
  const bool unsaid = vendor.empty() || vendor == "0000" || vendor == "ffff";
  return unsaid ? "" : vendor + ":" + digits("device");
}

/// GB/s of 16 lanes of the PCIe generations, rounded as data sheets do. Generations 1 and 2 send 8
/// bits as 10, 3 to 5 send 128 as 130; 6 sends flits of 256 bytes, of which 236 are packets. (PCI
/// Express Base Specification 6.0, section 4.2.)
struct PcieRate {
  const char* transfers;  ///< as the kernel writes link speeds, in GT/s
  double sixteen_lanes;
};
constexpr PcieRate pcie_rates[] = {{"2.5", 4.0}, {"5", 8.0},   {"8", 15.75},
                                   {"16", 31.5}, {"32", 63.0}, {"64", 118.0}};

/// "32.0 GT/s PCIe" -> "32".
std::string transfers_of(const std::string& speed) {
  std::string number = speed.substr(0, speed.find_first_not_of("0123456789."));
  if (number.ends_with(".0")) {
    number.resize(number.size() - 2);
  }
  return number;
}

/// Zero if speed or width are not known.
BytesPerSecond pcie_bandwidth(const XmlElement& pci) {
  const std::string transfers = transfers_of(pci.text("link_speed"));
  const auto* found =
      std::find_if(std::begin(pcie_rates), std::end(pcie_rates),
                   [&](const PcieRate& rate) { return transfers == rate.transfers; });
  const int width = small(pci, "link_width", 32);
  if (found == std::end(pcie_rates) || width == 0) {
    return {};
  }
  return BytesPerSecond::of(found->sixteen_lanes * 1e9 / 16 * width);
}

std::string pcie_note(const XmlElement& pci) {
  return fmt::format("link_speed \"{}\", link_width {}", pci.text("link_speed"),
                     pci.text("link_width").empty() ? "absent" : pci.text("link_width"));
}

bool is_switch_class(const std::string& code) {
  return code.starts_with("0x0604") || code.starts_with("0x0801");
}

bool is_gpu_class(const XmlElement& pci) {
  const std::string code = pci.text("class");
  const std::string vendor = lower(pci.text("vendor"));
  const bool maker = vendor.empty() || vendor == "0x10de" || vendor == "0x1002";
  const bool display = code.starts_with("0x0300") && !vendor.empty();
  return maker && (code.starts_with("0x0302") || display || code.starts_with("0x1200") ||
                   code.starts_with("0x0380"));
}

/// Text of a foreign file goes into a comment: one line, and not a long one.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      c = '?';
    }
  }
  return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

/// How many of the elements below have this name.
std::size_t count(const XmlElement& element, const std::string& name) {
  std::size_t found = element.name == name ? 1 : 0;
  for (const XmlElement& child : element.children) {
    found += count(child, name);
  }
  return found;
}

/// One host of a file, element by element.
class XmlImport {
 public:
  XmlImport(const XmlElement& system, Diagnostics& diagnostics)
      : system_(system),
        diagnostics_(diagnostics),
        has_gpus_(count(system, "gpu") > 0),
        has_nets_(count(system, "net") > 0) {}

  FoundNode import() {
    node_.format = "NCCL topology XML";
    node_.shows_nvlink = has_gpus_;
    node_.whole = {system_.place.source, 0, 0, 1};
    choose_host();
    for (const XmlElement& child : system_.children) {
      if (child.name == "cpu") {
        if (child.text("host_hash") == host_) {
          add_cpu(child);
        }
      } else if (child.name == "gpu") {
        refuse_gpu(child);
      } else {
        skip(child);
      }
    }
    sort_gpus();
    add_nvlinks();
    report_skipped();
    return std::move(node_);
  }

 private:
  /// A GPU with the element that its NVLinks are read from.
  struct Pending {
    FoundGpu gpu;
    const XmlElement* element = nullptr;  ///< none in files that hold the PCI tree only
    std::optional<std::int64_t> dev;
    std::optional<std::int64_t> rank;
  };

  /// With several hosts (an NVLink domain over several nodes), the first stands for all.
  void choose_host() {
    std::vector<std::string> hosts;
    std::map<std::string, std::size_t> gpus;
    for (const XmlElement& child : system_.children) {
      if (child.name == "cpu") {
        const std::string host = child.text("host_hash");
        if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
          hosts.push_back(host);
        }
        gpus[host] += count(child, "gpu");
      }
    }
    if (hosts.empty()) {
      return;
    }
    host_ = hosts.front();
    if (hosts.size() == 1) {
      return;
    }
    const bool alike = std::all_of(hosts.begin(), hosts.end(), [&](const std::string& host) {
      return gpus[host] == gpus[host_];
    });
    if (!alike) {
      diagnostics_.error(
          system_.place, "unlike-hosts",
          fmt::format("the file holds {} hosts with different numbers of GPUs", hosts.size()),
          "import a dump of one host; a cluster is made of equal nodes");
    }
    node_.hosts = static_cast<int>(hosts.size());
    diagnostics_.warning(
        system_.place, "several-hosts",
        fmt::format("the file holds {} hosts; the first stands for all", hosts.size()),
        "check that they are alike");
  }

  void skip(const XmlElement& element) {
    Skipped& entry = skipped_[element.name];
    if (++entry.count == 1) {
      entry.place = element.place;
    }
  }

  void report_skipped() {
    for (const auto& [name, entry] : skipped_) {
      diagnostics_.warning(entry.place, "skipped-element",
                           fmt::format("{} element{} '{}' left out: not known here", entry.count,
                                       entry.count == 1 ? "" : "s", printable(name)));
    }
  }

  void refuse_gpu(const XmlElement& gpu) {
    diagnostics_.error(gpu.place, "gpu-without-pci",
                       "a GPU that is not inside a 'pci' element has no place in the machine",
                       "dump the topology of the real machine (NCCL_TOPO_DUMP_FILE)");
  }

  void add_cpu(const XmlElement& cpu) {
    FoundSocket socket;
    socket.note = fmt::format("numaid {}", printable(cpu.text("numaid")));
    socket.numa = small(cpu, "numaid", 1023);
    socket.arch = cpu.text("arch");
    socket.vendor = cpu.text("vendor");
    socket.family = small(cpu, "familyid", 100000);
    socket.model = small(cpu, "modelid", 100000);
    node_.sockets.push_back(socket);
    const Seat seat{Seat::Kind::socket, static_cast<int>(node_.sockets.size()) - 1, std::nullopt};
    for (const XmlElement& child : cpu.children) {
      if (child.name == "pci") {
        add_pci(child, seat);
      } else if (child.name == "nic") {
        add_nic(child, nullptr, seat);
      } else if (child.name == "gpu") {
        refuse_gpu(child);
      } else {
        skip(child);
      }
    }
  }

  void add_pci(const XmlElement& pci, const Seat& above) {
    const auto gpu = std::find_if(pci.children.begin(), pci.children.end(),
                                  [](const XmlElement& child) { return child.name == "gpu"; });
    const auto nic = std::find_if(pci.children.begin(), pci.children.end(),
                                  [](const XmlElement& child) { return child.name == "nic"; });
    const std::string code = pci.text("class");
    if (gpu != pci.children.end()) {
      add_gpu(pci, &*gpu, above);
    } else if (!has_gpus_ && is_gpu_class(pci)) {
      add_gpu(pci, nullptr, above);
    } else if (nic != pci.children.end()) {
      add_nic(*nic, &pci, above);
    } else if (!has_nets_ && code.starts_with("0x02")) {
      add_bare_nic(pci, above);
    } else if (is_switch_class(code) || !pci.children.empty()) {
      add_switch(pci, above);
    }
    // Anything else (a disk, a display) is no part of what is simulated.
  }

  /// Only if something of interest hangs below it.
  void add_switch(const XmlElement& pci, const Seat& above) {
    const std::size_t mine = node_.switches.size();
    const std::size_t parts = pending_.size() + node_.nics.size();
    node_.switches.push_back(
        {above, pcie_bandwidth(pci),
         fmt::format("{}: {}", printable(pci.text("busid")), printable(pcie_note(pci)))});
    const Seat seat{Seat::Kind::pcie_switch, static_cast<int>(mine), std::nullopt};
    for (const XmlElement& child : pci.children) {
      if (child.name == "pci") {
        add_pci(child, seat);
      } else {
        skip(child);
      }
    }
    if (pending_.size() + node_.nics.size() == parts) {
      node_.switches.resize(mine);
    }
  }

  void add_gpu(const XmlElement& pci, const XmlElement* element, const Seat& above) {
    Pending pending;
    FoundGpu& gpu = pending.gpu;
    gpu.name = lower(pci.text("busid"));
    gpu.place = pci.place_of("busid");
    gpu.seat = above;
    gpu.slot = pcie_bandwidth(pci);
    gpu.pci_id = pci_id_of(pci);
    gpu.note = fmt::format("{}: {}", printable(gpu.name), printable(pcie_note(pci)));
    refuse_twin(gpu);
    if (element != nullptr) {
      gpu.sm = small(*element, "sm", 10000);
      pending.element = element;
      pending.dev = whole(*element, "dev");
      pending.rank = whole(*element, "rank");
      refuse_repeated(*element, "dev", pending.dev, devs_);
      refuse_repeated(*element, "rank", pending.rank, ranks_);
    }
    pending_.push_back(std::move(pending));
  }

  void refuse_twin(const FoundGpu& gpu) {
    const auto [entry, fresh] = bus_ids_.emplace(gpu.name, gpu.place);
    if (!fresh && !gpu.name.empty()) {
      diagnostics_.error(
          gpu.place, "duplicate-device",
          fmt::format("two GPUs have the bus id '{}'", printable(gpu.name)),
          fmt::format("the other is in line {}; remove one of them", entry->second.line));
    }
  }

  void refuse_repeated(const XmlElement& gpu, const char* attribute,
                       std::optional<std::int64_t> value, std::map<std::int64_t, Place>& seen) {
    if (!value || *value < 0) {
      return;
    }
    const auto [entry, fresh] = seen.emplace(*value, gpu.place_of(attribute));
    if (!fresh) {
      diagnostics_.error(gpu.place_of(attribute), "duplicate-device",
                         fmt::format("two GPUs have {} {}", attribute, *value),
                         fmt::format("the other is in line {}", entry->second.line));
    }
  }

  /// `speed` is in Mb/s. The adapters of one PCI function share its slot.
  void add_nic(const XmlElement& nic, const XmlElement* pci, const Seat& above) {
    const auto is_net = [](const XmlElement& child) {
      return child.name == "net" && child.text("keep") != "0";
    };
    const auto nets = std::count_if(nic.children.begin(), nic.children.end(), is_net);
    for (const XmlElement& net : nic.children) {
      if (!is_net(net)) {
        skip(net);
        continue;
      }
      FoundNic found;
      found.name = printable(net.text("name"));
      found.place = net.place;
      found.seat = above;
      const auto speed = whole(net, "speed");
      if (speed && *speed > 0 && *speed <= 100'000'000) {
        found.rate = BytesPerSecond::of(static_cast<double>(*speed) * 1e6 / 8);
      }
      found.note = fmt::format("{}, speed {} Mb/s", found.name, printable(net.text("speed")));
      if (pci != nullptr) {
        found.slot = pcie_bandwidth(*pci) / static_cast<double>(std::max<std::ptrdiff_t>(nets, 1));
        found.pci_id = pci_id_of(*pci);
        if (nets > 1) {
          found.note += fmt::format(", {} adapters share the slot", nets);
        }
      }
      found.gpudirect = net.text("gdr") != "0";
      refuse_twin_nic(net, found);
      node_.nics.push_back(std::move(found));
    }
  }

  void refuse_twin_nic(const XmlElement& net, const FoundNic& found) {
    const auto [entry, fresh] = nic_names_.emplace(found.name + " " + net.text("port"), net.place);
    if (!fresh && !found.name.empty()) {
      diagnostics_.error(net.place, "duplicate-device",
                         fmt::format("two adapters are called '{}'", found.name),
                         fmt::format("the other is in line {}", entry->second.line));
    }
  }

  void add_bare_nic(const XmlElement& pci, const Seat& above) {
    FoundNic found;
    found.name = printable(pci.text("busid"));
    found.place = pci.place;
    found.seat = above;
    found.slot = pcie_bandwidth(pci);
    found.pci_id = pci_id_of(pci);
    found.note = fmt::format("{}: {}", found.name, printable(pcie_note(pci)));
    node_.nics.push_back(std::move(found));
  }

  /// By `dev` where every GPU has one; else by bus id, as CUDA numbers them.
  void sort_gpus() {
    const bool numbered = std::all_of(pending_.begin(), pending_.end(),
                                      [](const Pending& gpu) { return gpu.dev.has_value(); });
    if (!numbered && has_gpus_ && !pending_.empty()) {
      diagnostics_.warning(node_.whole, "gpu-order",
                           "not every GPU has a 'dev': they are numbered by bus id");
    }
    std::stable_sort(pending_.begin(), pending_.end(), [&](const Pending& a, const Pending& b) {
      return numbered ? *a.dev < *b.dev : a.gpu.name < b.gpu.name;
    });
    for (Pending& pending : pending_) {
      numbers_[pending.gpu.name] = static_cast<int>(node_.gpus.size());
      node_.gpus.push_back(pending.gpu);
    }
  }

  void add_nvlinks() {
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (pending_[i].element == nullptr) {
        continue;
      }
      for (const XmlElement& child : pending_[i].element->children) {
        if (child.name == "nvlink" || child.name == "xgmi") {
          add_nvlink(child, static_cast<int>(i));
        } else if (child.name == "c2c") {
          // bw is MB/s of one link (NVIDIA/nccl src/graph/topo.cc).
          const double links = small(child, "count", 10000);
          node_.gpus[i].c2c = BytesPerSecond::of(small(child, "bw", 100'000'000) * links * 1e6);
        } else {
          skip(child);
        }
      }
    }
    for (const auto& [ends, links] : directed_) {
      const auto back = directed_.find({ends.second, ends.first});
      const int other = back == directed_.end() ? 0 : back->second;
      if (links != other && (ends.first < ends.second || other == 0)) {
        diagnostics_.warning(node_.gpus[static_cast<std::size_t>(ends.first)].place,
                             "asymmetric-nvlink",
                             fmt::format("{} NVLinks from GPU {} to GPU {}, but {} back", links,
                                         ends.first, ends.second, other),
                             "the smaller number is taken");
      }
      if (ends.first < ends.second && std::min(links, other) > 0) {
        node_.nvlinks[ends] = std::min(links, other);
      }
    }
  }

  void add_nvlink(const XmlElement& link, int from) {
    const std::string target = lower(link.text("target"));
    const int links = small(link, "count", 1024);
    const auto end = numbers_.find(target);
    FoundGpu& gpu = node_.gpus[static_cast<std::size_t>(from)];
    if (links == 0) {
      diagnostics_.warning(link.place, "bad-nvlink",
                           fmt::format("NVLink count '{}' is no number of links: left out",
                                       printable(link.text("count"))));
    } else if (end != numbers_.end() && end->second == from) {
      diagnostics_.warning(link.place, "self-loop",
                           fmt::format("GPU {} has NVLinks to itself: left out", from),
                           "the file does not tell whom they join; --nvlink does");
    } else if (end != numbers_.end()) {
      directed_[{from, end->second}] += links;
    } else if (link.text("tclass").starts_with("0x0680") &&
               !link.text("tclass").starts_with("0x068001")) {
      gpu.switch_links += links;
    } else {
      diagnostics_.warning(
          link.place, "unknown-nvlink-end",
          fmt::format("{} NVLinks of GPU {} end at '{}' (class {}), which is "
                      "neither a GPU nor an NVSwitch of this file: left out",
                      links, from, printable(target), printable(link.text("tclass"))));
    }
  }

  struct Skipped {
    std::size_t count = 0;
    Place place;
  };

  const XmlElement& system_;
  Diagnostics& diagnostics_;
  bool has_gpus_;
  bool has_nets_;
  std::string host_;
  FoundNode node_;
  std::vector<Pending> pending_;
  std::map<std::string, Skipped> skipped_;
  std::map<std::string, Place> bus_ids_;
  std::map<std::string, Place> nic_names_;
  std::map<std::int64_t, Place> devs_;
  std::map<std::int64_t, Place> ranks_;
  std::map<std::string, int> numbers_;  ///< of GPUs, by bus id
  std::map<std::pair<int, int>, int> directed_;
};

}  // namespace

std::optional<FoundNode> import_nccl_xml(const SourcePtr& source, Diagnostics& diagnostics) {
  const std::optional<XmlElement> root = parse_xml(source, diagnostics);
  if (!root) {
    return std::nullopt;
  }
  if (root->name != "system") {
    diagnostics.error(
        root->place, "not-a-topology",
        fmt::format("the root element is '{}'; a topology of NCCL starts with 'system'",
                    printable(root->name)),
        "write one with NCCL_TOPO_DUMP_FILE=topo.xml and any NCCL program");
    return std::nullopt;
  }
  return XmlImport(*root, diagnostics).import();
}

}  // namespace longhaul
