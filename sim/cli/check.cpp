// longhaul check: reads files and says what is wrong with them, without predicting anything.
#include <fmt/format.h>

#include "sim/cli/command.h"
#include "sim/cli/scenario_flags.h"
#include "sim/model/read_model.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

// What a file describes, by the keys that only that kind has.
enum class Kind { scenario, model, cluster };

const char* name_of(Kind kind) {
  static constexpr const char* names[] = {"scenario", "model", "cluster"};
  return names[static_cast<int>(kind)];
}

Kind kind_of(const std::string& path) {
  if (names_model(path)) {
    return Kind::model;
  }
  Diagnostics unheard;  // who reads the file for good will say what is wrong with it
  const auto source = path == "-" ? std::nullopt : read_source(path, unheard);
  const auto map = source ? YamlValue::parse(*source, unheard) : std::nullopt;
  const bool of_cluster =
      map && map->is_map() && !map->find("model") && !map->find("workload") &&
      (map->find("node") || map->find("nodes") || map->find("fabric") || map->find("device"));
  return of_cluster ? Kind::cluster : Kind::scenario;
}

class Check : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "check"; }
  [[nodiscard]] std::string summary() const override {
    return "reads scenario, model and cluster files and lists every mistake";
  }
  void declare(CLI::App& app) override {
    app.add_option("files", files_, "FILE... (- is standard input)")->type_name("");
  }
  Outcome run(Session& session) override;

 private:
  std::vector<std::string> files_;
};

// A file that cannot be read is one mistake among others: the files behind it are checked too.
void check_scenario_file(const std::string& file, Diagnostics& diagnostics) {
  Diagnostics own;
  try {
    check_scenario(read_scenario_file(file, own), own);
    diagnostics.append(own);
  } catch (const InputError& error) {
    diagnostics.append(error.diagnostics());
  }
}

void check_file(const std::string& file, Kind kind, Diagnostics& diagnostics) {
  switch (kind) {
    case Kind::scenario: check_scenario_file(file, diagnostics); break;
    case Kind::model: find_model(file, {}, diagnostics); break;
    case Kind::cluster: find_cluster(file, {}, {}, diagnostics); break;
  }
}

Outcome Check::run(Session& session) {
  if (files_.empty()) {
    fail_usage("check takes one or more files", "for example: longhaul check examples/*.yaml");
  }
  Outcome out;
  JsonValue list = JsonValue::array();
  for (const std::string& file : files_) {
    const Kind kind = kind_of(file);
    check_file(file, kind, session.diagnostics);
    list.push(JsonValue::object().set("file", file).set("kind", name_of(kind)));
    out.text += fmt::format("{}: a sound {}\n", file, name_of(kind));
  }
  session.diagnostics.throw_if_errors();
  out.json = JsonValue::object().set("files", std::move(list));
  return out;
}

}  // namespace

std::unique_ptr<Command> make_check() { return std::make_unique<Check>(); }

}  // namespace longhaul
