#include "calibrate/fit/write_kernel_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "calibrate/fit/statistics.h"

namespace longhaul {

namespace {

// "-0.042": three digits after the point are a thousandth of a factor, finer than any repetition.
std::string short_log(double value) {
  const std::string text = fmt::format("{:.3f}", value);
  return text == "-0.000" ? "0" : text;
}

std::string microseconds(Seconds time) { return fmt::format("{:.4g} us", time.value() * 1e6); }

using Axes = std::array<const char*, 3>;

std::string write_correction(const Correction& correction, const Axes& axes,
                             const std::string& indent, const char* name = "correction") {
  std::string text = fmt::format("{}{}:\n", indent, name);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    std::string knots;
    for (const double knot : correction.knots[axis]) {
      knots += (knots.empty() ? "" : ", ") + fmt::format("{:.7g}", std::exp2(knot));
    }
    text += fmt::format("{}  {}: [{}]\n", indent, axes[axis], knots);
  }
  text += indent + "  log:\n" + indent + "    [";
  const std::size_t width = correction.knots[2].size();
  for (std::size_t i = 0; i < correction.values.size(); ++i) {
    const bool last = i + 1 == correction.values.size();
    text += short_log(correction.values[i]) +
            (last ? "]\n" : (i + 1) % width == 0 ? ",\n" + indent + "     " : ", ");
  }
  return text;
}

std::string write_range(const std::array<FittedRange, 3>& range, const Axes& axes) {
  std::string text;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    text += fmt::format("{}{}: [{:.7g}, {:.7g}]", axis == 0 ? "" : ", ", axes[axis],
                        range[axis].low, range[axis].high);
  }
  return "{" + text + "}";
}

// "growth: {m: 0.01}", of the axes that have one; empty where none has.
std::string write_growth(const std::array<FittedRange, 3>& range, const Axes& axes) {
  std::string text;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (range[axis].growth > 0.0) {
      text += fmt::format("{}{}: {:.4f}", text.empty() ? "" : ", ", axes[axis], range[axis].growth);
    }
  }
  return text.empty() ? "" : "    growth: {" + text + "}\n";
}

std::string write_report(const FitReport& report, const std::string& indent) {
  std::string names;
  std::string rows;
  for (std::size_t i = 0; i < report.names.size(); ++i) {
    names += (i == 0 ? "" : ", ") + report.names[i];
    std::string row;
    for (std::size_t j = 0; j <= i; ++j) {
      const auto at = report.covariance(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
      row += (j == 0 ? "" : ", ") + fmt::format("{:.2g}", at);
    }
    rows += (i == 0 ? "[" : ", [") + row + "]";
  }
  return fmt::format(
      "{0}points: {1}\n{0}error: {{median: {2:.4f}, p90: {3:.4f}}}\n"
      "{0}held_out_error: {{median: {4:.4f}, p90: {5:.4f}}}\n"
      "{0}covariance: {{of_logarithms: [{6}], lower_triangle: [{7}]}}\n",
      indent, report.error.points, report.error.middle, report.error.p90, report.held_out.middle,
      report.held_out.p90, names, rows);
}

constexpr Axes gemm_axes = {"m", "n", "k"};
constexpr Axes wave_axes = {"waves", "waste", "k"};
constexpr Axes shape_axes = {"rows", "columns", "tiles_an_sm"};
constexpr Axes layout_axes = {"batch", "kv_heads", "queries"};
constexpr Axes attention_axes = {"keys", "queries", "group"};

std::string write_tiles(const GemmCurve& curve) {
  std::string text = "    tiles:\n";
  for (const GemmTile& tile : curve.tiles) {
    text += fmt::format("      - {{rows: {}, columns: {}, efficiency: {:.4f}}}\n", tile.rows,
                        tile.columns, tile.efficiency);
  }
  return text;
}

std::string write_blocks(const BlockFigures& figures) {
  const bool hopper = figures.rule == BlockRule::deep_gemm_hopper;
  return fmt::format(
      "    blocks:\n      rule: {}\n      efficiency: {:.4f}\n      step: {}\n"
      "      load_rate: {:.4g}\n      quantise_share: {:.4f}\n      uneven: {}\n{}",
      hopper ? "deep_gemm_hopper" : "deep_gemm_blackwell", figures.efficiency,
      microseconds(figures.step), figures.load_rate, figures.quantise_share,
      microseconds(figures.uneven),
      hopper ? "      spill: " + microseconds(figures.spill) + "\n"
             : "      gather: " + microseconds(figures.gather) + "\n      plain_gather: " +
                   microseconds(figures.plain_gather) + "\n");
}

}  // namespace

