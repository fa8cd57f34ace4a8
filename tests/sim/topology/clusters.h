// What the tests of topologies share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/input/yaml.h"
#include "sim/topology/cluster_spec.h"
#include "sim/topology/read_cluster.h"
#include "sim/units/check.h"

namespace longhaul::testing {

inline YamlValue parse_yaml(const std::string& text) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"test.yaml", text});
  const auto value = YamlValue::parse(source, diagnostics);
  diagnostics.throw_if_errors();
  return *value;
}

inline Cluster preset(const std::string& name, std::int64_t gpus) {
  Diagnostics diagnostics;
  auto cluster = find_cluster(name, ClusterSize{gpus}, Place{}, diagnostics);
  diagnostics.throw_if_errors();
  return *cluster;
}

/// A cluster from text that must be right.
inline Cluster from_text(const std::string& text) {
  Diagnostics diagnostics;
  auto cluster = read_cluster(parse_yaml(text), {}, diagnostics);
  diagnostics.throw_if_errors();
  return *cluster;
}

/// The vertices of a route, in order, joined by spaces.
inline std::string names(const Cluster& cluster, const Route& route) {
  std::string text;
  for (const LinkId id : route.links) {
    const Link& link = cluster.links()[id.index];
    text += (text.empty() ? link.from : "") + " " + link.to;
  }
  return text;
}

inline std::string route_names(const Cluster& cluster, std::size_t from, std::size_t to) {
  return names(cluster, cluster.route(GpuId(from), GpuId(to)));
}

/// The route's slowest link in GB/s.
inline double gigabytes(const Cluster& cluster, std::size_t from, std::size_t to) {
  return cluster.bandwidth(cluster.route(GpuId(from), GpuId(to))).value() / 1e9;
}

inline PathClass path_class(const Cluster& cluster, std::size_t from, std::size_t to) {
  return cluster.route(GpuId(from), GpuId(to)).path_class;
}

inline const Link& link_between(const Cluster& cluster, const std::string& from,
                                const std::string& to) {
  for (const Link& link : cluster.links()) {
    if (link.from == from && link.to == to) {
      return link;
    }
  }
  throw BugError("no link " + from + " -> " + to);
}

}  // namespace longhaul::testing
