#include "sim/validation/sweep_machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/input/json.h"
#include "sim/topology/hardware_map.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// "a100" in "a100-sxm4-40gb", but not in "rtx a1000".
bool names_gpu(const std::string& words, const std::string& name) {
  const std::size_t at = words.find(name);
  const std::size_t end = at + name.size();
  return at != std::string::npos && (end >= words.size() || words[end] < '0' || words[end] > '9');
}

/// GPUs by name, the longest names first: GH200 is not H200.
struct DeviceRule {
  const char* name;
  const char* also;  ///< another word that must be there; empty: none
  const char* device;
  const char* note;
};
constexpr DeviceRule device_rules[] = {
    {"gb300", "", "gb300", ""},
    {"gb200", "", "gb200", ""},
    {"gh200", "", "gh200", ""},
    {"b300", "", "b300", ""},
    {"b200", "", "b200", ""},
    {"h200", "nvl", "", ""},
    {"h200", "", "h200-sxm", ""},
    {"h100", "pcie", "", ""},
    {"h100", "nvl", "", ""},
    {"h100", "80", "h100-sxm-80gb", ""},
    {"h100", "96", "h100-sxm-96gb", ""},
    {"h100", "", "h100-sxm-80gb", "H100 of unsaid memory: SXM with 80 GB assumed"},
    {"h800", "pcie", "", ""},
    {"h800", "", "h800-sxm-80gb", ""},
    {"a100", "pci", "a100-pcie-80gb", "A100 PCIe: 80 GB assumed"},
    {"a100", "40", "a100-sxm-40gb", ""},
    {"a100", "80", "a100-sxm-80gb", ""},
    {"a100", "", "a100-sxm-80gb", "A100 of unsaid memory: SXM with 80 GB assumed"},
    {"a800", "pci", "", ""},
    {"a800", "", "a800-sxm-80gb", ""},
    {"v100", "16", "", ""},
    {"v100", "sxm", "v100-sxm-32gb", "V100 SXM: 32 GB assumed"},
    {"l40s", "", "l40s", ""},
    {"l20", "", "l20", ""},
    {"rtx 4090", "", "rtx4090", ""},
};

/// Machines by name: presets.
struct PresetRule {
  const char* word;
  const char* gpu;
  const char* preset;
};
constexpr PresetRule preset_rules[] = {
    {"polaris", "a100", "polaris"},     {"alps", "gh200", "alps-gh200"},
    {"cscs", "gh200", "alps-gh200"},    {"p4de", "a100", "aws-p4de"},
    {"p4d", "a100", "aws-p4d"},         {"p5.48xlarge", "h100", "aws-p5"},
    {"a3-mega", "h100", "gcp-a3-mega"}, {"a3-ultra", "h200", "gcp-a3-ultra"},
    {"", "gb200", "gb200-nvl72"},       {"", "gb300", "gb300-nvl72"},
};

/// Usual servers of GPUs without NVLink.
constexpr std::pair<const char*, const char*> pcie_presets[] = {{"rtx4090", "rtx4090-pcie"},
                                                                {"l40s", "l40s-pcie"},
                                                                {"l20", "l20-pcie"},
                                                                {"a100-pcie-80gb", "a100-pcie"}};

/// A machine in YAML, as a user would write it.
struct Guess {
  std::string yaml;
  bool hardware = false;
  std::vector<std::string> notes;
  std::string skip_reason;
};

const PresetRule* find_preset(const Sweep& sweep) {
  const std::string gpu = lower(sweep.gpu);
  const std::string words = lower(sweep.platform);
  for (const PresetRule& rule : preset_rules) {
    const bool named = contains(gpu, rule.gpu) && contains(words, rule.word);
    if (named) {
      return &rule;
    }
  }
  return nullptr;
}

// The number right before `suffix` ("8x", "200G") or right after it ("HDR200"); 0: none.
int number_before(const std::string& words, char suffix) {
  for (std::size_t at = words.find(suffix); at != std::string::npos;
       at = words.find(suffix, at + 1)) {
    std::size_t first = at;
    while (first > 0 && words[first - 1] >= '0' && words[first - 1] <= '9') {
      --first;
    }
    const auto parsed = parse_integer(words.substr(first, at - first));
    if (first < at && parsed.ok() && parsed.value <= 4096) {
      return static_cast<int>(parsed.value);
    }
  }
  return 0;
}

int nic_gigabits(const std::string& words) {
  constexpr std::pair<const char*, int> generations[] = {
      {"edr", 100}, {"hdr", 200}, {"ndr", 400}, {"xdr", 800}};
  for (const auto& [name, rate] : generations) {
    if (contains(words, name)) {
      return contains(words, "ndr200") ? 200 : contains(words, "hdr100") ? 100 : rate;
    }
  }
  return number_before(words, 'g');
}

