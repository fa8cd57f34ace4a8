// Kernel profiles from YAML, and finding the one for a device.
#include <algorithm>
#include <map>
#include <mutex>

#include "sim/cost/profile.h"
#include "sim/input/presets.h"

namespace longhaul {

namespace {

constexpr const char* generic_name = "generic";

const AttentionFamily* find_family(const KernelProfile& profile, const std::string& name) {
  for (const AttentionFamily& family : profile.attention) {
    if (family.name == name) {
      return &family;
    }
  }
  return nullptr;
}

// A kernel that nobody has described is never priced in silence.
void warn_of_substitute(const Device& device, const KernelProfile& profile,
                        const std::string& attention, Diagnostics& diagnostics) {
  if (attention.empty() || find_family(profile, attention) != nullptr) {
    return;
  }
  std::string known;
  for (const AttentionFamily& family : profile.attention) {
    known += (known.empty() ? "" : ", ") + family.name;
  }
  diagnostics.warning({}, "no-kernel",
                      "attention kernel '" + attention + "' has no profile on device '" +
                          device.name + "': '" + profile.attention.front().name +
                          "' is priced instead",
                      "profiled kernels of this device: " + known);
}

// A fitted or published number: {value: ..., spread: ..., source: ...} or {..., from: ...}.
class Entry {
 public:
  Entry(MapReader& parent, const std::string& key, Diagnostics& diagnostics) {
    const auto value = parent.require(key);
    if (value) {
      reader_.emplace(*value, key, diagnostics);
    }
  }
  ~Entry() {
    if (reader_) {
      demand_origin(*reader_);
      reader_->finish();
    }
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  double number(double low, double high) {
    return reader_ ? reader_->number("value", low, high) : low;
  }
  Seconds seconds() { return reader_ ? reader_->seconds("value") : Seconds(); }
  double spread() { return reader_ ? reader_->number("spread", 0.0, 2.0, 0.1) : 0.0; }

 private:
  std::optional<MapReader> reader_;
};

std::vector<AttentionCurve> read_curves(MapReader& parent, const std::string& key,
                                        Diagnostics& diagnostics) {
  std::vector<AttentionCurve> curves;
  const auto list = parent.require(key);
  if (!list) {
    return curves;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, key, diagnostics);
    AttentionCurve curve;
    curve.head_dim = reader.integer("head_dim", {1, 4096});
    curve.rows = reader.integer("rows", {1, 1024});
    curve.columns = reader.integer("columns", {1, 1024});
    curve.beta = reader.number("beta", 0.0, 100.0);
    reader.finish();
    curves.push_back(curve);
  }
  if (curves.empty()) {
    diagnostics.error(list->place(), "empty-list", "'" + key + "' needs at least one curve");
    curves.emplace_back();
  }
  return curves;
}

AttentionPass read_pass(MapReader& parent, const std::string& key, Diagnostics& diagnostics) {
  AttentionPass pass;
  const auto value = parent.require(key);
  if (!value) {
    return pass;
  }
  MapReader reader(*value, key, diagnostics);
  pass.full = read_curves(reader, "full", diagnostics);
  pass.masked = read_curves(reader, "masked", diagnostics);
  const Seconds launch = reader.seconds("launch");
  const Seconds tile_start = reader.seconds("tile_start");
  const double masked_step = reader.number("masked_step", 0.0, 10.0);
  const double spread = reader.number("spread", 0.0, 2.0);
  if (reader.has("order")) {
    pass.order = static_cast<TileOrder>(reader.choice("order", {"longest", "rows", "grid"}));
  }
  for (std::vector<AttentionCurve>* curves : {&pass.full, &pass.masked}) {
    for (AttentionCurve& curve : *curves) {
      curve.launch = launch;
      curve.tile_start = tile_start;
      curve.masked_step = masked_step;
      curve.spread = spread;
    }
  }
  demand_origin(reader, "'" + key + "'");
  reader.finish();
  return pass;
}

void read_attention(MapReader& root, KernelProfile& profile, Diagnostics& diagnostics) {
  const auto list = root.require("attention");
  if (!list) {
    return;
  }
  for (const YamlValue& item : list->items()) {
    MapReader reader(item, "attention", diagnostics);
    AttentionFamily family;
    family.name = reader.text("kernel");
    family.materialised = reader.boolean("materialised", false);
    family.forward = read_pass(reader, "forward", diagnostics);
    family.backward = read_pass(reader, "backward", diagnostics);
    reader.finish();
    profile.attention.push_back(std::move(family));
  }
}

void read_gemm(MapReader& root, KernelProfile& profile, Diagnostics& diagnostics) {
  const auto value = root.require("gemm");
  if (!value) {
    return;
  }
  MapReader reader(*value, "gemm", diagnostics);
  GemmCurve curve;
  if (const auto tiles = reader.require("tiles")) {
    for (const YamlValue& item : tiles->items()) {
      MapReader tile(item, "tiles", diagnostics);
      curve.tiles.push_back({tile.integer("rows", {1, 1024}), tile.integer("columns", {1, 1024}),
                             tile.number("efficiency", 0.01, 1.0)});
      tile.finish();
    }
    if (curve.tiles.empty()) {
      diagnostics.error(tiles->place(), "empty-list", "'tiles' needs at least one tile");
    }
  }
  curve.launch = reader.seconds("launch");
  curve.tile_start = reader.seconds("tile_start");
  curve.spread = reader.number("spread", 0.0, 2.0);
  reader.ignore("source");
  reader.ignore("from");
  reader.finish();
  profile.gemm.push_back(std::move(curve));
}

constexpr std::string_view built_in = "built-in: ";

// `fit: kernels/h100.yaml` is a file of the folder above the profile's: built in, if the profile is.
void read_fit(MapReader& root, const SourcePtr& source, KernelProfile& profile,
              Diagnostics& diagnostics) {
  if (!root.has("fit")) {
    return;
  }
  const std::string own = source->name.substr(0, source->name.rfind('/'));
  const std::string path = own.substr(0, own.rfind('/') + 1) + root.text("fit");
  const auto fit = path.starts_with(built_in) ? embedded_file(path.substr(built_in.size()))
                                              : read_source(path, diagnostics);
  if (fit) {
    read_kernel_fit(*fit, profile, diagnostics);
  } else {
    diagnostics.error(root.place("fit"), "no-fit", "there is no file " + path,
                      "name a file under calibrate/profiles, as in 'fit: kernels/h100.yaml'");
  }
}

std::shared_ptr<const KernelProfile> read_profile_for(const Device& device,
                                                      Diagnostics& diagnostics) {
  std::shared_ptr<const KernelProfile> generic;
  for (const std::string& path : embedded_files("calibrate/profiles/devices")) {
    const auto source = embedded_file(path);
    auto profile = source ? read_kernel_profile(*source, diagnostics) : std::nullopt;
    if (!profile) {
      continue;
    }
    const auto& names = profile->devices;
    const bool mine = std::find(names.begin(), names.end(), device.name) != names.end();
    const bool fallback = profile->name == generic_name;
    if (mine || fallback) {
      auto shared = std::make_shared<const KernelProfile>(std::move(*profile));
      if (mine) {
        return shared;
      }
      generic = shared;
    }
  }
  if (generic) {
    diagnostics.warning(
        {}, "no-profile",
        "no kernel profile for device '" + device.name + "': generic efficiencies are used",
        "calibrate the device, or treat the result as a rough guess");
  }
  return generic;
}

// Embedded profiles never change while the program runs, so each device's is read once.
std::shared_ptr<const KernelProfile> profile_for(const Device& device, Diagnostics& diagnostics) {
  static std::mutex guard;
  const std::lock_guard lock(guard);
  static std::map<std::string, std::shared_ptr<const KernelProfile>> known;
  const auto found = known.find(device.name);
  if (found != known.end()) {
    return found->second;
  }
  auto profile = read_profile_for(device, diagnostics);
  if (profile && profile->name != generic_name) {
    known.emplace(device.name, profile);
  }
  return profile;
}

}  // namespace

std::optional<KernelProfile> read_kernel_profile(const SourcePtr& source,
                                                 Diagnostics& diagnostics) {
  const auto document = YamlValue::parse(source, diagnostics);
  if (!document) {
    return std::nullopt;
  }
  KernelProfile profile;
  MapReader root(*document, "kernel profile", diagnostics);
  root.choice("format", {"longhaul-kernels/1"});
  profile.name = root.text("name");
  profile.devices = root.texts("devices");
  profile.calibrated = root.boolean("calibrated");
  read_attention(root, profile, diagnostics);
  read_gemm(root, profile, diagnostics);
  {
    Entry entry(root, "memory_efficiency", diagnostics);
    profile.memory_efficiency = entry.number(0.01, 1.0);
    profile.memory_spread = entry.spread();
  }
  {
    Entry entry(root, "memory_launch", diagnostics);
    profile.memory_launch = entry.seconds();
  }
  {
    Entry entry(root, "sustained", diagnostics);
    profile.sustained = entry.number(0.1, 1.0);
    profile.sustained_attention = profile.sustained;
  }
  if (root.has("sustained_attention")) {
    Entry entry(root, "sustained_attention", diagnostics);
    profile.sustained_attention = entry.number(0.1, 1.0);
  }
  {
    Entry entry(root, "odd_rows", diagnostics);
    profile.odd_rows = entry.number(1.0, 20.0);
  }
  if (root.has("zeros")) {
    Entry entry(root, "zeros", diagnostics);
    profile.zeros = entry.number(1.0, 2.0);
  }
  {
    Entry entry(root, "accumulate_share", diagnostics);
    profile.accumulate_share = entry.number(0.0, 2.0);
  }
  {
    Entry entry(root, "interference", diagnostics);
    profile.interference = entry.number(0.0, 2.0);
  }
  for (GemmCurve& curve : profile.gemm) {
    curve.memory_share = profile.memory_efficiency;
  }
  profile.origins.push_back(source->name + " sha256:" + sha256_hex(source->text).substr(0, 16));
  read_fit(root, source, profile, diagnostics);
  root.finish();
  if (diagnostics.has_errors() || profile.attention.empty() || profile.gemm.empty()) {
    return std::nullopt;
  }
  return profile;
}

KernelCosts::KernelCosts(const Device& device, std::shared_ptr<const KernelProfile> profile,
                         const std::string& attention)
    : device_(device),
      profile_(std::move(profile)),
      family_(find_family(*profile_, attention)),
      sustained_(profile_->sustained),
      sustained_attention_(profile_->sustained_attention),
      generic_(profile_->name == generic_name),
      substituted_(!attention.empty() && family_ == nullptr) {
  if (family_ == nullptr) {
    family_ = &profile_->attention.front();
  }
}

KernelCosts KernelCosts::at_burst() const {
  KernelCosts copy = *this;
  copy.sustained_ = 1.0;
  copy.sustained_attention_ = 1.0;
  return copy;
}

bool KernelCosts::calibrated() const { return profile_->calibrated; }

const std::vector<std::string>& KernelCosts::origins() const { return profile_->origins; }

KernelCosts find_kernel_costs(const Device& device, const std::string& attention,
                              Diagnostics& diagnostics) {
  auto profile = profile_for(device, diagnostics);
  if (!profile) {
    diagnostics.error({}, "no-profile", "no usable kernel profile was found");
    throw InputError(diagnostics);
  }
  warn_of_substitute(device, *profile, attention, diagnostics);
  return KernelCosts(device, std::move(profile), attention);
}

}  // namespace longhaul
