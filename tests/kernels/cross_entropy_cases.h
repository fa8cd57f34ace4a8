#pragma once
// Cross-entropy, whole and over a cut vocabulary, against its reference.

#include <cmath>

#include "kernels/common/random_inputs.h"
#include "kernels/cross_entropy/launch.h"
#include "tests/kernels/bounds.h"
#include "tests/kernels/buffer.h"

namespace longhaul::kernels {

struct CrossEntropyCase {
  std::int64_t rows = 0;
  std::int32_t vocabulary = 0;
  int ranks = 1;
  bool in_place = false;
};

/// What the kernels are given and what is wanted of them, of the whole vocabulary.
struct CrossEntropyData {
  CrossEntropyShape shape;
  float scale = 0;
  std::vector<Bfloat16> logits;  // [rows][stride], NaN in the padding
  std::vector<double> wide;
  std::vector<std::int32_t> targets;
  CrossEntropyResult wanted;
};

inline CrossEntropyData make_cross_entropy(std::int64_t rows, std::int32_t vocabulary,
                                           std::uint64_t seed) {
  CrossEntropyData data;
  data.shape = {.rows = rows, .vocabulary = vocabulary, .stride = (vocabulary + 7) / 8 * 8};
  data.scale = 1.0f / static_cast<float>(rows);
  data.logits = random_bfloat16(rows * data.shape.stride, seed, 4.0f);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = vocabulary; i < data.shape.stride; ++i) {
      data.logits[row * data.shape.stride + i] = {0x7fff};
    }
    // Some tokens are barred, in every third row whole packs of them from the first on.
    for (std::int64_t i = 0; row % 3 == 0 && i < vocabulary / 4; ++i) {
      data.logits[row * data.shape.stride + i] = {0xff80};  // -inf
    }
    // Some rows are padding; the others' targets are spread over the rest of the vocabulary.
    const std::int32_t allowed = vocabulary - vocabulary / 4;
    const auto target = vocabulary / 4 + static_cast<std::int32_t>((row * 7919 + 1) % allowed);
    data.targets.push_back(row % 5 == 4 ? data.shape.ignored_target : target);
  }
  data.wide = to_doubles(data.logits);
  data.wanted =
      cross_entropy_reference(data.shape, static_cast<double>(data.scale), data.wide, data.targets);
  return data;
}

/// Units of 2^-23 in the relative error of a sum of exponentials: the sum's chain in a thread, a
/// rescaling per pack, exp's own error where it counts, and the tree.
inline double exponential_sum_units(std::int32_t vocabulary) { return 64 + vocabulary / 64.0; }

inline double loss_excess(const CrossEntropyData& data, const std::vector<float>& loss) {
  return worst_share(loss, data.wanted.loss, [&](std::size_t row) {
    const double lse_size = 32 + std::abs(data.wanted.loss[row]);  // of lse and logit
    return 2 * fp32_unit * (exponential_sum_units(data.shape.vocabulary) + lse_size);
  });
}

/// The gradient of columns first .. first + width - 1, which lie with `stride`. Padding must be 0.
inline double gradient_excess(const CrossEntropyData& data, const CrossEntropyShape& part,
                              const std::vector<Bfloat16>& gradient) {
  std::vector<double> wanted(gradient.size(), 0.0), bounds(gradient.size(), 0.0);
  for (std::int64_t row = 0; row < part.rows; ++row) {
    for (std::int32_t i = 0; i < part.vocabulary; ++i) {
      const std::size_t at = row * part.stride + i;
      wanted[at] = data.wanted.gradient[row * data.shape.vocabulary + part.first + i];
      // share = wanted + onehot; both lie below 1, so one fp32 rounding of each is below 2 units.
      const double units = exponential_sum_units(data.shape.vocabulary) + 64;
      const bool target = data.targets[row] == part.first + i;
      const double share = std::abs(wanted[at]) + (target ? widened(data.scale) : 0.0);
      bounds[at] = bf16_unit * std::abs(wanted[at]) + 2 * fp32_unit * units * share;
    }
  }
  return worst_share(gradient, wanted, [&](std::size_t i) { return bounds[i]; });
}

inline double fused_cross_entropy_excess(const CrossEntropyCase& of, std::uint64_t seed) {
  const CrossEntropyData data = make_cross_entropy(of.rows, of.vocabulary, seed);
  Buffer<Bfloat16> logits(data.logits);
  Buffer<Bfloat16> gradient(data.logits.size());
  const Buffer<std::int32_t> targets(data.targets);
  Buffer<float> loss(of.rows);
  Buffer<Bfloat16>& result = of.in_place ? logits : gradient;
  cross_entropy(data.shape, data.scale, logits.data(), targets.data(), loss.data(), result.data());
  if (result.overran() || loss.overran()) return 1e9;
  return std::max(loss_excess(data, loss.download()),
                  gradient_excess(data, data.shape, result.download()));
}

/// This rank's columns, cut as evenly as whole numbers allow: the last rank's may be fewer.
inline CrossEntropyShape part_of(const CrossEntropyData& data, int rank, int ranks) {
  const std::int32_t share = (data.shape.vocabulary + ranks - 1) / ranks;
  CrossEntropyShape part = data.shape;
  part.first = rank * share;
  part.vocabulary = std::min(share, data.shape.vocabulary - part.first);
  part.stride = (part.vocabulary + 7) / 8 * 8;
  return part;
}

inline std::vector<Bfloat16> logits_of(const CrossEntropyData& data,
                                       const CrossEntropyShape& part) {
  std::vector<Bfloat16> logits(part.rows * part.stride, Bfloat16{0x7fff});
  for (std::int64_t row = 0; row < part.rows; ++row) {
    for (std::int32_t i = 0; i < part.vocabulary; ++i) {
      logits[row * part.stride + i] = data.logits[row * data.shape.stride + part.first + i];
    }
  }
  return logits;
}

/// Every rank's partials, gathered, then every rank's gradient; all ranks have the same loss.
inline double cut_cross_entropy_excess(const CrossEntropyCase& of, std::uint64_t seed) {
  const CrossEntropyData data = make_cross_entropy(of.rows, of.vocabulary, seed);
  const Buffer<std::int32_t> targets(data.targets);
  Buffer<RowPartial> partials(of.ranks * of.rows);
  std::vector<Buffer<Bfloat16>> logits;
  for (int rank = 0; rank < of.ranks; ++rank) {
    const CrossEntropyShape part = part_of(data, rank, of.ranks);
    logits.emplace_back(logits_of(data, part));
    cross_entropy_partials(part, logits[rank].data(), targets.data(),
                           partials.data() + rank * of.rows);
  }
  double worst = 0;
  std::vector<float> first_loss;
  for (int rank = 0; rank < of.ranks; ++rank) {
    const CrossEntropyShape part = part_of(data, rank, of.ranks);
    Buffer<float> loss(of.rows);
    cross_entropy_gradient(part, data.scale, of.ranks, partials.data(), logits[rank].data(),
                           targets.data(), loss.data(), logits[rank].data());
    worst = std::max({worst, loss_excess(data, loss.download()),
                      gradient_excess(data, part, logits[rank].download())});
    if (rank == 0) first_loss = loss.download();
    if (loss.download() != first_loss || loss.overran() || logits[rank].overran()) return 1e9;
  }
  return worst;
}

}  // namespace longhaul::kernels
