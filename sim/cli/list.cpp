// longhaul list: what is built in.
#include <fmt/format.h>

#include <array>

#include "sim/cli/command.h"
#include "sim/model/read_model.h"
#include "sim/report/text_table.h"
#include "sim/scenario/software.h"
#include "sim/topology/read_cluster.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

struct Listing {
  std::string text;
  JsonValue json = JsonValue::array();
};

Listing list_models(Diagnostics& diagnostics) {
  Listing out;
  TextTable table({{"model"},
                   {"parameters", Align::right},
                   {"layers", Align::right},
                   {"hidden", Align::right},
                   {"heads", Align::right},
                   {"KV heads", Align::right}});
  for (const std::string& name : model_presets()) {
    const auto model = find_model(name, {}, diagnostics);
    if (!model) {
      continue;
    }
    const std::int64_t count = count_parameters(*model).total;
    table.add({name, fmt::format("{:.2f} B", static_cast<double>(count) / 1e9),
               std::to_string(model->layers), std::to_string(model->hidden),
               std::to_string(model->heads), std::to_string(model->kv_heads)});
    out.json.push(JsonValue::object().set("name", name).set("parameters", count));
  }
  out.text = table.text();
  return out;
}

Listing list_clusters(Diagnostics& diagnostics) {
  Listing out;
  TextTable table({{"cluster"},
                   {"GPU"},
                   {"per node", Align::right},
                   {"NVLink domain", Align::right},
                   {"NICs per node", Align::right},
                   {"per NIC", Align::right}});
  for (const std::string& name : cluster_presets()) {
    const auto cluster = find_cluster(name, {}, {}, diagnostics);
    if (!cluster) {
      continue;
    }
    const bool nics = cluster->nic_bandwidth().value() > 0.0;
    table.add({name, cluster->device().title, std::to_string(cluster->gpus_per_node()),
               std::to_string(cluster->nvlink_domain_size()),
               std::to_string(cluster->nics_per_node()),
               nics ? format_rate(cluster->nic_bandwidth()) : ""});
    out.json.push(JsonValue::object()
                      .set("name", name)
                      .set("device", cluster->device().name)
                      .set("gpus_per_node", cluster->gpus_per_node())
                      .set("nvlink_domain_size", cluster->nvlink_domain_size()));
  }
  out.text = table.text();
  return out;
}

Listing list_nodes(Diagnostics&) {
  Listing out;
  out.text = "node\n----\n";
  for (const std::string& name : node_presets()) {
    out.text += name + "\n";
    out.json.push(JsonValue::object().set("name", name));
  }
  return out;
}

Listing list_devices(Diagnostics& diagnostics) {
  Listing out;
  TextTable table({{"device"},
                   {"title"},
                   {"memory", Align::right},
                   {"bf16, dense", Align::right},
                   {"memory bandwidth", Align::right},
                   {"NVLink, one way", Align::right}});
  for (const std::string& name : device_presets()) {
    const auto device = find_device(name, {}, diagnostics);
    if (!device) {
      continue;
    }
    const bool nvlink = device->nvlink_bandwidth.value() > 0.0;
    table.add({name, device->title, format_bytes(device->memory),
               format_flops_rate(device->peak_bf16), format_rate(device->memory_bandwidth),
               nvlink ? format_rate(device->nvlink_bandwidth) : ""});
    out.json.push(JsonValue::object().set("name", name).set("title", device->title));
  }
  out.text = table.text();
  return out;
}

Listing list_methods(Diagnostics&) {
  static constexpr std::array methods{
      std::pair{"none", "no context parallelism: every GPU holds whole sequences"},
      std::pair{"ring", "ring attention: keys and values travel around a ring"},
      std::pair{"ulysses", "DeepSpeed-Ulysses: all-to-all from sequence to heads and back"},
      std::pair{"usp", "Ulysses inside a ring, with either on neighbouring GPUs"},
      std::pair{"all_gather", "every rank gathers all keys and values (Llama 3)"}};
  Listing out;
  TextTable table({{"method"}, {"what it does"}});
  for (const auto& [name, what] : methods) {
    table.add({name, what});
    out.json.push(JsonValue::object().set("name", name).set("summary", what));
  }
  out.text = table.text();
  return out;
}

Listing list_software(Diagnostics&) {
  Listing out;
  TextTable table({{"software"}, {"stands for"}});
  for (const std::string& name : software_names()) {
    const std::string words = fmt::format("{}", fmt::join(find_software(name)->frameworks, ", "));
    table.add({name, words});
    out.json.push(JsonValue::object().set("name", name).set("frameworks", words));
  }
  out.text = table.text();
  return out;
}

struct Kind {
  const char* name;
  Listing (*list)(Diagnostics&);
};
constexpr std::array kinds{Kind{"models", list_models}, Kind{"clusters", list_clusters},
                           Kind{"nodes", list_nodes}, Kind{"devices", list_devices},
                           Kind{"methods", list_methods},
                           Kind{"software", list_software}};

class List : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "list"; }
  [[nodiscard]] std::string summary() const override {
    return "built-in models, clusters, nodes, devices, methods and software stacks";
  }
  void declare(CLI::App& app) override {
    app.add_option("kind", kind_, "models, clusters, nodes, devices or methods; default: all")
        ->type_name("");
  }
  Outcome run(Session& session) override;

 private:
  std::string kind_;
};

Outcome List::run(Session& session) {
  Outcome out;
  out.json = JsonValue::object();
  std::vector<std::string> names;
  for (const Kind& kind : kinds) {
    names.emplace_back(kind.name);
    if (!kind_.empty() && kind_ != kind.name) {
      continue;
    }
    const Listing listing = kind.list(session.diagnostics);
    out.text += (out.text.empty() ? "" : "\n") + listing.text;
    out.json.set(kind.name, listing.json);
  }
  if (out.text.empty()) {
    const std::string nearest = closest_match(kind_, names);
    fail_usage("nothing called '" + kind_ + "' can be listed",
               nearest.empty() ? fmt::format("kinds: {}", fmt::join(names, ", "))
                               : "did you mean '" + nearest + "'?");
  }
  session.diagnostics.throw_if_errors();
  return out;
}

}  // namespace

std::unique_ptr<Command> make_list() { return std::make_unique<List>(); }

}  // namespace longhaul
