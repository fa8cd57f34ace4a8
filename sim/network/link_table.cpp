#include "sim/network/link_table.h"

namespace longhaul {

std::uint32_t LinkTable::add(LinkState& link, Visitor visitor) {
  const std::uint32_t place = link.size++;
  if (link.block == LinkState::nobody) {
    if (place < 2) {
      link.few[place] = visitor;
      return place;
    }
    take_block(link);
  }
  blocks_[link.block].push_back(visitor);
  return place;
}

void LinkTable::take_block(LinkState& link) {
  if (free_blocks_.empty()) {
    free_blocks_.push_back(static_cast<std::uint32_t>(blocks_.size()));
    blocks_.emplace_back();
  }
  link.block = free_blocks_.back();
  free_blocks_.pop_back();
  blocks_[link.block].assign({link.few[0], link.few[1]});
}

const Visitor* LinkTable::remove(LinkState& link, std::uint32_t place) {
  const std::uint32_t last = --link.size;
  if (link.block == LinkState::nobody) {
    link.few[place] = link.few[last];
    return place == last ? nullptr : &link.few[place];
  }
  std::vector<Visitor>& block = blocks_[link.block];
  block[place] = block[last];
  block.pop_back();
  if (last == 0) {
    free_blocks_.push_back(link.block);
    link.block = LinkState::nobody;
  }
  return place == last ? nullptr : &block[place];
}

}  // namespace longhaul
