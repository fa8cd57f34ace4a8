// longhaul topology show and check.
#include <fmt/format.h>

#include "sim/cli/topology_words.h"
#include "sim/topology/describe.h"
#include "sim/topology/import.h"
#include "sim/topology/oddities.h"

namespace longhaul {

namespace {

ClusterSize size_of(const TopologyFlags& flags) {
  return flags.gpus.empty() ? ClusterSize{} : ClusterSize{whole_number("--gpus", flags.gpus, 1)};
}

/// A GPU of the cluster by its number.
GpuId gpu_of(const std::string& flag, const std::string& text, const Cluster& cluster) {
  const std::int64_t number = whole_number(flag, text, 0);
  if (number >= cluster.gpu_count()) {
    fail_usage(
        fmt::format("{} {}: the cluster has GPUs 0 to {}", flag, number, cluster.gpu_count() - 1),
        "--gpus grows a cluster that has no fixed size");
  }
  return GpuId(static_cast<std::size_t>(number));
}

void refuse_large_picture(const Cluster& cluster) {
  if (cluster.links().size() > dot_link_limit) {
    fail_usage(fmt::format("a picture of {} links is of no use; the limit is {}",
                           cluster.links().size(), dot_link_limit),
               "draw a part: --gpus 16 shows how nodes and switches are joined");
  }
}

/// A machine's own file is imported first.
Cluster open_any(const std::string& word, const TopologyFlags& flags, Session& session) {
  Diagnostics unheard;  // a name that is no file is a preset
  const bool path = word.find_first_of("/.") != word.npos;
  const auto source = path ? read_source(word, unheard) : std::nullopt;
  const TopologyFormat format =
      source ? detect_topology_format(**source) : TopologyFormat::cluster_yaml;
  if (format == TopologyFormat::cluster_yaml || !source) {
    return open_cluster(word, size_of(flags), session);
  }
  return build_cluster(import_source(*source, word, flags, session).spec);
}

}  // namespace

Outcome show_topology(const std::string& word, const TopologyFlags& flags, Session& session) {
  const Cluster cluster = open_cluster(word, size_of(flags), session);
  Outcome out;
  if (!flags.from.empty() || !flags.to.empty()) {
    if (flags.from.empty() || flags.to.empty()) {
      fail_usage("a path needs --from GPU and --to GPU");
    }
    const GpuId from = gpu_of("--from", flags.from, cluster);
    const GpuId to = gpu_of("--to", flags.to, cluster);
    out.text = describe_path(cluster, from, to);
    out.json = path_json(cluster, from, to);
    return out;
  }
  if (flags.dot) {
    refuse_large_picture(cluster);
  }
  out.text = flags.dot ? cluster_to_dot(cluster) : describe_cluster(cluster);
  if (session.json) {
    out.json = cluster_json(cluster);
    out.json.set(flags.dot ? "dot" : "description", out.text);
  }
  return out;
}

Outcome check_topology(const std::vector<std::string>& files, const TopologyFlags& flags,
                       Session& session) {
  Outcome out;
  JsonValue list = JsonValue::array();
  Diagnostics wrong;
  for (const std::string& file : files) {
    try {
      const Cluster cluster = open_any(file, flags, session);
      const std::vector<Oddity> oddities = find_oddities(cluster);
      JsonValue found = JsonValue::array();
      out.text += fmt::format("{}: {} GPUs, {}\n", file, cluster.gpu_count(),
                              oddities.empty() ? "nothing odd" : "odd:");
      for (const Oddity& oddity : oddities) {
        out.text += fmt::format("  {}: {}\n      {}\n", oddity.code, oddity.message, oddity.help);
        found.push(JsonValue::object()
                       .set("code", oddity.code)
                       .set("message", oddity.message)
                       .set("help", oddity.help));
      }
      out.exit_code = oddities.empty() ? out.exit_code : exit_code::answer_is_no;
      list.push(JsonValue::object()
                    .set("file", file)
                    .set("gpus", cluster.gpu_count())
                    .set("oddities", std::move(found)));
    } catch (const InputError& error) {
      wrong.append(error.diagnostics());
      session.diagnostics = {};
    }
  }
  wrong.throw_if_errors();
  out.json = JsonValue::object().set("files", std::move(list));
  return out;
}

}  // namespace longhaul
