#include "sim/cost/collective_table.h"

#include <algorithm>
#include <cmath>

#include "sim/topology/cluster_spec.h"

namespace longhaul {

namespace {

// NICs are the same if their rates per GPU agree to a per cent: 400 Gb/s is 50 GB/s.
bool same_nics(const CollectiveTable& table, const Cluster& cluster) {
  const NodeSpec& node = cluster.spec().node;
  const double rate = node.nics.count * node.nics.bandwidth.value() / node.gpus;
  return table.nic_rate <= BytesPerSecond() || std::abs(rate / table.nic_rate.value() - 1.0) < 0.01;
}

}  // namespace

const CollectiveTable* find_table(const TransportProfile& profile, const Cluster& cluster,
                                  const Placement& placement, CollectiveKind kind) {
  for (const CollectiveTable& table : profile.tables) {
    const bool device = std::find(table.devices.begin(), table.devices.end(),
                                  cluster.device().name) != table.devices.end();
    const bool shape = table.gpus == placement.gpus && table.nodes == placement.node_count() &&
                       table.gpus_per_node == placement.per_node() && placement.even;
    const bool fabric = table.nodes == 1 || (table.fabric == cluster.spec().fabric.technology &&
                                             same_nics(table, cluster));
    if (table.kind == kind && device && shape && fabric) {
      return &table;
    }
  }
  return nullptr;
}

Seconds table_time(const CollectiveTable& table, Bytes bytes) {
  const auto& points = table.points;
  if (bytes <= points.front().bytes) {
    return points.front().time;
  }
  if (bytes > points.back().bytes) {
    const TablePoint& last = points.back();
    const TablePoint& before = points[points.size() - 2];
    const Seconds rise = last.time - before.time;
    // Flat at the end: at least the bandwidth of the last point itself.
    const double slope =
        std::max(rise / (last.bytes - before.bytes), Seconds() / Bytes::of(1.0)).value();
    return last.time + Seconds::of(slope * (bytes - last.bytes).value());
  }
  const auto above =
      std::lower_bound(points.begin(), points.end(), bytes,
                       [](const TablePoint& point, Bytes wanted) { return point.bytes < wanted; });
  const TablePoint& high = *above;
  const TablePoint& low = *(above - 1);
  const double place = std::log(bytes / low.bytes) / std::log(high.bytes / low.bytes);
  return Seconds::of(low.time.value() * std::pow(high.time / low.time, place));
}

}  // namespace longhaul
