#include "sim/input/presets.h"

#include <memory>

#include "sim/input/embedded.h"

namespace longhaul {

std::optional<SourcePtr> embedded_file(const std::string& path) {
  for (const EmbeddedFile& file : embedded_table()) {
    if (file.path == path) {
      return std::make_shared<const SourceText>(
          SourceText{"built-in: " + path, std::string(file.text)});
    }
  }
  return std::nullopt;
}

std::vector<std::string> embedded_files(const std::string& folder) {
  std::vector<std::string> paths;
  for (const EmbeddedFile& file : embedded_table()) {
    if (file.path.starts_with(folder + "/")) {
      paths.emplace_back(file.path);
    }
  }
  return paths;
}

}  // namespace longhaul
