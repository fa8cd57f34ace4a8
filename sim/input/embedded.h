// The table that the build generates from models/, topologies/ and calibrate/profiles/
// (cmake/embed.cmake). Private to sim/input.
#pragma once

#include <span>
#include <string_view>

namespace longhaul {

struct EmbeddedFile {
  std::string_view path;  ///< in the repository
  std::string_view text;
};

/// All embedded files, sorted by path.
std::span<const EmbeddedFile> embedded_table();

}  // namespace longhaul