// The fabric part of a hardware map; empty with a skip_reason if the words do not tell.
std::string fabric_part(const Sweep& sweep, Guess& guess) {
  if (sweep.nodes == 1) {
    return ", fabric: none";
  }
  const std::string words = lower(sweep.inter);
  const char* fabric = contains(words, "efa")    ? "efa"
                       : contains(words, "roce") ? "roce"
                       : contains(words, "infiniband") || contains(words, "hdr") ||
                               contains(words, "ndr") || contains(words, "ib ")
                           ? "infiniband"
                           : nullptr;
  if (fabric == nullptr) {
    guess.skip_reason = sweep.inter.empty()
                            ? "nothing says what joins its nodes: give --cluster"
                            : "no fabric is known as '" + sweep.inter + "': give --cluster";
    return {};
  }
  std::string part = fmt::format(", fabric: {}", fabric);
  const int count = number_before(words, 'x');
  const int rate = nic_gigabits(words);
  if (count > 0) {
    part += fmt::format(", nics_per_node: {}", count);
  } else {
    guess.notes.push_back("number of adapters not said: the usual server's");
  }
  if (rate > 0) {
    part += fmt::format(", nic_rate: {} Gb/s", rate);
  } else {
    guess.notes.push_back("rate of adapters not said: the usual server's");
  }
  return part;
}

// GPUs of a host joined by NVLink: a switch between 8, or a mesh of 4.
std::string nvlink_part(const Sweep& sweep, Guess& guess) {
  const std::string words = lower(sweep.intra);
  if (contains(words, "mesh")) {
    return ", gpus_per_node: 4, intra_node: nvlink_mesh";
  }
  if (!contains(words, "nvswitch") && sweep.gpus_per_node > 1) {
    guess.notes.push_back("how its GPUs are joined is not said: NVSwitch between 8 assumed");
  }
  return ", gpus_per_node: 8, intra_node: nvswitch";
}

bool has_nvlink(const std::string& device) {
  return std::none_of(std::begin(pcie_presets), std::end(pcie_presets),
                      [&](const auto& entry) { return device == entry.first; });
}

Guess guess_pcie(const Sweep& sweep, const std::string& device) {
  Guess guess;
  for (const auto& [name, preset] : pcie_presets) {
    if (device == name && sweep.nodes == 1) {
      guess.yaml = preset;
      guess.notes.push_back("wiring of the host taken from the preset");
      return guess;
    }
  }
  guess.skip_reason = "PCIe servers over several nodes are not guessed: give --cluster";
  return guess;
}

Guess guess_by_words(const Sweep& sweep) {
  Guess guess;
  const std::string device = device_of(sweep.gpu, guess.notes);
  if (device.empty()) {
    guess.skip_reason = "no device preset for '" + sweep.gpu + "': give --cluster";
    return guess;
  }
  if (!has_nvlink(device) || contains(lower(sweep.intra), "pcie")) {
    return has_nvlink(device) ? Guess{"", false, {}, "'" + sweep.intra + "': give --cluster"}
                              : guess_pcie(sweep, device);
  }
  const std::string fabric = fabric_part(sweep, guess);
  guess.hardware = true;
  guess.yaml = fmt::format("{{device: {}, gpus: {}{}{}}}", device, sweep.gpus,
                           nvlink_part(sweep, guess), fabric);
  return guess;
}

// Adapters that are reached through the CPU, as far as a preset can say it.
bool is_unaligned(const Sweep& sweep) {
  const std::string words = lower(sweep.inter + " " + sweep.platform);
  return contains(words, "not aligned") || contains(words, "without gdr") ||
         contains(words, "no gdr");
}

// The usual server of the device, with its adapters behind the CPU, or without GPUDirect.
Guess guess_unaligned(const Sweep& sweep) {
  Guess guess;
  const std::string device = device_of(sweep.gpu, guess.notes);
  const char* node = device == "h100-sxm-80gb" ? "dgx-h100"
                     : device == "h200-sxm"    ? "hgx-h200"
                                               : nullptr;
  if (node == nullptr || !contains(lower(sweep.inter), "roce")) {
    guess.skip_reason = "GPU and adapter are apart: give --cluster";
    return guess;
  }
  const bool apart = contains(lower(sweep.inter), "not aligned");
  guess.yaml = fmt::format("{{node: {{include: {}, {}}}, fabric: roce-rails}}", node,
                           apart ? "pcie: {switches: 0}" : "nics: {gpudirect: false}");
  guess.notes.emplace_back(apart ? "adapters behind the CPU, of 400 Gb/s"
                                 : "adapters of 400 Gb/s without GPUDirect");
  return guess;
}

Guess guess_machine(const Sweep& sweep) {
  if (sweep.nodes > 1 && is_unaligned(sweep)) {
    return guess_unaligned(sweep);
  }
  if (const PresetRule* preset = find_preset(sweep)) {
    return {preset->preset, false, {}, ""};
  }
  return guess_by_words(sweep);
}

