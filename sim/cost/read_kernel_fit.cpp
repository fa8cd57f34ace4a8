// Files that `longhaul_fit kernels` wrote: fitted curves and corrections of one device.
#include <cmath>

#include "sim/cost/profile.h"
#include "sim/input/presets.h"

namespace longhaul {

namespace {

std::vector<double> read_numbers(MapReader& reader, const std::string& key, double low, double high,
                                 Diagnostics& diagnostics) {
  std::vector<double> numbers;
  const auto list = reader.require(key);
  if (!list) {
    return numbers;
  }
  for (const YamlValue& item : list->items()) {
    const Parsed<double> parsed = parse_number(item.scalar());
    if (!parsed.ok() || !(parsed.value >= low && parsed.value <= high)) {
      diagnostics.error(item.place(), "bad-number", "'" + item.scalar() + "' in '" + key + "'",
                        "write numbers in the range of the format");
    }
    numbers.push_back(parsed.value);
  }
  return numbers;
}

// {axes: {m: [...], ...}, log: [...]}: knots of three axes and logarithms at their grid.
Correction read_correction(MapReader& parent, const char* key,
                           const std::array<const char*, 3>& axes, Diagnostics& diagnostics) {
  Correction correction;
  const auto value = parent.child(key);
  if (!value) {
    return correction;
  }
  MapReader reader(*value, key, diagnostics);
  std::size_t cells = 1;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    double last = -1.0;
    for (const double knot : read_numbers(reader, axes[axis], 1e-3, 1e12, diagnostics)) {
      if (!(knot > last)) {
        diagnostics.error(reader.place(axes[axis]), "bad-order", "knots must rise");
      }
      last = knot;
      correction.knots[axis].push_back(std::log2(std::max(knot, 1e-3)));
    }
    cells *= correction.knots[axis].size();
  }
  correction.values = read_numbers(reader, "log", -5.0, 5.0, diagnostics);
  if (correction.values.size() != cells || cells == 0) {
    diagnostics.error(reader.place("log"), "bad-table",
                      std::to_string(correction.values.size()) + " values on a grid of " +
                          std::to_string(cells),
                      "one value for each cell of the grid, the last axis fastest");
    correction = {};
  }
  reader.finish();
  return correction;
}

std::array<FittedRange, 3> read_range(MapReader& parent, const std::array<const char*, 3>& axes,
                                      Diagnostics& diagnostics) {
  std::array<FittedRange, 3> range;
  const auto value = parent.require("range");
  if (!value) {
    return range;
  }
  MapReader reader(*value, "range", diagnostics);
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    const std::vector<double> ends = read_numbers(reader, axes[axis], 0.0, 1e18, diagnostics);
    if (ends.size() == 2 && ends[0] <= ends[1]) {
      range[axis] = {ends[0], ends[1]};
    } else {
      diagnostics.error(reader.place(axes[axis]), "bad-range", "a range has two ends, low first");
    }
  }
  reader.finish();
  if (const auto growth = parent.child("growth")) {
    MapReader grown(*growth, "growth", diagnostics);
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
      if (grown.has(axes[axis])) {
        range[axis].growth = grown.number(axes[axis], 0.0, 10.0);
      }
    }
    grown.finish();
  }
  return range;
}

// What the fit says of itself is for people; the origin is demanded.
void finish_fit(MapReader& reader, Diagnostics& diagnostics) {
  if (!reader.has("from") && !reader.has("source")) {
    diagnostics.error(reader.value().place(), "missing-origin", "a fit needs its origin",
                      "add 'from:' (measurements) or 'source:' (a publication)");
  }
  for (const char* key : {"from", "source", "note", "points", "largest", "error", "held_out_error",
                          "parameters", "covariance"}) {
    reader.ignore(key);
  }
  reader.finish();
}

constexpr std::array<const char*, 3> gemm_axes = {"m", "n", "k"};
constexpr std::array<const char*, 3> wave_axes = {"waves", "waste", "k"};
constexpr std::array<const char*, 3> attention_axes = {"keys", "queries", "group"};
constexpr std::array<const char*, 3> layout_axes = {"batch", "kv_heads", "queries"};

constexpr std::array<const char*, 3> shape_axes = {"rows", "columns", "tiles_an_sm"};

BlockFigures read_blocks(const YamlValue& value, Diagnostics& diagnostics) {
  MapReader reader(value, "blocks", diagnostics);
  BlockFigures figures;
  figures.rule = static_cast<BlockRule>(
      1 + reader.choice("rule", {"deep_gemm_hopper", "deep_gemm_blackwell"}));
  figures.efficiency = reader.number("efficiency", 0.001, 1.0);
  figures.step = reader.seconds("step");
  figures.load_rate = reader.number("load_rate", 0.01, 1000.0);
  figures.quantise_share = reader.number("quantise_share", 0.001, 100.0);
  figures.uneven = reader.seconds("uneven");
  if (figures.rule == BlockRule::deep_gemm_hopper) {
    figures.spill = reader.seconds("spill");
  } else {
    figures.gather = reader.seconds("gather");
    figures.plain_gather = reader.seconds("plain_gather");
  }
  reader.finish();
  return figures;
}

