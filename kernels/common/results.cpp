#include "kernels/common/results.h"

#include <chrono>
#include <filesystem>
#include <system_error>

#include <nlohmann/json.hpp>

namespace longhaul::kernels {

namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Fields& fields) {
  Json object = Json::object();
  for (const auto& [key, value] : fields) {
    std::visit([&](const auto& held) { object[key] = held; }, value);
  }
  return object;
}

std::ofstream open_for_writing(const std::filesystem::path& path, std::ios::openmode mode) {
  std::ofstream file(path, mode);
  if (!file) throw ResultsError("cannot write " + path.string());
  return file;
}

// The runs of an earlier program in the same folder are kept.
Json earlier_runs(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return Json::array();
  const Json found = Json::parse(file, nullptr, false);
  return found.is_object() && found.contains("runs") ? found["runs"] : Json::array();
}

void add_provenance(const std::filesystem::path& path, Json run) {
  Json runs = earlier_runs(path);
  runs.push_back(std::move(run));
  const Json document = {{"tool", "longhaul kernels 1"}, {"runs", runs}};
  open_for_writing(path, std::ios::trunc) << document.dump(1) << '\n';
}

}  // namespace

std::string to_json(const Fields& fields) { return json_of(fields).dump(); }

Results::Results(const Options& options, std::string section, const Fields& provenance)
    : section_(std::move(section)) {
  if (options.out.empty()) return;
  const std::filesystem::path folder = options.out;
  std::error_code ignored;  // where the folder is missing after this, opening the file says so
  std::filesystem::create_directories(folder, ignored);
  file_ = open_for_writing(folder / (section_ + ".jsonl"), std::ios::app);
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count();
  Json run = {{"run", section_ + " " + std::to_string(now)},
              {"section", section_},
              {"unix_time", now},
              {"command", options.command},
              {"seed", options.seed}};
  run.update(json_of(provenance));
  add_provenance(folder / "provenance.json", std::move(run));
}

void Results::write(const Fields& shape, const Fields& outcome) {
  if (!file_.is_open()) return;
  Json line = {{"section", section_}};
  line.update(json_of(shape));
  // The id as calibrate/yardstick makes it: section and shape, keys sorted.
  const std::string id = nlohmann::json(line).dump();
  line["id"] = id;
  line.update(json_of(outcome));
  file_ << line.dump() << '\n' << std::flush;
}

}  // namespace longhaul::kernels