std::optional<Cluster> read_named(const YamlValue& value, ClusterSize size,
                                  Diagnostics& diagnostics) {
  return value.is_scalar() ? find_cluster(value.scalar(), size, value.place(), diagnostics)
                           : read_cluster(value, size, diagnostics);
}

// Clusters grow in whole nodes, whose size is known only once one is read.
std::optional<Cluster> read_sized(const YamlValue& value, const Sweep& sweep,
                                  Diagnostics& diagnostics) {
  const auto small = read_named(value, {}, diagnostics);
  if (!small) {
    return std::nullopt;
  }
  const std::int64_t wanted = static_cast<std::int64_t>(small->gpus_per_node()) * sweep.nodes;
  return small->gpu_count() >= wanted ? small : read_named(value, ClusterSize{wanted}, diagnostics);
}

std::optional<YamlValue> parse_text(const std::string& text, const char* name,
                                    Diagnostics& diagnostics) {
  auto source = std::make_shared<SourceText>();
  source->name = name;
  source->text = text;
  return YamlValue::parse(source, diagnostics);
}

std::string first_error(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    if (diagnostic.severity == Severity::error) {
      return diagnostic.message;
    }
  }
  return "its machine cannot be built";
}

void read_guess(const Sweep& sweep, SweepMachine& machine) {
  Guess guess = guess_machine(sweep);
  machine.skip_reason = guess.skip_reason;
  if (!guess.skip_reason.empty()) {
    return;
  }
  Diagnostics own;
  const auto value = parse_text(guess.yaml, "<guessed machine>", own);
  if (value) {
    machine.cluster =
        guess.hardware ? cluster_from_hardware(*value, own) : read_sized(*value, sweep, own);
  }
  machine.description = guess.yaml;
  machine.notes = std::move(guess.notes);
  machine.notes.insert(machine.notes.begin(), "machine guessed from words: " + guess.yaml);
  if (!machine.cluster) {
    machine.skip_reason = first_error(own);
  }
}

void read_given(const Sweep& sweep, const YamlValue& value, bool hardware, SweepMachine& machine,
                Diagnostics& diagnostics) {
  machine.cluster =
      hardware ? cluster_from_hardware(value, diagnostics) : read_sized(value, sweep, diagnostics);
  if (!machine.cluster) {
    machine.skip_reason = "its machine has errors";
    return;
  }
  machine.description = machine.cluster->name();
  std::vector<std::string> notes;
  const std::string device = device_of(sweep.gpu, notes);
  if (!device.empty() && notes.empty() && device != machine.cluster->device().name) {
    machine.notes.push_back(fmt::format("measured on '{}', predicted on {}", sweep.gpu,
                                        machine.cluster->device().name));
  }
}

void choose_members(const Sweep& sweep, SweepMachine& machine) {
  const Cluster& cluster = *machine.cluster;
  if (cluster.gpus_per_node() < sweep.gpus_per_node || cluster.node_count() < sweep.nodes) {
    machine.skip_reason =
        fmt::format("nodes x GPUs are {} x {}, but the cluster has {} x {}", sweep.nodes,
                    sweep.gpus_per_node, cluster.node_count(), cluster.gpus_per_node());
    machine.cluster.reset();
    return;
  }
  for (int node = 0; node < sweep.nodes; ++node) {
    for (int gpu = 0; gpu < sweep.gpus_per_node; ++gpu) {
      machine.gpus.emplace_back(static_cast<std::size_t>(node * cluster.gpus_per_node() + gpu));
    }
  }
}

}  // namespace

std::string device_of(const std::string& words, std::vector<std::string>& notes) {
  const std::string gpu = lower(words);
  for (const DeviceRule& rule : device_rules) {
    if (names_gpu(gpu, rule.name) && contains(gpu, rule.also)) {
      if (*rule.note != '\0') {
        notes.emplace_back(rule.note);
      }
      return rule.device;
    }
  }
  return {};
}

SweepMachine machine_of(const Sweep& sweep, const std::string& cluster, Diagnostics& diagnostics) {
  SweepMachine machine;
  if (sweep.cluster) {
    read_given(sweep, *sweep.cluster, false, machine, diagnostics);
  } else if (sweep.hardware) {
    read_given(sweep, *sweep.hardware, true, machine, diagnostics);
  } else if (!cluster.empty()) {
    if (const auto value =
            parse_text("cluster: " + json_quote(cluster), "<command line>", diagnostics)) {
      read_given(sweep, value->find("cluster").value_or(*value), false, machine, diagnostics);
    }
  } else {
    read_guess(sweep, machine);
  }
  if (machine.cluster) {
    choose_members(sweep, machine);
  }
  return machine;
}

}  // namespace longhaul
