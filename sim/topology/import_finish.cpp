// From what an importer found to a specification: the device, and guesses for what no topology file
// says. Every value gets a comment that tells which of the two it is.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sim/topology/import_node.h"
#include "sim/topology/known_gpus.h"
#include "sim/topology/node_wiring.h"
#include "sim/topology/read_cluster.h"
#include "sim/topology/read_parts.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

/// Limits of the node format (read_node.cpp).
constexpr std::size_t gpu_count_limit = 1024;
constexpr std::size_t socket_limit = 16;

/// The same rate of all parts moves up to one key for all; zero if they differ.
template <class Part, class Member>
BytesPerSecond common(const std::vector<Part>& parts, Member member) {
  const bool alike = std::all_of(parts.begin(), parts.end(), [&](const Part& part) {
    return part.*member == parts.front().*member;
  });
  return alike && !parts.empty() ? parts.front().*member : BytesPerSecond{};
}

std::string counted(std::size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

class Finish {
 public:
  Finish(const FoundNode& node, const ImportOptions& options, Diagnostics& diagnostics)
      : found_(node), options_(options), diagnostics_(diagnostics), files_(diagnostics) {}

  std::optional<ImportedCluster> finish() {
    if (!sizes_fit() || !choose_device()) {
      return std::nullopt;
    }
    const bool nvlinked =
        device().nvlink_links > 0 && device().name.find("pcie") == std::string::npos;
    usual_ = find_usual_node(device(), nvlinked, files_, found_.whole);
    if (!usual_) {
      return std::nullopt;
    }
    node().gpus = static_cast<int>(found_.gpus.size());
    note("gpus", "read");
    fill_host();
    fill_c2c();
    fill_layout();
    fill_nics();
    fill_nvlink();
    name_it();
    for (const SpecProblem& problem : find_problems(out_.spec)) {
      diagnostics_.error(found_.gpus.front().place, problem.code, problem.message, problem.help);
    }
    return diagnostics_.has_errors() ? std::nullopt : std::optional(std::move(out_));
  }

 private:
  [[nodiscard]] NodeSpec& node() { return out_.spec.node; }
  [[nodiscard]] const Device& device() const { return out_.spec.node.device; }
  void note(const std::string& key, const std::string& text) { out_.notes[key] = text; }
  void warn(const std::string& code, const std::string& message, const std::string& help = "") {
    diagnostics_.warning(found_.whole, code, message, help);
  }

  bool sizes_fit() {
    if (found_.gpus.empty()) {
      diagnostics_.error(found_.whole, "no-gpus", "there is no GPU in this file",
                         "dump the topology on a machine with GPUs, by a program that uses them");
    }
    if (found_.gpus.size() > gpu_count_limit || found_.nics.size() > gpu_count_limit ||
        found_.switches.size() > gpu_count_limit) {
      diagnostics_.error(
          found_.whole, "too-large",
          fmt::format("a node has at most {} GPUs, adapters and switches", gpu_count_limit),
          "is this the file of one machine?");
    }
    if (found_.sockets.size() > socket_limit) {
      diagnostics_.error(found_.whole, "too-large",
                         fmt::format("{} CPUs or NUMA nodes; a node has at most {}",
                                     found_.sockets.size(), socket_limit),
                         "is this the file of one machine?");
    }
    return !diagnostics_.has_errors();
  }

  // --- the device -----------------------------------------------------------------------------

  bool choose_device() {
    std::string why;
    const std::string own = options_.device.empty() || has_pci_id() ? device_by_file(why) : "";
    if (!options_.device.empty()) {
      if (!own.empty() && own != options_.device) {
        warn("other-device",
             fmt::format("the file says '{}', but --device says '{}', which is taken", own,
                         options_.device));
      }
      out_.device = options_.device;
      why = "given by --device";
    } else {
      out_.device = own;
    }
    if (out_.device.empty()) {
      return false;
    }
    const auto device =
        find_device(out_.device,
                    {std::make_shared<const SourceText>(SourceText{"<command line>", ""}), 0, 0, 1},
                    diagnostics_);
    if (!device) {
      return false;
    }
    node().device = *device;
    note("node.device", why);
    return true;
  }

  [[nodiscard]] bool has_pci_id() const {
    return std::any_of(found_.gpus.begin(), found_.gpus.end(),
                       [](const FoundGpu& gpu) { return !gpu.pci_id.empty(); });
  }

  /// Empty if the file does not tell (recorded, unless the user told).
  std::string device_by_file(std::string& why) {
    std::set<std::string> ids;
    for (const FoundGpu& gpu : found_.gpus) {
      ids.insert(gpu.pci_id);
    }
    if (ids.size() > 1) {
      refuse_device("mixed-gpus", fmt::format("GPUs of different models in one machine: {}",
                                              fmt::join(ids, ", ")));
      return "";
    }
    if (!ids.begin()->empty()) {
      const auto known = find_gpu_by_pci_id(*ids.begin());
      if (known && *known->device != '\0') {
        why = fmt::format("read: PCI id {} is {}", *ids.begin(), known->title);
        return known->device;
      }
      refuse_device("unknown-gpu",
                    fmt::format("no device file for the GPU of this machine: PCI id {}{}",
                                *ids.begin(), known ? fmt::format(" ({})", known->title) : ""));
      return "";
    }
    return device_by_family(why);
  }

  std::string device_by_family(std::string& why) {
    const int sm = found_.gpus.front().sm;
    const auto family = find_gpu_family(sm, links_per_gpu(), is_bridged());
    if (!family) {
      refuse_device("unknown-gpu",
                    sm > 0 ? fmt::format("the file names no GPU model, only sm {} and {} "
                                         "NVLinks per GPU",
                                         sm, links_per_gpu())
                           : "the file does not name the GPU");
      return "";
    }
    const std::string basis = fmt::format(
        "{}{} NVLinks per GPU", sm > 0 ? fmt::format("sm {}, ", sm) : "", links_per_gpu());
    why = fmt::format("guessed: {}; {} look the same", basis, family->siblings);
    if (options_.device.empty()) {
      warn("guessed-device",
           fmt::format("the file does not name the GPU; {} is guessed from {}", family->device,
                       basis),
           fmt::format("--device NAME if it is another one: {} look the same", family->siblings));
    }
    return family->device;
  }

  /// Presets with that many NVLinks; none if that tells nothing.
  [[nodiscard]] static std::vector<std::string> devices_with(int nvlinks) {
    std::vector<std::string> fitting;
    Diagnostics unheard;
    for (const std::string& name : device_presets()) {
      const auto device = nvlinks > 0 ? find_device(name, {}, unheard) : std::nullopt;
      if (device && device->nvlink_links == nvlinks) {
        fitting.push_back(name);
      }
    }
    return fitting;
  }

  void refuse_device(const std::string& code, const std::string& message) {
    if (!options_.device.empty()) {
      return;
    }
    const std::vector<std::string> fitting = devices_with(links_per_gpu());
    const std::string names =
        fitting.empty()
            ? "'longhaul list' shows the presets"
            : fmt::format("presets with {} NVLinks: {}", links_per_gpu(), fmt::join(fitting, ", "));
    diagnostics_.error(
        found_.gpus.front().place, code, message,
        fmt::format("--device NAME ({}), or --device FILE.yaml with its data sheet", names));
  }

  /// True if no GPU has more than one NVLink partner, in a machine of more than two: bridges
  /// between cards.
  [[nodiscard]] bool is_bridged() const {
    std::set<int> seen;
    for (const auto& [ends, links] : found_.nvlinks) {
      if (!seen.insert(ends.first).second || !seen.insert(ends.second).second) {
        return false;
      }
    }
    return !found_.nvlinks.empty() && found_.gpus.size() > 2;
  }

  /// NVLinks of GPU 0. The pairs of a matrix are the links of a GPU if a switch joins them.
  [[nodiscard]] int links_per_gpu() const {
    if (found_.gpus.front().switch_links > 0) {
      return found_.gpus.front().switch_links;
    }
    int sum = 0;
    int most = 0;
    for (const auto& [ends, links] : found_.nvlinks) {
      if (ends.first == 0) {
        sum += links;
        most = std::max(most, links);
      }
    }
    return sum > 18 ? most : sum;  // no GPU has more than 18: a switch then
  }

  // --- the host -------------------------------------------------------------------------------

  void fill_host() {
    HostSpec& host = node().host;
    host = usual_->host;
    host.memory = Bytes();  // servers of one kind are sold with many sizes
    host.sockets = static_cast<int>(found_.sockets.size());
    // NUMA nodes without GPUs and adapters may not show: the highest number tells of them.
    int numa_nodes = host.sockets;
    for (const FoundSocket& socket : found_.sockets) {
      numa_nodes = std::max(numa_nodes, socket.numa + 1);
    }
    const int packages = std::min(2, numa_nodes);
    double memory = usual_->host.memory_bandwidth.value();
    std::string basis = "the host of preset node " + usual_->name;
    const FoundSocket& first = found_.sockets.front();
    if (const auto cpu = find_cpu(first.arch, first.vendor, first.family, first.model)) {
      memory = cpu->memory;
      host.bus_bandwidth = BytesPerSecond::of(cpu->bus);
      basis = cpu->title;
    }
    host.memory_bandwidth = BytesPerSecond::of(memory * packages / numa_nodes);
    std::string numa;
    for (const FoundSocket& socket : found_.sockets) {
      numa += (numa.empty() ? "" : ", ") + socket.note;
    }
    note("host.sockets", "read: " + numa);
    note(
        "host.memory_bandwidth",
        fmt::format(
            "guessed: {}{}", basis,
            numa_nodes > packages ? fmt::format("; 2 packages as {} NUMA nodes", numa_nodes) : ""));
    note("host.memory_latency", "guessed: as in the presets");
    note("host.speed", "guessed: the usual host of this GPU");
    note("host.cores", "guessed: the usual host of this GPU");
    note("host.bus_bandwidth", fmt::format("guessed: {}", basis));
    note("host.bus_latency", "guessed: as in the presets");
  }

  void fill_c2c() {
    const auto with = [](const FoundGpu& gpu) { return gpu.c2c > BytesPerSecond{}; };
    if (!std::any_of(found_.gpus.begin(), found_.gpus.end(), with)) {
      return;
    }
    node().c2c = {
        std::max_element(found_.gpus.begin(), found_.gpus.end(),
                         [](const FoundGpu& a, const FoundGpu& b) { return a.c2c < b.c2c; })
            ->c2c,
        usual_->nvlink.latency > Seconds{} ? usual_->nvlink.latency : Seconds::of(0.3e-6)};
    note("c2c.bandwidth", "read: c2c bw x count");
    note("c2c.latency", "guessed: as an NVLink link of the presets");
    if (!std::all_of(found_.gpus.begin(), found_.gpus.end(),
                     [&](const FoundGpu& gpu) { return gpu.c2c == node().c2c.bandwidth; })) {
      warn("uneven-c2c", "the GPUs have different NVLink-C2C; the fastest is taken for all");
    }
  }

  // --- seats ----------------------------------------------------------------------------------

  void fill_layout() {
    Layout layout;
    for (std::size_t i = 0; i < found_.switches.size(); ++i) {
      const FoundSwitch& found = found_.switches[i];
      layout.switches.push_back({found.seat, found.uplink});
      note(fmt::format("layout.switches.{}", i), found.note);
    }
    for (std::size_t i = 0; i < found_.gpus.size(); ++i) {
      const FoundGpu& found = found_.gpus[i];
      layout.gpus.push_back({found.seat, found.slot});
      note(fmt::format("layout.gpus.{}", i), found.note);
    }
    PcieSpec& pcie = node().pcie;
    pcie = usual_->pcie;
    pcie.switches = static_cast<int>(layout.switches.size());
    note("pcie.switches", layout.switches.empty() ? "read: none" : "read");
    note("pcie.latency", "guessed: as in the presets");
    const bool consumer = device().name.starts_with("rtx");
    pcie.peer_access = consumer ? PeerAccess::never : PeerAccess::same_switch;
    note("pcie_p2p", consumer ? "guessed: drivers of GeForce cards allow no peer access"
                              : "not in the file: NCCL's default");
    node().layout = std::move(layout);
    fill_uplinks();
    pcie.gpu_slot = spread(node().layout->gpus, &GpuPlace::slot, "gpu_slot");
    if (!found_.shows_pcie) {
      warn("hidden-pcie",
           "NVLink hides how GPUs share PCIe switches: each is put on a port of its CPU",
           "an NCCL topology dump shows it (NCCL_TOPO_DUMP_FILE)");
      note("layout.gpus", "guessed: NVLink hides which GPUs share a PCIe switch");
    }
  }

  /// Moves a rate that all parts share to the key for all; what is unknown gets the device's.
  template <class Part, class Member>
  BytesPerSecond spread(std::vector<Part>& parts, Member member, const std::string& key) {
    const bool unknown = std::any_of(parts.begin(), parts.end(), [&](const Part& part) {
      return part.*member <= BytesPerSecond{};
    });
    for (Part& part : parts) {
      if (part.*member <= BytesPerSecond{}) {
        part.*member = device().pcie_bandwidth;
      }
    }
    const BytesPerSecond alike = common(parts, member);
    if (alike > BytesPerSecond{}) {
      for (Part& part : parts) {
        part.*member = {};
      }
    }
    note("pcie." + key, unknown ? fmt::format("guessed: the slot of {}", device().name) : "read");
    return alike;
  }

  void fill_uplinks() {
    std::vector<SwitchPlace>& switches = node().layout->switches;
    PcieSpec& pcie = node().pcie;
    if (switches.empty()) {
      pcie.switch_uplink = {};
      return;
    }
    pcie.switch_uplink = spread(switches, &SwitchPlace::uplink, "switch_uplink");
    for (std::size_t i = 0; i < found_.switches.size(); ++i) {
      const FoundSwitch& found = found_.switches[i];
      const bool slow = found.uplink > BytesPerSecond{} && found.uplink < widest_below(i) / 3.0;
      if (slow) {
        note(fmt::format("layout.switches.{}", i), found.note + " (as read; implausible?)");
        ++slow_uplinks_;
      }
    }
    if (slow_uplinks_ > 0) {
      warn("slow-uplink",
           fmt::format("the uplinks of {} are less than a third as wide as a link below them; "
                       "taken as read",
                       slow_uplinks_ == 1 ? "1 PCIe switch"
                                          : fmt::format("{} PCIe switches", slow_uplinks_)),
           "some switches report their management port; correct 'uplink' in the written file");
    }
  }

  /// The widest link that hangs on a switch.
  [[nodiscard]] BytesPerSecond widest_below(std::size_t index) const {
    const Seat here{Seat::Kind::pcie_switch, static_cast<int>(index), std::nullopt};
    BytesPerSecond widest;
    for (const FoundGpu& gpu : found_.gpus) {
      widest = gpu.seat == here ? std::max(widest, gpu.slot) : widest;
    }
    for (const FoundSwitch& below : found_.switches) {
      widest = below.seat == here ? std::max(widest, below.uplink) : widest;
    }
    return widest;
  }

  // --- adapters -------------------------------------------------------------------------------

  void fill_nics() {
    std::vector<NicPlace>& nics = node().layout->nics;
    for (std::size_t i = 0; i < found_.nics.size(); ++i) {
      const FoundNic& found = found_.nics[i];
      NicPlace nic{found.name, found.seat, found.rate, found.slot, false};
      std::string from = "read";
      fill_rate(found, nic, from);
      nics.push_back(nic);
      note(fmt::format("layout.nics.{}", i), found.note);
      rate_notes_.insert(from);
    }
    mark_storage();
    NicSpec& spec = node().nics;
    spec.count = static_cast<int>(nics.size());
    note("nics.count", nics.empty() ? "read: none" : "read");
    if (nics.empty()) {
      return;
    }
    node().pcie.nic_slot = spread(nics, &NicPlace::slot, "nic_slot");
    spec.bandwidth = common(nics, &NicPlace::rate);
    if (spec.bandwidth > BytesPerSecond{}) {
      for (NicPlace& nic : nics) {
        nic.rate = {};
      }
    }
    note("nics.rate", fmt::format("{}", fmt::join(rate_notes_, "; ")));
    spec.gpudirect = std::any_of(found_.nics.begin(), found_.nics.end(),
                                 [](const FoundNic& nic) { return nic.gpudirect; });
    note("nics.gpudirect", "read: gdr of the adapters");
    if (guessed_rates_ > 0) {
      warn("guessed-rate",
           fmt::format("the rate of {} is not in the file: {}", counted(guessed_rates_, "adapter"),
                       fmt::join(rate_notes_, "; ")),
           "--nic-rate '400 Gb/s' if it is another");
    }
  }

  /// The usual adapter of a slot: its name's rate is what its generation carries in 16 lanes, with
  /// some room (100 Gb/s in gen3, 200 in gen4, 400 in gen5).
  void fill_rate(const FoundNic& found, NicPlace& nic, std::string& from) {
    if (options_.nic_rate) {
      nic.rate = *options_.nic_rate;
      from = "given by --nic-rate";
    } else if (nic.rate <= BytesPerSecond{}) {
      if (const int speed = nic_speed_by_pci_id(found.pci_id)) {
        nic.rate = BytesPerSecond::of(speed * 1e6 / 8);
        from = fmt::format("read: PCI id {}", found.pci_id);
        return;
      }
      const BytesPerSecond slot = nic.slot > BytesPerSecond{} ? nic.slot : device().pcie_bandwidth;
      double gigabits = 10.0;
      for (const double usual : {25.0, 50.0, 100.0, 200.0, 400.0, 800.0}) {
        gigabits = usual * 1e9 / 8 < slot.value() ? usual : gigabits;
      }
      nic.rate = BytesPerSecond::of(gigabits * 1e9 / 8);
      from = fmt::format("guessed: {:g} Gb/s is what a slot of {} carries", gigabits,
                         format_rate(slot));
      ++guessed_rates_;
    }
  }

  /// Adapters that no GPU has nearest carry storage or management traffic.
  void mark_storage() {
    std::vector<NicPlace>& nics = node().layout->nics;
    if (nics.empty()) {
      return;
    }
    const auto near = nearest_nics(*node().layout);
    std::size_t count = 0;
    for (std::size_t i = 0; i < nics.size(); ++i) {
      nics[i].storage = !near[i];
      if (nics[i].storage) {
        std::string& text = out_.notes[fmt::format("layout.nics.{}", i)];
        text += "; guessed: for storage, since every GPU has a nearer one";
        ++count;
      }
    }
    if (count > 0) {
      warn("storage-adapters",
           fmt::format("{} of {} taken for storage: every GPU has a nearer one", count,
                       counted(nics.size(), "adapter")),
           "delete 'storage: true' where that is wrong");
    }
  }

  // --- NVLink ---------------------------------------------------------------------------------

  void fill_nvlink() {
    NvlinkSpec& nvlink = node().nvlink;
    nvlink.latency =
        usual_->nvlink.latency > Seconds{} ? usual_->nvlink.latency : Seconds::of(0.3e-6);
    note("nvlink.latency", "guessed: as in the presets");
    if (options_.nvlink) {
      nvlink.wiring = *options_.nvlink;
      nvlink.links_per_pair =
          node().gpus > 1 ? std::max(1, device().nvlink_links / (node().gpus - 1)) : 1;
      note("nvlink.wiring", "given by --nvlink");
    } else if (!found_.shows_nvlink) {
      guess_nvlink();
    } else if (std::any_of(found_.gpus.begin(), found_.gpus.end(),
                           [](const FoundGpu& gpu) { return gpu.switch_links > 0; })) {
      take_switch();
    } else {
      take_pairs();
    }
    nvlink.domain_nodes = nvlink.wiring == NvlinkWiring::switched ? found_.hosts : 1;
    out_.spec.nodes = nvlink.domain_nodes;
    note("nvlink.domain_nodes", "read: hosts in the file");
    note("nodes", "read: hosts in the file");
  }

  /// A file that holds the PCI tree only. Eight SXM GPUs since Ampere are joined by NVSwitches.
  void guess_nvlink() {
    const bool sxm = device().nvlink_links > 0 && device().name.find("pcie") == std::string::npos;
    const bool switched = sxm && device().architecture != "volta" && node().gpus == 8;
    node().nvlink.wiring = switched ? NvlinkWiring::switched : NvlinkWiring::none;
    if (device().nvlink_links == 0) {
      note("nvlink.wiring", fmt::format("{} has no NVLink", device().name));
      return;
    }
    note("nvlink.wiring", switched ? "guessed: the file does not show NVLink; 8 such GPUs in a "
                                     "machine are joined by NVSwitches"
                                   : "guessed: the file does not show NVLink");
    warn(
        "guessed-nvlink",
        fmt::format("the file does not show NVLink: {}",
                    switched ? "all GPUs are taken to be on NVSwitches" : "none is taken to exist"),
        "--nvlink switch, mesh, pairs or none says what there is");
  }

  void take_switch() {
    int least = found_.gpus.front().switch_links;
    bool even = true;
    for (const FoundGpu& gpu : found_.gpus) {
      even = even && gpu.switch_links == least;
      least = std::min(least, gpu.switch_links);
    }
    if (least == 0) {
      diagnostics_.error(found_.gpus.front().place, "uneven-nvlink",
                         "some GPUs have links to NVSwitches and some have none",
                         "is the dump complete? --nvlink says how the GPUs are joined");
      return;
    }
    if (!even) {
      warn("uneven-nvlink",
           fmt::format("the GPUs have different numbers of links to the NVSwitches; "
                       "the smallest, {}, is taken for all",
                       least));
    }
    if (!found_.nvlinks.empty()) {
      warn("mixed-nvlink", "direct NVLinks beside NVSwitches are left out");
    }
    set_switched(least);
  }

  void set_switched(int links) {
    node().nvlink.wiring = NvlinkWiring::switched;
    node().nvlink.links_per_gpu = links == device().nvlink_links ? 0 : links;
    note("nvlink.wiring", fmt::format("read: {} links per GPU to NVSwitches", links));
    note("nvlink.links_per_gpu",
         fmt::format("read; {} has {}", device().name, device().nvlink_links));
  }

  void take_pairs() {
    NvlinkSpec& nvlink = node().nvlink;
    const int gpus = node().gpus;
    if (found_.nvlinks.empty()) {
      note("nvlink.wiring", "read: none");
      if (device().nvlink_links > 0) {
        warn("no-nvlink", fmt::format("{} has NVLink, but the file shows none", device().name),
             "topo -mp hides it (-m shows it); --nvlink says how the GPUs are joined");
      }
      return;
    }
    const int links = found_.nvlinks.begin()->second;
    const bool alike = std::all_of(found_.nvlinks.begin(), found_.nvlinks.end(),
                                   [&](const auto& pair) { return pair.second == links; });
    const bool complete =
        alike && found_.nvlinks.size() == static_cast<std::size_t>(gpus * (gpus - 1) / 2);
    if (complete && gpus > 2 && links * (gpus - 1) > device().nvlink_links) {
      // More than direct links could be: the number is that of each GPU's links to a switch.
      return set_switched(links);
    }
    if (complete && gpus > 1) {
      nvlink.wiring = NvlinkWiring::mesh;
      nvlink.links_per_pair = links;
      note("nvlink.wiring", "read");
      note("nvlink.links_per_pair", "read");
      return;
    }
    nvlink.wiring = NvlinkWiring::listed;
    for (const auto& [ends, count] : found_.nvlinks) {
      nvlink.listed.push_back({ends.first, ends.second, count});
    }
    note("nvlink.wiring", "read");
  }

  void name_it() {
    out_.spec.name = options_.name;
    node().name = options_.name;
    node().title = fmt::format("{} x {}, imported", node().gpus, device().title);
    out_.heading = {fmt::format("Imported from {} ({}).", found_.whole.source->name, found_.format),
                    "Behind each value: read from the file, or guessed from what.",
                    "Format: topologies/README.md."};
  }

  const FoundNode& found_;
  const ImportOptions& options_;
  Diagnostics& diagnostics_;
  FileStack files_;
  std::optional<NodeSpec> usual_;
  ImportedCluster out_;
  std::set<std::string> rate_notes_;
  std::size_t guessed_rates_ = 0;
  std::size_t slow_uplinks_ = 0;
};

}  // namespace

std::optional<ImportedCluster> finish_import(const FoundNode& node, const ImportOptions& options,
                                             Diagnostics& diagnostics) {
  return Finish(node, options, diagnostics).finish();
}

}  // namespace longhaul
