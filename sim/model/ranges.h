// What a shape may be: far above any published model, and small enough for every count of
// parameters (layers x 3 x hidden x ffn) to fit in 63 bits. Private to sim/model.
#pragma once

#include "sim/input/yaml.h"

namespace longhaul {

inline constexpr IntegerRange layer_range{1, 10'000};
inline constexpr IntegerRange hidden_range{1, std::int64_t{1} << 20};
inline constexpr IntegerRange head_range{1, 4096};
inline constexpr IntegerRange head_dim_range{1, 1024};
inline constexpr IntegerRange ffn_range{1, std::int64_t{1} << 22};
inline constexpr IntegerRange expert_range{1, 4096};
inline constexpr IntegerRange latent_range{1, std::int64_t{1} << 16};
inline constexpr IntegerRange vocab_range{1, std::int64_t{1} << 24};
inline constexpr IntegerRange position_range{1, std::int64_t{1} << 40};

}  // namespace longhaul