std::vector<GemmTile> read_tiles(const YamlValue& value, Diagnostics& diagnostics) {
  std::vector<GemmTile> tiles;
  for (const YamlValue& item : value.items()) {
    MapReader tile(item, "tiles", diagnostics);
    tiles.push_back({tile.integer("rows", {1, 1024}), tile.integer("columns", {1, 1024}),
                     tile.number("efficiency", 0.001, 1.0)});
    tile.finish();
  }
  if (tiles.empty()) {
    diagnostics.error(value.place(), "empty-list", "'tiles' needs at least one tile");
  }
  return tiles;
}

GemmCurve read_gemm_fit(const YamlValue& value, Diagnostics& diagnostics) {
  MapReader reader(value, "gemm", diagnostics);
  GemmCurve curve;
  curve.type =
      static_cast<KernelType>(reader.choice("type", {"bf16", "fp8", "fp32", "fp8_block"}));
  if (const auto blocks = reader.child("blocks")) {
    curve.blocks = read_blocks(*blocks, diagnostics);
    curve.shapes = read_correction(reader, "shapes", shape_axes, diagnostics);
  } else if (const auto tiles = reader.require("tiles")) {
    curve.tiles = read_tiles(*tiles, diagnostics);
  }
  curve.launch = reader.seconds("launch");
  curve.tile_start = reader.seconds("tile_start");
  curve.wave_share = reader.number("wave_share", 0.0, 1.0);
  curve.memory_share = reader.number("memory_share", 0.01, 2.0);
  curve.sharpness = reader.number("sharpness", 0.0, 100.0);
  if (reader.has("split_cost")) {
    curve.split_cost = reader.number("split_cost", 0.0, 1000.0);
  }
  curve.spread = reader.number("spread", 0.0, 2.0);
  curve.correction = read_correction(reader, "correction", gemm_axes, diagnostics);
  curve.waves = read_correction(reader, "waves", wave_axes, diagnostics);
  curve.range = read_range(reader, gemm_axes, diagnostics);
  finish_fit(reader, diagnostics);
  return curve;
}

// The curve that serves a head size, or the place where one belongs (curves rise in head_dim).
AttentionCurve& curve_at(std::vector<AttentionCurve>& curves, std::int64_t head_dim) {
  for (auto at = curves.begin(); at != curves.end(); ++at) {
    if (at->head_dim == head_dim) {
      return *at;
    }
    if (at->head_dim > head_dim) {
      AttentionCurve copy = *at;
      copy.head_dim = head_dim;
      return *curves.insert(at, copy);
    }
  }
  curves.push_back(curves.back());
  curves.back().head_dim = head_dim;
  return curves.back();
}

void read_attention_fit(const YamlValue& value, KernelProfile& profile, Diagnostics& diagnostics) {
  MapReader reader(value, "attention", diagnostics);
  const std::string name = reader.text("kernel");
  const bool backward = reader.choice("pass", {"forward", "backward"}) == 1;
  const bool masked = reader.boolean("masked");
  AttentionFamily* family = nullptr;
  for (AttentionFamily& known : profile.attention) {
    family = known.name == name ? &known : family;
  }
  if (family == nullptr) {
    diagnostics.error(reader.place("kernel"), "no-kernel",
                      "the profile has no kernel '" + name + "' to be fitted",
                      "add its tiles to the profile, or leave out this fit");
    return;
  }
  AttentionPass& pass = backward ? family->backward : family->forward;
  const std::int64_t head_dim = reader.integer("head_dim", {1, 4096});
  AttentionCurve& curve = curve_at(masked ? pass.masked : pass.full, head_dim);
  curve.rows = reader.integer("rows", {1, 1024});
  curve.columns = reader.integer("columns", {1, 1024});
  curve.beta = reader.number("beta", 0.0, 100.0);
  curve.launch = reader.seconds("launch");
  curve.tile_start = reader.seconds("tile_start");
  curve.masked_step = reader.number("masked_step", 0.0, 10.0);
  curve.spread = reader.number("spread", 0.0, 2.0);
  curve.correction = read_correction(reader, "correction", attention_axes, diagnostics);
  curve.layout = read_correction(reader, "layout", layout_axes, diagnostics);
  curve.range = read_range(reader, attention_axes, diagnostics);
  finish_fit(reader, diagnostics);
}

void read_memory_fit(const YamlValue& value, KernelProfile& profile, Diagnostics& diagnostics) {
  MapReader reader(value, "memory", diagnostics);
  profile.memory_efficiency = reader.number("efficiency", 0.01, 1.0);
  profile.memory_launch = reader.seconds("launch");
  if (reader.has("ramp")) {
    profile.memory_ramp = reader.seconds("ramp");
  }
  profile.memory_spread = reader.number("spread", 0.0, 2.0);
  finish_fit(reader, diagnostics);
}

}  // namespace

void read_kernel_fit(const SourcePtr& source, KernelProfile& profile, Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return;
  }
  MapReader root(*document, "kernel fit", diagnostics);
  root.choice("format", {"longhaul-kernel-fit/1"});
  root.text("device");
  if (const auto list = root.child("gemm")) {
    profile.gemm.clear();
    for (const YamlValue& item : list->items()) {
      profile.gemm.push_back(read_gemm_fit(item, diagnostics));
    }
  }
  if (const auto list = root.child("attention")) {
    for (const YamlValue& item : list->items()) {
      read_attention_fit(item, profile, diagnostics);
    }
  }
  if (const auto memory = root.child("memory")) {
    read_memory_fit(*memory, profile, diagnostics);
  }
  root.finish();
  profile.origins.push_back(source->name + " sha256:" + sha256_hex(source->text).substr(0, 16));
}

}  // namespace longhaul
