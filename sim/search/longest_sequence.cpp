#include "sim/search/longest_sequence.h"

#include <algorithm>
#include <cmath>

#include "sim/search/memory_bound.h"
#include "sim/search/predict.h"

namespace longhaul {

namespace {

// Past it nobody trains, and token counts stay far from overflow.
constexpr std::int64_t longest_asked = std::int64_t{1} << 33;
// Ratio of the two ends of the bracket at which the search stops.
constexpr double resolution = 1.015;

class Search {
 public:
  explicit Search(ScenarioDraft draft) : draft_(std::move(draft)) {
    unit_ = 2 * draft_.plan.context.degree() * draft_.plan.tensor;
  }

  std::optional<std::int64_t> run() {
    std::int64_t fitting = 0;
    std::int64_t failing = 0;
    std::int64_t length = rounded(static_cast<double>(draft_.workload.sequence_length));
    while (length <= longest_asked) {
      const std::optional<bool> fit = fits(length);
      if (!fit) {
        return std::nullopt;
      }
      (*fit ? fitting : failing) = length;
      if (failing == 0) {
        length = 2 * length;
      } else if (fitting == 0) {
        if (length == unit_) {
          return 0;
        }
        length = rounded(0.5 * static_cast<double>(length));
      } else {
        const double low = static_cast<double>(fitting);
        const double high = static_cast<double>(failing);
        length = rounded(std::sqrt(low * high));
        if (high <= low * resolution || length <= fitting || length >= failing) {
          break;
        }
      }
    }
    return fitting;
  }

 private:
  [[nodiscard]] std::int64_t rounded(double length) const {
    const auto units = static_cast<std::int64_t>(length / static_cast<double>(unit_));
    return std::max<std::int64_t>(units, 1) * unit_;
  }
  // Nothing if the scenario is refused.
  std::optional<bool> fits(std::int64_t length) {
    draft_.workload.sequence_length = length;
    Diagnostics unheard;
    const auto scenario = check_scenario(draft_, unheard);
    if (!scenario) {
      return std::nullopt;
    }
    if (memory_lower_bound(*scenario) > scenario->cluster.device().memory) {
      return false;
    }
    return predict(*scenario, unheard).memory.fits;
  }

  ScenarioDraft draft_;
  std::int64_t unit_ = 1;
};

}  // namespace

std::optional<std::int64_t> longest_sequence(const ScenarioDraft& draft) {
  return Search(draft).run();
}

}  // namespace longhaul
