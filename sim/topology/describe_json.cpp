// A cluster as values for programs: the same facts as the text.
#include "sim/topology/cluster_spec.h"
#include "sim/topology/describe.h"

namespace longhaul {

namespace {

JsonValue rate_or_null(const std::optional<BytesPerSecond>& rate) {
  return rate ? JsonValue(rate->value()) : JsonValue();
}

const char* kind_of(LinkKind kind) {
  switch (kind) {
    case LinkKind::nvlink: return "nvlink";
    case LinkKind::pcie: return "pcie";
    case LinkKind::cpu_bus: return "cpu_bus";
    case LinkKind::network: return "network";
    case LinkKind::c2c: return "c2c";
    case LinkKind::host_memory: break;
  }
  return "host_memory";
}

JsonValue link_json(const Link& link) {
  return JsonValue::object()
      .set("kind", kind_of(link.kind))
      .set("from", link.from)
      .set("to", link.to)
      .set("bytes_per_second", link.bandwidth.value())
      .set("latency_s", link.latency.value());
}

JsonValue node_json(const Cluster& cluster) {
  const NodeSpec& node = cluster.spec().node;
  return JsonValue::object()
      .set("name", node.name)
      .set("device", node.device.name)
      .set("gpus", node.gpus)
      .set("sockets", node.host.sockets)
      .set("pcie_switches", node.pcie.switches)
      .set("gpus_per_switch", cluster.gpus_per_switch())
      .set("nics", node.nics.count)
      .set("rails", rails(node))
      .set("rail_bytes_per_second", rail_bandwidth(node).value());
}

JsonValue summary_json(const Cluster& cluster) {
  JsonValue list = JsonValue::array();
  for (const LinkSummary& sum : summarize_links(cluster)) {
    list.push(JsonValue::object()
                  .set("kind", sum.kind)
                  .set("count", sum.count)
                  .set("slowest_bytes_per_second", sum.slowest.value())
                  .set("fastest_bytes_per_second", sum.fastest.value())
                  .set("total_bytes_per_second", sum.total.value()));
  }
  return list;
}

/// Rows of node 0: name, bandwidth and latency of every path.
JsonValue matrix_json(const Cluster& cluster) {
  JsonValue rows = JsonValue::array();
  const auto count = static_cast<std::size_t>(cluster.gpus_per_node());
  constexpr std::size_t widest = 64;
  for (std::size_t from = 0; from < count && count <= widest; ++from) {
    JsonValue row = JsonValue::array();
    for (std::size_t to = 0; to < count; ++to) {
      const Route& route = cluster.route(GpuId(from), GpuId(to));
      JsonValue cell = JsonValue::object().set("path", cluster.path_name(GpuId(from), GpuId(to)));
      if (from != to) {
        cell.set("bytes_per_second", cluster.bandwidth(route).value())
            .set("latency_s", route.latency.value())
            .set("peer_access", cluster.has_peer_access(GpuId(from), GpuId(to)));
      }
      row.push(std::move(cell));
    }
    rows.push(std::move(row));
  }
  return rows;
}

}  // namespace

JsonValue cluster_json(const Cluster& cluster) {
  const Bisections bisections = find_bisections(cluster);
  JsonValue json = JsonValue::object()
                       .set("name", cluster.name())
                       .set("gpus", cluster.gpu_count())
                       .set("nodes", cluster.node_count())
                       .set("nvlink_domain_size", cluster.nvlink_domain_size())
                       .set("transport", cluster.transport())
                       .set("node", node_json(cluster))
                       .set("links", cluster.links().size())
                       .set("links_by_kind", summary_json(cluster))
                       .set("matrix_of_node", matrix_json(cluster))
                       .set("bisection", JsonValue::object()
                                             .set("node", rate_or_null(bisections.node))
                                             .set("nvlink_domain", rate_or_null(bisections.domain))
                                             .set("fabric", rate_or_null(bisections.fabric))
                                             .set("cluster", rate_or_null(bisections.cluster)));
  if (cluster.links().size() <= json_link_limit) {
    JsonValue links = JsonValue::array();
    for (const Link& link : cluster.links()) {
      links.push(link_json(link));
    }
    json.set("all_links", std::move(links));
  }
  return json;
}

JsonValue path_json(const Cluster& cluster, GpuId from, GpuId to) {
  const Route& route = cluster.route(from, to);
  JsonValue links = JsonValue::array();
  for (const LinkId id : route.links) {
    links.push(link_json(cluster.links()[id.index]));
  }
  JsonValue json = JsonValue::object()
                       .set("from", from.index)
                       .set("to", to.index)
                       .set("path", cluster.path_name(from, to))
                       .set("class", format_path_class(route.path_class))
                       .set("network_hops", route.network_hops)
                       .set("latency_s", route.latency.value());
  if (!route.links.empty()) {
    json.set("bytes_per_second", cluster.bandwidth(route).value());
  }
  return json.set("links", std::move(links));
}

}  // namespace longhaul
