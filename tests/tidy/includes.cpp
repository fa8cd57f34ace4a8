// Rules on #include: rooms and third-party homes.
#include <algorithm>
#include <array>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

// The room of "sim/engine/price.cpp" is "engine"; "" outside sim/.
std::string room_of(std::string_view path) {
  if (!path.starts_with("sim/")) return "";
  const std::string_view rest = path.substr(4);
  const std::size_t slash = rest.find('/');
  return slash == std::string_view::npos ? "" : std::string(rest.substr(0, slash));
}

bool holds_path(const Tree& tree, std::string_view path) {
  const auto found = std::lower_bound(
      tree.begin(), tree.end(), path,
      [](const TextFile& file, std::string_view wanted) { return file.path < wanted; });
  return found != tree.end() && found->path == path;
}

// Why `room` may not include `target`, or "".
std::string include_fault(const std::string& room, const Include& include, const Rooms& rooms) {
  const std::string used = room_of(include.target);
  if (used.empty()) {
    return fmt::format("room {} includes {}: rooms of sim/ include only rooms of sim/", room,
                       include.target);
  }
  if (used == room || rooms.uses.at(room).count(used) != 0) return "";
  return fmt::format("room {} includes {}, but {} is not in its USES list (sim/CMakeLists.txt)",
                     room, include.target, used);
}

// The fits work on costs; what simulates may change without them.
constexpr std::array fit_rooms = {"units", "input", "model", "topology", "cost"};

// Why a file of calibrate/ may not include `target`, or "".
std::string fit_include_fault(const Include& include) {
  const std::string used = room_of(include.target);
  const bool allowed = include.target.starts_with("calibrate/") ||
                       std::find(fit_rooms.begin(), fit_rooms.end(), used) != fit_rooms.end();
  return allowed ? ""
                 : fmt::format("calibrate includes {}: it may use only {} of sim/", include.target,
                               fmt::join(fit_rooms, ", "));
}

void check_room_order(const Rooms& rooms, std::vector<Finding>& findings) {
  std::set<std::string> declared;
  for (const std::string& name : rooms.names) {
    for (const std::string& used : rooms.uses.at(name)) {
      if (declared.count(used) != 0) continue;
      findings.push_back(
          {"sim/CMakeLists.txt", 1,
           fmt::format("room {} uses {}, which is not declared before it", name, used)});
    }
    declared.insert(name);
  }
}

void check_file_includes(const TextFile& file, const Tree& tree, const Rooms& rooms,
                         std::vector<Finding>& findings) {
  const std::string room = room_of(file.path);
  const bool declared = rooms.uses.count(room) != 0;
  if (!room.empty() && !declared) {
    findings.push_back(
        {file.path, 1, fmt::format("room {} is not declared in sim/CMakeLists.txt", room)});
  }
  for (const Include& include : includes_of(file)) {
    if (!include.quoted) continue;
    if (!holds_path(tree, include.target)) {
      findings.push_back({file.path, include.line,
                          fmt::format("\"{}\" is not a file of the repository: quoted includes "
                                      "are paths from its root",
                                      include.target)});
    } else if (declared) {
      const std::string fault = include_fault(room, include, rooms);
      if (!fault.empty()) findings.push_back({file.path, include.line, fault});
    } else if (file.path.starts_with("calibrate/")) {
      const std::string fault = fit_include_fault(include);
      if (!fault.empty()) findings.push_back({file.path, include.line, fault});
    }
  }
}

// A library, by the beginnings of its includes, and the folders that may use it.
struct ThirdParty {
  const char* library;
  const char* prefix;
  std::array<const char*, 3> homes;  // nullptr: no more
};

constexpr ThirdParty third_parties[] = {
    {"yaml-cpp", "yaml-cpp/", {"sim/input/", nullptr, nullptr}},
    {"nlohmann-json", "nlohmann/", {"sim/input/", "kernels/common/", nullptr}},
    {"pugixml", "pugixml", {"sim/input/", nullptr, nullptr}},
    {"Boost", "boost/", {"sim/topology/", nullptr, nullptr}},
    {"Eigen", "Eigen/", {"sim/reference/", "calibrate/", nullptr}},
    {"CLI11", "CLI/", {"sim/cli/", nullptr, nullptr}},
    {"Catch2", "catch2/", {"tests/", nullptr, nullptr}},
    {"CUDA", "cuda", {"kernels/", "calibrate/", "tests/kernels/"}},
    {"cuDNN", "cudnn", {"kernels/vendor/", nullptr, nullptr}},
    {"NCCL", "nccl", {"calibrate/", nullptr, nullptr}},
};

bool is_home(const ThirdParty& third_party, const std::string& path) {
  // The tests of a room are part of it: tests/sim/input/ may do what sim/input/ may.
  const std::string_view tested =
      path.starts_with("tests/sim/") || path.starts_with("tests/calibrate/")
          ? std::string_view(path).substr(6)
          : std::string_view(path);
  for (const char* home : third_party.homes) {
    if (home == nullptr) return false;
    if (tested.starts_with(home) || path.starts_with(home)) return true;
  }
  return false;
}

}  // namespace

Rooms parse_rooms(std::string_view text) {
  Rooms rooms;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string name = line.substr(0, colon);
    rooms.names.push_back(name);
    std::istringstream used(line.substr(colon + 1));
    auto& uses = rooms.uses[name];
    for (std::string word; used >> word;) uses.insert(word);
  }
  return rooms;
}

std::vector<Include> includes_of(const TextFile& file) {
  std::vector<Include> includes;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    std::size_t at = line.find_first_not_of(" \t");
    if (at == std::string::npos || line[at] != '#') continue;
    at = line.find_first_not_of(" \t", at + 1);
    if (at == std::string::npos || line.compare(at, 7, "include") != 0) continue;
    const std::size_t open = line.find_first_of("\"<", at + 7);
    if (open == std::string::npos) continue;
    const bool quoted = line[open] == '"';
    const std::size_t close = line.find(quoted ? '"' : '>', open + 1);
    if (close == std::string::npos) continue;
    includes.push_back({line.substr(open + 1, close - open - 1), quoted, static_cast<int>(i) + 1});
  }
  return includes;
}

std::vector<Finding> check_includes(const Tree& tree, const Rooms& rooms) {
  std::vector<Finding> findings;
  check_room_order(rooms, findings);
  for (const TextFile& file : tree) {
    if (is_cpp(file.path)) check_file_includes(file, tree, rooms, findings);
  }
  return findings;
}

std::vector<Finding> check_third_party(const Tree& tree) {
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    if (!is_cpp(file.path)) continue;
    for (const Include& include : includes_of(file)) {
      for (const ThirdParty& third_party : third_parties) {
        if (include.quoted || !include.target.starts_with(third_party.prefix)) continue;
        if (is_home(third_party, file.path)) continue;
        findings.push_back(
            {file.path, include.line,
             fmt::format("{} is used only in {} (includes <{}>)", third_party.library,
                         third_party.homes[0], include.target)});
      }
    }
  }
  return findings;
}

}  // namespace longhaul::tidy
