#include "kernels/common/emulated_hopper.h"

#include <cstring>
#include <stdexcept>

namespace longhaul::kernels {

void EmulatedBarrier::arrive() {
  if (pending_ <= 0) throw std::logic_error("an mbarrier has more arrivals than a phase expects");
  --pending_;
  end_phase();
}

void EmulatedBarrier::arrive_expecting(int bytes) {
  bytes_ += bytes;
  arrive();
}

void EmulatedBarrier::complete(int bytes) {
  bytes_ -= bytes;
  end_phase();
}

void EmulatedBarrier::end_phase() {
  if (pending_ > 0 || bytes_ != 0) return;
  pending_ = arrivals_;
  phase_ ^= 1;
}

int EmulatedNamedBarrier::arrive(int threads, int count) {
  arrived_ += count;
  if (arrived_ > threads) throw std::logic_error("a named barrier has too many arrivals");
  const int round = round_;
  if (arrived_ < threads) return round;
  arrived_ = 0;
  ++round_;
  return round;
}

void EmulatedMemory::copy_box(const EmulatedTensor& tensor, std::uint32_t destination, int rows,
                              int column, int row, int head, int batch) {
  if (destination % 1024 != 0) throw std::logic_error("a swizzled box begins between atoms");
  const int size = tensor.bytes != nullptr ? 1 : 2;  // of an element
  for (int r = 0; r < rows; ++r) {
    for (int byte = 0; byte < 128; ++byte) {
      const int c = column + byte / size;
      const bool inside = row + r >= 0 && row + r < tensor.rows && c < tensor.columns &&
                          head < tensor.heads && batch < tensor.batches;
      std::uint8_t value = 0;
      if (inside) {
        const long line = (static_cast<long>(batch) * tensor.rows + row + r) * tensor.heads + head;
        const long at = line * tensor.columns + c;
        value = size == 1 ? (*tensor.bytes)[at].bits
                          : static_cast<std::uint8_t>((*tensor.values)[at].bits >> byte % 2 * 8);
      }
      // Chunks of 16 bytes of a 128-byte row change places with those of row mod 8.
      const int chunk = (byte / 16) ^ (r % 8);
      bytes_.at(destination + r * 128 + chunk * 16 + byte % 16) = value;
    }
  }
}

std::uint32_t EmulatedMemory::load_word(std::uint32_t address) const {
  std::uint32_t word;
  std::memcpy(&word, &bytes_.at(address), 4);
  return word;
}

void EmulatedMemory::store_word(std::uint32_t address, std::uint32_t word) {
  std::memcpy(&bytes_.at(address), &word, 4);
}

namespace {

struct Fields {
  std::uint32_t start, leading, stride;
};

// PTX ISA, "Matrix Descriptor Format".
Fields fields_of(std::uint64_t descriptor) {
  if (descriptor >> 62 != 1) throw std::logic_error("the descriptor has no 128-byte swizzle");
  if ((descriptor >> 49 & 7) != 0) throw std::logic_error("the descriptor has a base offset");
  const auto field = [&](int bit) {
    return static_cast<std::uint32_t>(descriptor >> bit & 0x3fff) * 16;
  };
  return {field(0), field(16), field(32)};
}

}  // namespace

template <class Element>
Element EmulatedMemory::load(std::uint32_t address) const {
  const std::uint32_t swizzled = address ^ ((address >> 7 & 7) << 4);
  Element value;
  std::memcpy(&value, &bytes_.at(swizzled), sizeof value);
  return value;
}

// Canonical layout, in elements: ((8, m / 8), k) with strides ((64, SBO), 1).
float EmulatedMemory::k_major(std::uint64_t descriptor, int m, int k) const {
  const Fields fields = fields_of(descriptor);
  return to_float(load<Bfloat16>(fields.start + m % 8 * 128 + m / 8 * fields.stride + k * 2));
}

float EmulatedMemory::k_major_float8(std::uint64_t descriptor, int m, int k) const {
  const Fields fields = fields_of(descriptor);
  return to_float(load<Float8>(fields.start + m % 8 * 128 + m / 8 * fields.stride + k));
}

// Canonical layout, in elements: ((64, n / 64), (8, k / 8)) with strides ((1, LBO), (64, SBO)).
float EmulatedMemory::n_major(std::uint64_t descriptor, int k, int n) const {
  const Fields fields = fields_of(descriptor);
  return to_float(load<Bfloat16>(fields.start + n % 64 * 2 + n / 64 * fields.leading + k % 8 * 128 +
                                 k / 8 * fields.stride));
}

int accumulator_row(int warp, int lane, int i) {
  const int group = lane / 4;
  return warp * 16 + group + ((i & 2) != 0 ? 8 : 0);
}

int accumulator_column(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + (i & 1); }

}  // namespace longhaul::kernels
