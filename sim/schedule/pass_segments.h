// How the layers of a pipeline's passes share loops although stages and chunks differ.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace longhaul {

/// What the instructions of a layer in a pass depend on.
struct LayerTraits {
  bool mixture = false;
  bool recomputes = false;
  std::optional<bool> gathers = std::nullopt;  ///< meanwhile a layer of that kind (true: a mixture)
  /// What the next layer has saved comes from host memory meanwhile: (a mixture, recomputed).
  std::optional<std::pair<bool, bool>> fetches = std::nullopt;
  bool operator==(const LayerTraits&) const = default;
};

/// Layers of a pass that follow each other and are alike, in every part of the model.
struct PassSegment {
  LayerTraits traits;
  std::vector<std::int64_t> counts;   ///< by part: layers in it, maybe none
  std::vector<std::int64_t> offsets;  ///< by part: layers of the pass before it
  std::int64_t most = 0;              ///< of any part
};

/// Cuts the passes of all parts, given as the traits of their layers in the order of the pass, into
/// segments in one common order: a part has no layers in those that it lacks.
std::vector<PassSegment> pass_segments(const std::vector<std::vector<LayerTraits>>& parts);

}  // namespace longhaul
