#include "sim/topology/import.h"

#include <fmt/format.h>

#include <filesystem>

#include "sim/input/yaml.h"
#include "sim/topology/import_node.h"
#include "sim/topology/smi_matrix.h"

namespace longhaul {

namespace {

/// The part of a text in which formats show themselves.
constexpr std::size_t opening = 1 << 16;

bool contains(const std::string& text, const char* word) {
  return text.find(word) != std::string::npos;
}

bool is_our_yaml(const SourceText& source) {
  Diagnostics unheard;  // who reads the file for good says what is wrong with it
  const auto map = YamlValue::parse(std::make_shared<const SourceText>(source), unheard);
  return map && map->is_map() &&
         (map->find("node") || map->find("device") || map->find("include") || map->find("fabric"));
}

/// "topo/my node.xml" -> "my-node".
std::string name_from(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  for (char& c : name) {
    const bool fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '_' || c == '.';
    c = fine ? c : '-';
  }
  return name.empty() ? "imported" : name;
}

}  // namespace

TopologyFormat detect_topology_format(const SourceText& source) {
  const std::string head = source.text.substr(0, opening);
  const std::size_t first = head.find_first_not_of(" \t\r\n");
  if (first != head.npos && head[first] == '<') {
    return contains(head, "<graphs") ? TopologyFormat::nccl_graph : TopologyFormat::nccl_xml;
  }
  if (has_smi_header(source)) {
    return TopologyFormat::smi_topo;
  }
  const bool table = contains(head, "busbw") && contains(head, "algbw");
  const bool json = contains(head, "\"nccl_version\"") || contains(head, "\"out_of_place\"");
  if (table || json || contains(head, "# nThread")) {
    return TopologyFormat::nccl_tests;
  }
  return is_our_yaml(source) ? TopologyFormat::cluster_yaml : TopologyFormat::unknown;
}

std::optional<ImportedCluster> import_topology(const SourcePtr& source, TopologyFormat format,
                                               const ImportOptions& options,
                                               Diagnostics& diagnostics) {
  Diagnostics own;
  const std::optional<FoundNode> found = format == TopologyFormat::nccl_xml
                                             ? import_nccl_xml(source, own)
                                             : import_smi_topo(source, own);
  std::optional<ImportedCluster> cluster;
  if (found && !own.has_errors()) {
    ImportOptions named = options;
    named.name = options.name.empty() ? name_from(source->name) : options.name;
    cluster = finish_import(*found, named, own);
  }
  diagnostics.append(own);
  return cluster;
}

}  // namespace longhaul
