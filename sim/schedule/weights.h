// Weights of the model as schedules see them.
#pragma once

#include <string>
#include <vector>

#include "sim/program/program.h"

namespace longhaul {

/// A weight of the model: where it stands in the program and where its gradient is summed.
struct Weight {
  TensorRef value;
  TensorRef gradient;
  bool fresh = false;  ///< the gradient is written, not added to what earlier micro-batches left
};

/// Of the layers: all, those with an MLP, or those with experts.
enum class LayerKind { every, dense, mixture };

/// Shapes and layouts of a weight on a rank (docs/models/training_step.md lists them).
struct WeightShape {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<std::vector<Shard>> shards;
  std::int64_t extra_elements =
      0;  ///< biases and small norms that ride along: counted, not computed
  LayerKind kind = LayerKind::every;
  bool of_experts = false;  ///< dealt to ranks by expert, its gradients summed over expert_data
};

}  // namespace longhaul
