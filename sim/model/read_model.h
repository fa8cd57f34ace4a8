// Models from text: our YAML, Hugging Face config.json, presets of models/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/model/model.h"

namespace longhaul {

/// Reads a model map (the format of models/*.yaml, documented in models/README.md). `ffn` and
/// `vocab` may be left out together: see is_attention_only(). A `parameters` key is compared with
/// the count that follows from the shapes.
std::optional<Model> read_model(const YamlValue& map, Diagnostics& diagnostics);

/// Reads a Hugging Face config.json (llama, mistral, qwen2, qwen3, gpt2, mixtral, qwen2_moe,
/// qwen3_moe, deepseek_v2 and deepseek_v3; models/README.md). Fields left out take the defaults of
/// the transformers class of that model_type. Unknown model types are refused unless every shape
/// field is given; their experts and latent attention, and layers with different masks, always.
std::optional<Model> read_hf_config(const SourcePtr& source, Diagnostics& diagnostics);

/// A model by what the user wrote: a preset's name, or a path to a .yaml or .json file.
/// `place` is where the user wrote it (for messages).
std::optional<Model> find_model(const std::string& name_or_path, const Place& place,
                                Diagnostics& diagnostics);

/// Names of the presets, sorted.
std::vector<std::string> model_presets();

}  // namespace longhaul
