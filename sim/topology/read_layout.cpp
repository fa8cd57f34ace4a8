// Layouts of nodes from maps: lists of seats, each a word or a map with its rates.
#include <fmt/format.h>

#include "sim/topology/read_parts.h"

namespace longhaul {

namespace {

constexpr const char* seat_help =
    "write cpu0, cpu1, ... for a socket (cpu0.bridge1 for one of its host bridges) or pcie0, "
    "pcie1, ... for a PCIe switch";

/// The number behind `prefix`, up to the end of the text.
std::optional<int> number_after(const std::string& text, const std::string& prefix) {
  if (!text.starts_with(prefix)) {
    return std::nullopt;
  }
  const Parsed<std::int64_t> parsed = parse_integer(text.substr(prefix.size()));
  const bool sound = parsed.ok() && parsed.value >= 0 && parsed.value < 100000;
  return sound ? std::optional(static_cast<int>(parsed.value)) : std::nullopt;
}

std::optional<Seat> parse_seat(const std::string& text) {
  if (const auto index = number_after(text, "pcie")) {
    return Seat{Seat::Kind::pcie_switch, *index, std::nullopt};
  }
  const std::size_t dot = text.find('.');
  const auto socket = number_after(text.substr(0, dot), "cpu");
  if (!socket || dot == text.npos) {
    return socket ? std::optional(Seat{Seat::Kind::socket, *socket, std::nullopt}) : std::nullopt;
  }
  const auto bridge = number_after(text.substr(dot + 1), "bridge");
  return bridge ? std::optional(Seat{Seat::Kind::socket, *socket, bridge}) : std::nullopt;
}

Seat read_seat(const YamlValue& value, Diagnostics& diagnostics) {
  const std::optional<Seat> seat = parse_seat(value.scalar());
  if (!seat) {
    diagnostics.error(value.place(), "bad-seat",
                      fmt::format("'{}' is no place for a part", value.scalar()), seat_help);
  }
  return seat.value_or(Seat{});
}

/// Reads every item of a list: a seat alone, or a map with `on` that `read` reads further.
template <class Place, class Read>
std::vector<Place> read_places(MapReader& layout, const std::string& key, Read read) {
  std::vector<Place> places;
  const std::optional<YamlValue> list = layout.child(key);
  if (!list) {
    return places;
  }
  if (!list->is_sequence()) {
    layout.diagnostics().error(list->place(), "wrong-type", fmt::format("'{}' must be a list", key),
                               "one item per part");
    return places;
  }
  for (const YamlValue& item : list->items()) {
    Place place;
    if (item.is_map()) {
      MapReader reader(item, fmt::format("item of '{}'", key), layout.diagnostics());
      if (const auto seat = reader.require("on")) {
        place.seat = read_seat(*seat, layout.diagnostics());
      }
      read(reader, place);
      reader.finish();
    } else {
      place.seat = read_seat(item, layout.diagnostics());
    }
    places.push_back(std::move(place));
  }
  return places;
}

}  // namespace

Layout read_layout(const YamlValue& map, Diagnostics& diagnostics) {
  MapReader reader(map, "'layout'", diagnostics);
  Layout layout;
  layout.switches =
      read_places<SwitchPlace>(reader, "switches", [](MapReader& item, SwitchPlace& place) {
        place.uplink = item.bytes_per_second("uplink", {});
      });
  layout.gpus = read_places<GpuPlace>(reader, "gpus", [](MapReader& item, GpuPlace& place) {
    place.slot = item.bytes_per_second("slot", {});
  });
  layout.nics = read_places<NicPlace>(reader, "nics", [](MapReader& item, NicPlace& place) {
    place.name = item.text("name", "");
    place.rate = item.bytes_per_second("rate", {});
    place.slot = item.bytes_per_second("slot", {});
    place.storage = item.boolean("storage", false);
  });
  reader.text("source", "");
  reader.finish();
  return layout;
}

}  // namespace longhaul
