#include "sim/topology/file_stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "sim/input/presets.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

const char* word_of(FileKind kind) {
  switch (kind) {
    case FileKind::device: return "device";
    case FileKind::node: return "node";
    case FileKind::fabric: return "fabric";
    case FileKind::cluster: break;
  }
  return "cluster";
}

std::string folder_of(FileKind kind) { return fmt::format("topologies/{}s", word_of(kind)); }

bool looks_like_path(const std::string& text) {
  return text.find('/') != text.npos || text.ends_with(".yaml") || text.ends_with(".yml");
}

/// A path as seen from the file that names it; text that is in no file ("<command line>",
/// "built-in: ...") names paths from the working folder.
std::string beside(const std::string& path, const Place& place) {
  const std::string from = place.source ? place.source->name : "";
  const bool in_file = !from.empty() && from.front() != '<' && !from.starts_with("built-in: ");
  if (!in_file || std::filesystem::path(path).is_absolute()) {
    return path;
  }
  return (std::filesystem::path(from).parent_path() / path).lexically_normal().string();
}

}  // namespace

std::vector<std::string> preset_names(FileKind kind) {
  std::vector<std::string> names;
  for (const std::string& path : embedded_files(folder_of(kind))) {
    names.push_back(std::filesystem::path(path).stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool FileStack::is_open(const std::string& name, const Place& place) {
  const auto found = std::find(open_.begin(), open_.end(), name);
  if (found == open_.end()) {
    return false;
  }
  diagnostics_.error(
      place, "cyclic-include",
      fmt::format("this includes itself: {} -> {}", fmt::join(found, open_.end(), " -> "), name),
      "remove one of these 'include' lines");
  return true;
}

std::optional<SourcePtr> FileStack::find(FileKind kind, const std::string& name_or_path,
                                         const Place& place) {
  if (!looks_like_path(name_or_path)) {
    const auto preset = embedded_file(fmt::format("{}/{}.yaml", folder_of(kind), name_or_path));
    if (!preset) {
      const std::vector<std::string> presets = preset_names(kind);
      const std::string nearest = closest_match(name_or_path, presets);
      diagnostics_.error(
          place, fmt::format("unknown-{}", word_of(kind)),
          fmt::format("no {} is called '{}'", word_of(kind), name_or_path),
          fmt::format("{}presets: {}; or give the path of a .yaml file",
                      nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest),
                      fmt::join(presets, ", ")));
    }
    return preset;
  }
  const std::string path = beside(name_or_path, place);
  Diagnostics reading;
  const std::optional<SourcePtr> source = read_source(path, reading);
  for (const Diagnostic& problem : reading.all()) {
    // Where the file was named is what the user can change.
    diagnostics_.error(place.source ? place : problem.place, problem.code,
                       fmt::format("'{}' {}", path, problem.message), problem.help);
  }
  return source;
}

std::optional<YamlValue> FileStack::open(FileKind kind, const std::string& name_or_path,
                                         const Place& place) {
  const std::optional<SourcePtr> source = find(kind, name_or_path, place);
  if (!source || is_open((*source)->name, place)) {
    return std::nullopt;
  }
  const std::optional<YamlValue> map = YamlValue::parse(*source, diagnostics_);
  if (map) {
    open_.push_back((*source)->name);
    const std::string origin = fmt::format("{} {}", (*source)->name, sha256_hex((*source)->text));
    if (std::find(origins_.begin(), origins_.end(), origin) == origins_.end()) {
      origins_.push_back(origin);
    }
  }
  return map;
}

void FileStack::close() {
  check(!open_.empty(), "each close() undoes an open()");
  open_.pop_back();
}

}  // namespace longhaul
