// Files that come with longhaul (models/, topologies/, calibrate/profiles/): embedded in
// the binary at build time, so that built-ins need no files on the machine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"

namespace longhaul {

/// The text of an embedded file by its path in the repository ("models/llama3-8b.yaml").
/// Its source name is "built-in: PATH".
std::optional<SourcePtr> embedded_file(const std::string& path);

/// Paths of the embedded files under a folder ("models"), sorted.
std::vector<std::string> embedded_files(const std::string& folder);

/// SHA-256 (hex) of a text: names the exact inputs of a result.
std::string sha256_hex(const std::string& text);

}  // namespace longhaul
