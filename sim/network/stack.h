// A vector whose places are written in use, not made and destroyed: for scratch that is filled anew
// millions of times a second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace longhaul {

/// Items 0 .. size()-1 hold; add() gives the next place, whatever it held before.
template <class Item>
class Stack {
 public:
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  void clear() { size_ = 0; }
  Item& add() {
    if (size_ == room_) {
      grow();
    }
    return items_[size_++];
  }
  Item& operator[](std::size_t i) { return items_[i]; }
  const Item& operator[](std::size_t i) const { return items_[i]; }
  Item* begin() { return items_.data(); }
  Item* end() { return items_.data() + size_; }
  const Item* begin() const { return items_.data(); }
  const Item* end() const { return items_.data() + size_; }

 private:
  // Out of line: add() is inlined where every instruction counts.
  [[gnu::noinline]] void grow() {
    room_ = 2 * room_ + 16;
    items_.resize(room_);
  }
  std::vector<Item> items_;
  std::uint32_t room_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace longhaul
