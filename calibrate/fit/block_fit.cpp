// Fits of products whose tile a rule chooses (DeepGEMM); equations: docs/models/gemm.md.
#include <cmath>

#include "calibrate/fit/gemm_form.h"

namespace longhaul {

namespace {

// Tiles differ by instruction shape, not smoothly: held-out errors hardly change from 0.03 to 0.3.
constexpr double shape_stiffness = 0.1;
constexpr double odds_sigma = 3.0;    // of the log-odds of whole waves: both ends are possible
constexpr double uneven_sigma = 2.0;  // nothing is known of it beforehand

enum BlockParameter {
  launch, tile_start, step, efficiency, load_rate, quantise, memory_share, sharpness, wave_odds,
  uneven, own, plain, block_parameters  // own: what only one architecture has
};

GemmCurve block_curve(BlockRule rule, const Eigen::VectorXd& logs) {
  GemmCurve curve;
  curve.type = KernelType::fp8_block;
  curve.launch = Seconds::of(std::exp(logs[launch]));
  curve.tile_start = Seconds::of(std::exp(logs[tile_start]));
  curve.memory_share = std::exp(logs[memory_share]);
  curve.sharpness = std::min(50.0, std::exp(logs[sharpness]));
  curve.wave_share = 1.0 / (1.0 + std::exp(-logs[wave_odds]));
  curve.blocks.rule = rule;
  curve.blocks.step = Seconds::of(std::exp(logs[step]));
  curve.blocks.efficiency = std::min(1.0, std::exp(logs[efficiency]));
  curve.blocks.load_rate = std::exp(logs[load_rate]);
  curve.blocks.quantise_share = std::exp(logs[quantise]);
  curve.blocks.uneven = Seconds::of(std::exp(logs[uneven]));
  if (rule == BlockRule::deep_gemm_hopper) {
    curve.blocks.spill = Seconds::of(std::exp(logs[own]));
  } else {
    curve.blocks.gather = Seconds::of(std::exp(logs[own]));
    curve.blocks.plain_gather = Seconds::of(std::exp(logs[plain]));
  }
  return curve;
}

// Rows and columns at every size a tile may have; tiles an SM from an eighth to 128, with the whole
// first wave apart from what follows it.
std::array<std::vector<double>, 3> shape_knots(BlockRule rule) {
  std::array<std::vector<double>, 3> knots;
  for (const double columns : {16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240}) {
    knots[1].push_back(std::log2(columns));
  }
  knots[0] = rule == BlockRule::deep_gemm_hopper ? std::vector<double>{4, 5, 6, 7, 8} : knots[1];
  knots[2] = {-3, -2, -1, -0.5, -0.01, 0.01, 0.99, 1.01, 1.58, 2, 3, 5, 7};
  return knots;
}

void fit_block_corrections(const Device& device, const std::vector<GemmRow>& rows,
                           GemmCurve& curve) {
  const std::vector<double> rest = rest_of(device, rows, curve);
  std::vector<double> by_shape(rows.size(), 0.0);
  for (int round = 0; round <= gemm_backfits; ++round) {
    fit_size_correction(rows, rest, by_shape, curve);
    std::vector<Deviation> deviations;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double smooth = correction_factor(curve.correction, gemm_sizes(rows[i].shape));
      deviations.push_back(
          {gemm_block(device, curve, rows[i].shape), rest[i] - std::log(smooth)});
    }
    curve.shapes = fit_correction(shape_knots(curve.blocks.rule), deviations, shape_stiffness);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      by_shape[i] = std::log(correction_factor(curve.shapes, deviations[i].at));
    }
  }
}

}  // namespace

std::optional<GemmForm> block_form(const Device& device) {
  if (device.architecture != "hopper" && device.architecture != "blackwell") {
    return std::nullopt;
  }
  const bool hopper = device.architecture == "hopper";
  const BlockRule rule =
      hopper ? BlockRule::deep_gemm_hopper : BlockRule::deep_gemm_blackwell;
  GemmForm form;
  form.names = {"launch",         "tile_start",   "step",      "efficiency", "load_rate",
                "quantise_share", "memory_share", "sharpness", "wave_odds",  "uneven",
                hopper ? "spill" : "gather"};
  form.prior.resize(block_parameters);
  form.prior << std::log(4e-6), std::log(1e-6), std::log(1e-7), std::log(0.8), std::log(2.0),
      std::log(0.6), std::log(0.85), std::log(4.0), 2.0, std::log(3e-8),
      std::log(hopper ? 2e-6 : 1.3e-6), std::log(3e-6);
  if (hopper) {
    form.prior.conservativeResize(plain);
  } else {
    form.names.push_back("plain_gather");
  }
  form.prior_sigma = Eigen::VectorXd::Constant(form.prior.size(), prior_sigma);
  form.prior_sigma[wave_odds] = odds_sigma;
  form.prior_sigma[uneven] = uneven_sigma;
  form.starts = {form.prior};
  form.curve = [rule](const Eigen::VectorXd& logs) { return block_curve(rule, logs); };
  form.correct = [&device](const std::vector<GemmRow>& rows, GemmCurve& curve) {
    fit_block_corrections(device, rows, curve);
  };
  return form;
}

}  // namespace longhaul
