// What the readers of config.json share. Private to sim/model.
#pragma once

#include <string>

#include "sim/input/yaml.h"
#include "sim/model/model.h"

namespace longhaul {

/// True if the file has the key with a value other than null.
bool hf_present(MapReader& reader, const std::string& key);
/// A count whose key may be null or absent, both meaning `fallback`.
std::int64_t hf_count(MapReader& reader, const std::string& key, IntegerRange range,
                      std::int64_t fallback);

/// What the file says that nobody has read and that is not known to change no shape. In a type that
/// is not known it may be anything (a state-space part, an MLP without a gate): an error. In a known
/// one, whose class does not have the key, it is named in a warning.
void hf_check_unread(MapReader& reader, bool type_is_known);

/// True for the model types whose experts (and latent attention) read_hf_experts knows: mixtral,
/// qwen2_moe, qwen3_moe, deepseek_v2, deepseek_v3.
bool hf_knows_experts(const std::string& type);
/// Reads the experts of such a type, and DeepSeek's latent attention, into a model whose other
/// shapes are read. What cannot be described is an error.
void read_hf_experts(MapReader& reader, const std::string& type, Model& model);

}  // namespace longhaul
