// longhaul topology show and check.
#include "sim/cli/topology_words.h"
#include "sim/topology/describe.h"

namespace longhaul {

namespace {

ClusterSize size_of(const TopologyFlags& flags) {
  return flags.gpus.empty() ? ClusterSize{} : ClusterSize{whole_number("--gpus", flags.gpus, 1)};
}

}  // namespace

Outcome show_topology(const std::string& word, const TopologyFlags& flags, Session& session) {
  const Cluster cluster = open_cluster(word, size_of(flags), session);
  Outcome out;
  out.text = flags.dot ? cluster_to_dot(cluster) : describe_cluster(cluster);
  out.json = JsonValue::object()
                 .set("name", cluster.name())
                 .set("gpus", cluster.gpu_count())
                 .set("nodes", cluster.node_count())
                 .set("links", cluster.links().size())
                 .set(flags.dot ? "dot" : "description", out.text);
  return out;
}

Outcome check_topology(const std::vector<std::string>& files, const TopologyFlags& flags,
                       Session& session) {
  Outcome out;
  for (const std::string& file : files) {
    open_cluster(file, size_of(flags), session);
    out.text += file + ": sound\n";
  }
  return out;
}

}  // namespace longhaul