std::string write_gemm_fit(const GemmFit& fit, const std::string& from) {
  const GemmCurve& curve = fit.curve;
  const Axes types = {"bf16", "fp8", "fp32"};
  const char* type = curve.type == KernelType::fp8_block
                         ? "fp8_block"
                         : types[static_cast<std::size_t>(curve.type)];
  const bool ruled = curve.blocks.rule != BlockRule::fastest;
  std::string text = fmt::format("  - type: {}\n", type);
  text += ruled ? write_blocks(curve.blocks) : write_tiles(curve);
  text += fmt::format(
      "    launch: {}\n    tile_start: {}\n    wave_share: {:.4f}\n    memory_share: {:.4f}\n"
      "    sharpness: {:.4g}\n    split_cost: {:.4g}\n    spread: {:.3f}\n",
      microseconds(curve.launch), microseconds(curve.tile_start), curve.wave_share,
      curve.memory_share, curve.sharpness, curve.split_cost, curve.spread);
  text += fmt::format("    range: {}\n", write_range(curve.range, gemm_axes));
  text += write_growth(curve.range, gemm_axes);
  text += write_report(fit.report, "    ") + fmt::format("    from: \"{}\"\n", from);
  text += write_correction(curve.correction, gemm_axes, "    ");
  return text + (ruled ? write_correction(curve.shapes, shape_axes, "    ", "shapes")
                       : write_correction(curve.waves, wave_axes, "    ", "waves"));
}

std::string write_memory_fit(const MemoryFit& fit, const std::string& from) {
  return fmt::format(
             "  efficiency: {:.4f}\n  launch: {}\n  ramp: {}\n  spread: {:.3f}\n"
             "  largest: {:.0f} B\n",
             fit.efficiency, microseconds(fit.launch), microseconds(fit.ramp), fit.spread,
             fit.largest) +
         write_report(fit.report, "  ") + fmt::format("  from: \"{}\"\n", from);
}

std::string write_derived_curve(const AttentionCurve& curve, const std::string& kernel,
                                bool backward, bool masked, const std::string& from) {
  std::string text = fmt::format(
      "  - kernel: {}\n    pass: {}\n    masked: {}\n    head_dim: {}\n    rows: {}\n"
      "    columns: {}\n    beta: {:.4g}\n    launch: {}\n    tile_start: {}\n"
      "    masked_step: {:.4g}\n    spread: {:.3f}\n    range: {}\n    from: \"{}\"\n",
      kernel, backward ? "backward" : "forward", masked ? "true" : "false", curve.head_dim,
      curve.rows, curve.columns, curve.beta, microseconds(curve.launch),
      microseconds(curve.tile_start), curve.masked_step, curve.spread,
      write_range(curve.range, attention_axes), from);
  text += write_growth(curve.range, attention_axes);
  if (!curve.correction.empty()) {
    text += write_correction(curve.correction, attention_axes, "    ");
  }
  if (!curve.layout.empty()) {
    text += write_correction(curve.layout, layout_axes, "    ", "layout");
  }
  return text;
}

std::string write_attention_fit(const AttentionFit& fit, const std::string& kernel, bool backward,
                                bool masked, const std::string& from) {
  return write_derived_curve(fit.curve, kernel, backward, masked, from) +
         write_report(fit.report, "    ");
}

std::string draw_residuals(const std::string& title, const FitReport& report) {
  constexpr double width = 480.0;
  constexpr double height = 200.0;
  constexpr double margin = 36.0;
  std::map<int, std::vector<double>> bins;  // quarters of a decade of seconds
  for (const auto& [seconds, ratio] : report.residuals) {
    bins[static_cast<int>(std::floor(4.0 * std::log10(seconds)))].push_back(ratio);
  }
  const int first = bins.begin()->first;
  const double step = (width - 2.0 * margin) / (bins.rbegin()->first - first + 1);
  const auto y = [&](double ratio) {  // from -30 % to +30 %
    return height / 2.0 - std::clamp(ratio - 1.0, -0.3, 0.3) / 0.3 * (height / 2.0 - margin);
  };
  std::string text = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "fill=\"white\"/>\n<text x=\"8\" y=\"16\">{2}</text>\n",
      width, height, title);
  for (const double tick : {0.7, 0.9, 1.0, 1.1, 1.3}) {
    text += fmt::format(
        "<path d=\"M{0:.0f} {1:.1f}H{2:.0f}\" stroke=\"#ccc\"/><text x=\"2\" y=\"{3:.1f}\">"
        "{4:+.0f} %</text>\n",
        margin, y(tick), width - 4.0, y(tick) + 4.0, 100.0 * (tick - 1.0));
  }
  for (const auto& [bin, ratios] : bins) {
    const double x = margin + (bin - first + 0.5) * step;
    text += fmt::format(
        "<path d=\"M{0:.1f} {1:.1f}V{2:.1f}\" stroke=\"#69c\"/><path d=\"M{0:.1f} {3:.1f}V{4:.1f}\" "
        "stroke=\"#69c\" stroke-width=\"6\"/><circle cx=\"{0:.1f}\" cy=\"{5:.1f}\" r=\"3\"/>\n",
        x, y(quantile(ratios, 0.1)), y(quantile(ratios, 0.9)), y(quantile(ratios, 0.25)),
        y(quantile(ratios, 0.75)), y(median(ratios)));
    if (bin % 4 == 0) {
      text += fmt::format("<text x=\"{:.1f}\" y=\"{:.0f}\">{:g} us</text>\n", x - step / 2.0,
                          height - 10.0, std::pow(10.0, bin / 4.0 + 6.0));
    }
  }
  return text + "</svg>\n";
}

}  // namespace longhaul
