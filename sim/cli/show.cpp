// longhaul show: one built-in (or a file of the user's) in full.
#include <fmt/format.h>

#include <algorithm>

#include "sim/cli/command.h"
#include "sim/cli/scenario_flags.h"
#include "sim/input/presets.h"
#include "sim/model/read_model.h"
#include "sim/report/text_table.h"
#include "sim/topology/describe.h"
#include "sim/topology/read_cluster.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// One thing that a name stands for; a name may stand for several (a node and a cluster).
struct Shown {
  const char* kind;
  std::string text;
  JsonValue json = JsonValue::object();
};

// The file behind a preset: what to copy to change it.
std::string file_text(const std::string& path) {
  const auto source = embedded_file(path);
  return source ? fmt::format("\n{}:\n{}", path, (*source)->text) : "";
}

Shown show_model(const std::string& name, Diagnostics& diagnostics) {
  Shown out{"model", ""};
  const auto model = find_model(name, {}, diagnostics);
  if (!model) {
    return out;
  }
  const ParameterCounts counts = count_parameters(*model);
  TextTable table({{""}, {"", Align::right}});
  const auto add = [&](const char* key, const char* words, std::int64_t value) {
    table.add({words, grouped(value)});
    out.json.set(key, value);
  };
  out.json.set("name", model->name);
  add("layers", "layers", model->layers);
  add("hidden", "hidden", model->hidden);
  add("heads", "heads", model->heads);
  add("kv_heads", "KV heads", model->kv_heads);
  add("head_dim", "head dimension", model->head_dim);
  add("ffn", "MLP inner width", model->ffn);
  add("vocab", "vocabulary", model->vocab);
  add("parameters", "parameters", counts.total);
  add("parameters_of_embedding", "  of the embedding", counts.embedding);
  if (has_experts(*model)) {
    add("experts", "experts of a layer", model->experts.count);
    add("experts_per_token", "  that a token passes", model->experts.per_token);
    if (model->experts.groups > 1) {
      add("router_groups", "  in groups", model->experts.groups);
      add("router_group_topk", "  of which a token uses", model->experts.group_limit);
    }
    add("expert_ffn", "  inner width", model->experts.ffn);
    add("expert_layers", "layers with experts", expert_layers(*model));
    add("active_parameters", "parameters a token uses", counts.active);
    add("parameters_of_an_expert_layer", "  of a layer with experts",
        counts.attention + counts.mixture + counts.norms);
  }
  if (expert_layers(*model) < model->layers) {
    add("parameters_of_a_layer", has_experts(*model) ? "  of a dense layer" : "  of a layer",
        counts.attention + counts.mlp + counts.norms);
  }
  add("parameters_of_head", "  of the LM head", counts.head);
  out.text =
      "model " + model->name + "\n" + table.text("  ") + file_text("models/" + name + ".yaml");
  return out;
}

Shown show_cluster(const std::string& name, Diagnostics& diagnostics) {
  Shown out{"cluster", ""};
  const auto cluster = find_cluster(name, {}, {}, diagnostics);
  if (cluster) {
    out.json.set("name", cluster->name())
        .set("device", cluster->device().name)
        .set("gpus", cluster->gpu_count())
        .set("gpus_per_node", cluster->gpus_per_node())
        .set("nvlink_domain_size", cluster->nvlink_domain_size())
        .set("nics_per_node", cluster->nics_per_node())
        .set("nic_bandwidth_bytes_per_s", cluster->nic_bandwidth().value());
    out.text = describe_cluster(*cluster) + file_text("topologies/clusters/" + name + ".yaml");
  }
  return out;
}

Shown show_node(const std::string& name, Diagnostics&) {
  Shown out{"node", "node " + name + "\n" + file_text("topologies/nodes/" + name + ".yaml")};
  out.json.set("name", name);
  return out;
}

Shown show_device(const std::string& name, Diagnostics& diagnostics) {
  Shown out{"device", ""};
  const auto device = find_device(name, {}, diagnostics);
  if (!device) {
    return out;
  }
  TextTable table({{""}, {"", Align::right}});
  table.add({"architecture", device->architecture});
  table.add({"streaming multiprocessors", std::to_string(device->sms)});
  table.add({"bf16, dense", format_flops_rate(device->peak_bf16)});
  if (device->peak_fp8.value() > 0.0) {
    table.add({"fp8, dense", format_flops_rate(device->peak_fp8)});
  }
  table.add({"memory", format_bytes(device->memory)});
  table.add({"memory bandwidth", format_rate(device->memory_bandwidth)});
  if (device->nvlink_bandwidth.value() > 0.0) {
    table.add({"NVLink, one way", format_rate(device->nvlink_bandwidth)});
  }
  out.text =
      device->title + "\n" + table.text("  ") + file_text("topologies/devices/" + name + ".yaml");
  out.json.set("name", device->name)
      .set("title", device->title)
      .set("architecture", device->architecture)
      .set("sms", device->sms)
      .set("peak_bf16_flop_per_s", device->peak_bf16.value())
      .set("peak_fp8_flop_per_s", device->peak_fp8.value())
      .set("memory_bytes", static_cast<std::int64_t>(device->memory.value()))
      .set("memory_bandwidth_bytes_per_s", device->memory_bandwidth.value())
      .set("nvlink_bandwidth_bytes_per_s", device->nvlink_bandwidth.value());
  return out;
}

std::vector<Shown> show_all(const std::string& name, Diagnostics& diagnostics) {
  std::vector<Shown> out;
  if (names_model(name)) {
    out.push_back(show_model(name, diagnostics));
  }
  if (contains(cluster_presets(), name)) {
    out.push_back(show_cluster(name, diagnostics));
  }
  if (contains(node_presets(), name)) {
    out.push_back(show_node(name, diagnostics));
  }
  if (contains(device_presets(), name)) {
    out.push_back(show_device(name, diagnostics));
  }
  return out;
}

class Show : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "show"; }
  [[nodiscard]] std::string summary() const override {
    return "a built-in model, cluster, node or device in full, with its file";
  }
  void declare(CLI::App& app) override {
    app.add_option("name", name_, "NAME of a built-in (longhaul list), or the path of a model")
        ->type_name("");
  }
  Outcome run(Session& session) override;

 private:
  std::string name_;
};

Outcome Show::run(Session& session) {
  if (name_.empty()) {
    fail_usage("show takes a name", "for example: longhaul show llama3-8b");
  }
  Outcome out;
  out.json = JsonValue::object();
  for (const Shown& shown : show_all(name_, session.diagnostics)) {
    out.text += (out.text.empty() ? "" : "\n") + shown.text;
    out.json.set(shown.kind, shown.json);
  }
  session.diagnostics.throw_if_errors();
  if (out.text.empty()) {
    std::vector<std::string> names = model_presets();
    for (const auto& more : {cluster_presets(), node_presets(), device_presets()}) {
      names.insert(names.end(), more.begin(), more.end());
    }
    const std::string nearest = closest_match(name_, names);
    fail_usage(
        "nothing built in is called '" + name_ + "'",
        nearest.empty() ? "longhaul list shows what there is" : "did you mean '" + nearest + "'?");
  }
  return out;
}

}  // namespace

std::unique_ptr<Command> make_show() { return std::make_unique<Show>(); }

}  // namespace longhaul
