#include "sim/input/value_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/units/check.h"

namespace longhaul {

void TreeBuilder::add_null(const Place& place) {
  auto node = std::make_shared<Node>();
  node->place = place;
  attach(node);
}

void TreeBuilder::add_scalar(const Place& place, std::string text, bool quoted) {
  auto node = std::make_shared<Node>();
  node->kind = Node::Kind::scalar;
  node->text = std::move(text);
  node->quoted = quoted;
  node->place = place;
  attach(node);
}

void TreeBuilder::add_copy(const Place& place, const Node& node) {
  auto copy = std::make_shared<Node>(node);
  copy->place = place;
  copy->key_place.reset();
  attach(copy);
}

bool TreeBuilder::open(const Place& place, Node::Kind kind) {
  if (levels_.size() >= nesting_limit) {
    diagnostics_.error(place, "too-deep",
                       fmt::format("nested more than {} levels deep", nesting_limit),
                       "no format of longhaul is nested that deep; is this the right file?");
    return false;
  }
  auto node = std::make_shared<Node>();
  node->kind = kind;
  node->place = place;
  newest_ = node;
  levels_.push_back({node, std::nullopt, {}, false});
  return true;
}

void TreeBuilder::close() {
  check(!levels_.empty(), "a parser closes only what it opened");
  const Node::Pointer node = levels_.back().node;
  levels_.pop_back();
  attach(node);
}

void TreeBuilder::attach(const Node::Pointer& node) {
  newest_ = node;
  if (levels_.empty()) {
    root_ = node;
    return;
  }
  Level& level = levels_.back();
  if (level.node->kind == Node::Kind::sequence) {
    if (node->kind == Node::Kind::null) {
      // yaml-cpp puts a missing item where the next thing stands; its list is the nearest truth.
      node->place = level.node->place;
    }
    level.node->items.push_back(node);
  } else if (!level.key) {
    take_key(level, *node);
  } else {
    take_value(level, node);
  }
}

void TreeBuilder::take_key(Level& level, const Node& node) {
  level.key = node.text;
  level.key_place = node.place;
  level.skip = true;
  if (node.kind != Node::Kind::scalar) {
    diagnostics_.error(node.place, "bad-key", "a key must be a word",
                       "write 'key: value'; quote the key if it is null or has brackets");
    return;
  }
  if (node.text == "<<" && !node.quoted) {
    diagnostics_.error(node.place, "merge-key", "merge keys ('<<') are not supported",
                       "write the merged keys out");
    return;
  }
  const auto& entries = level.node->entries;
  const auto first = std::find_if(entries.begin(), entries.end(),
                                  [&](const auto& entry) { return entry.first == node.text; });
  if (first != entries.end()) {
    diagnostics_.error(node.place, "repeated-key",
                       fmt::format("key '{}' is given twice", node.text),
                       fmt::format("it was first given on line {}; keep one of the two",
                                   first->second->key_place->line));
    return;
  }
  level.skip = false;
}

void TreeBuilder::take_value(Level& level, const Node::Pointer& node) {
  if (!level.skip) {
    node->key_place = level.key_place;
    if (node->kind == Node::Kind::null) {
      // yaml-cpp gives an empty value the place of the next thing in the file.
      node->place = level.key_place;
    }
    level.node->entries.emplace_back(*level.key, node);
  }
  level.key.reset();
}

}  // namespace longhaul
