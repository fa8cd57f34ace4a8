#include "sim/validation/run_facts.h"

#include "sim/input/presets.h"
#include "sim/scenario/software.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

RunFact read_fact(const YamlValue& item, Diagnostics& diagnostics) {
  const std::vector<std::string> kernels{"fa1", "fa2", "fa3", "fa4", "cudnn", "unfused"};
  MapReader reader(item, "facts", diagnostics);
  RunFact fact;
  fact.runs = reader.text("runs");
  if (reader.has("attention")) {
    fact.attention = kernels[reader.choice("attention", kernels)];
  }
  if (reader.has("deterministic_attention")) {
    fact.deterministic_attention = kernels[reader.choice("deterministic_attention", kernels)];
  }
  fact.optimizer_groups = reader.integer("optimizer_groups", {1, 1024}, 1);
  fact.compiled_loss = reader.boolean("compiled_loss", false);
  fact.wide_gathers = reader.boolean("wide_gathers", false);
  if (reader.has("stack")) {
    fact.stack = software_names()[reader.choice("stack", software_names())];
  }
  fact.cuts_vocabulary = reader.boolean("cuts_vocabulary", false);
  fact.sample_time = reader.seconds("sample_time", Seconds());
  demand_origin(reader);
  reader.finish();
  return fact;
}

}  // namespace

// The text before the first star must begin the id; what follows it may start anywhere behind that.
bool is_among(const std::string& id, const std::string& runs) {
  const std::size_t star = runs.find('*');
  if (star == std::string::npos) {
    return id == runs;
  }
  if (id.compare(0, star, runs, 0, star) != 0) {
    return false;
  }
  const std::string rest = runs.substr(star + 1);
  for (std::size_t from = star; from <= id.size(); ++from) {
    if (is_among(id.substr(from), rest)) {
      return true;
    }
  }
  return false;
}

std::vector<RunFact> read_run_facts(const SourcePtr& source, Diagnostics& diagnostics) {
  std::vector<RunFact> facts;
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return facts;
  }
  MapReader root(*document, "run facts", diagnostics);
  root.choice("format", {"longhaul-run-facts/1"});
  if (const auto list = root.child("facts")) {
    for (const YamlValue& item : list->items()) {
      facts.push_back(read_fact(item, diagnostics));
    }
  }
  root.finish();
  return facts;
}

// Embedded files never change while the program runs.
const std::vector<RunFact>& all_run_facts() {
  static const std::vector<RunFact> facts = [] {
    Diagnostics diagnostics;
    const auto source = embedded_file("calibrate/profiles/run_facts.yaml");
    check(source.has_value(), "the facts about measured runs come with longhaul");
    std::vector<RunFact> read = read_run_facts(*source, diagnostics);
    check(!diagnostics.has_errors(), "the facts that come with longhaul can be read");
    return read;
  }();
  return facts;
}

}  // namespace longhaul
