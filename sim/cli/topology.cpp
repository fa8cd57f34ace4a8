// longhaul topology: clusters in words, as a graph, checked, and made from what machines print.
#include <algorithm>

#include "sim/cli/topology_words.h"

namespace longhaul {

namespace {

constexpr const char* examples =
    "for example: longhaul topology show dgx-h100 --gpus 16, or longhaul topology import topo.xml "
    "-o node.yaml";

class Topology : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "topology"; }
  [[nodiscard]] std::string summary() const override {
    return "topology show, check or import: how GPUs are wired, oddities, machines' own files";
  }
  void declare(CLI::App& app) override {
    app.add_option("words", words_,
                   "show CLUSTER | check CLUSTER... | import FILE (NCCL's XML, nvidia-smi topo -m)")
        ->type_name("");
    app.add_option("--gpus", flags_.gpus, "show, check: GPUs of a cluster that grows")
        ->type_name("VALUE");
    app.add_option("--from", flags_.from,
                   "show: a path from this GPU; import: nccl-xml or smi-topo, instead of detecting")
        ->type_name("GPU|FORMAT");
    app.add_option("--to", flags_.to, "show: to this GPU")->type_name("GPU");
    app.add_flag("--dot", flags_.dot, "show: a graph for Graphviz instead of words");
    app.add_option("--name", flags_.name, "import: name of the cluster")->type_name("NAME");
    app.add_option("--device", flags_.device, "import: the GPU, a preset or a file")
        ->type_name("DEVICE");
    app.add_option("--nvlink", flags_.nvlink,
                   "import: none, switch, mesh or pairs, where the file does not show NVLink")
        ->type_name("WIRING");
    app.add_option("--nic-rate", flags_.nic_rate, "import: rate of every adapter")
        ->type_name("RATE");
  }
  Outcome run(Session& session) override;

 private:
  std::vector<std::string> words_;
  TopologyFlags flags_;
};

/// A flag that the word does not know would be ignored: it is refused instead.
void refuse_flags(const std::string& word, const TopologyFlags& flags) {
  const bool show = word == "show";
  const bool import = word == "import";
  const struct {
    const char* flag;
    bool given;
    bool known;
  } all[] = {
      {"--gpus", !flags.gpus.empty(), !import},   {"--from", !flags.from.empty(), show || import},
      {"--to", !flags.to.empty(), show},          {"--dot", flags.dot, show},
      {"--name", !flags.name.empty(), import},    {"--device", !flags.device.empty(), !show},
      {"--nvlink", !flags.nvlink.empty(), !show}, {"--nic-rate", !flags.nic_rate.empty(), !show}};
  for (const auto& one : all) {
    if (one.given && !one.known) {
      fail_usage(std::string("topology ") + word + " has no flag '" + one.flag + "'", examples);
    }
  }
}

Outcome Topology::run(Session& session) {
  const std::vector<std::string> known{"show", "check", "import"};
  const std::string word = words_.empty() ? "" : words_[0];
  if (std::find(known.begin(), known.end(), word) == known.end()) {
    const std::string nearest = closest_match(word, known);
    fail_usage("topology knows the words show, check and import",
               nearest.empty() ? examples : "did you mean '" + nearest + "'?");
  }
  if (words_.size() < 2 || (word != "check" && words_.size() > 2)) {
    fail_usage(word == "import" ? "topology import takes one file"
                                : "topology " + word + " takes one cluster" +
                                      (word == "check" ? " or more" : ""),
               examples);
  }
  refuse_flags(word, flags_);
  if (word == "import") {
    flags_.format = flags_.from;
    return import_topology_file(words_[1], flags_, session);
  }
  return word == "show" ? show_topology(words_[1], flags_, session)
                        : check_topology({words_.begin() + 1, words_.end()}, flags_, session);
}

}  // namespace

std::int64_t whole_number(const std::string& flag, const std::string& text, std::int64_t least) {
  const Parsed<std::int64_t> parsed = parse_integer(text);
  if (!parsed.ok() || parsed.value < least) {
    fail_usage(flag + " wants a whole number of at least " + std::to_string(least) + ", got '" +
               text + "'");
  }
  return parsed.value;
}

Cluster open_cluster(const std::string& word, ClusterSize size, Session& session) {
  const auto source = std::make_shared<const SourceText>(SourceText{"CLUSTER " + word, ""});
  const auto cluster = find_cluster(word, size, {source, 0, 0, 1}, session.diagnostics);
  session.diagnostics.throw_if_errors();
  return *cluster;
}

std::unique_ptr<Command> make_topology() { return std::make_unique<Topology>(); }

}  // namespace longhaul
