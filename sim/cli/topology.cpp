// longhaul topology show: a cluster's wiring in words, or as a graph for Graphviz.
#include "sim/cli/command.h"
#include "sim/topology/describe.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

class Topology : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "topology"; }
  [[nodiscard]] std::string summary() const override {
    return "topology show CLUSTER: how its GPUs are wired, and the routes between them";
  }
  void declare(CLI::App& app) override {
    app.add_option("words", words_, "show CLUSTER (a preset or a file)")->type_name("");
    app.add_option("--gpus", gpus_, "GPUs of a cluster that grows")->type_name("VALUE");
    app.add_flag("--dot", dot_, "a graph for Graphviz instead of words");
  }
  Outcome run(Session& session) override;

 private:
  ClusterSize size() const;
  std::vector<std::string> words_;
  std::string gpus_;
  bool dot_ = false;
};

ClusterSize Topology::size() const {
  if (gpus_.empty()) {
    return {};
  }
  const Parsed<std::int64_t> parsed = parse_integer(gpus_);
  if (!parsed.ok() || parsed.value < 1) {
    fail_usage("--gpus wants a whole number of at least 1, got '" + gpus_ + "'");
  }
  return {parsed.value};
}

Outcome Topology::run(Session& session) {
  const char* example = "for example: longhaul topology show dgx-h100 --gpus 16";
  if (words_.empty() || words_[0] != "show") {
    fail_usage("topology knows one word: show", example);
  }
  if (words_.size() != 2) {
    fail_usage("topology show takes one cluster", example);
  }
  const auto source = std::make_shared<const SourceText>(SourceText{"CLUSTER " + words_[1], ""});
  const auto cluster = find_cluster(words_[1], size(), {source, 0, 0, 1}, session.diagnostics);
  session.diagnostics.throw_if_errors();
  Outcome out;
  out.text = dot_ ? cluster_to_dot(*cluster) : describe_cluster(*cluster);
  out.json = JsonValue::object()
                 .set("name", cluster->name())
                 .set("gpus", cluster->gpu_count())
                 .set("nodes", cluster->node_count())
                 .set("links", cluster->links().size())
                 .set(dot_ ? "dot" : "description", out.text);
  return out;
}

}  // namespace

std::unique_ptr<Command> make_topology() { return std::make_unique<Topology>(); }

}  // namespace longhaul
