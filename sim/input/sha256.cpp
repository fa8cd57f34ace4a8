// SHA-256 as in FIPS 180-4 (https://csrc.nist.gov/pubs/fips/180-4/upd1/final).
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "sim/input/presets.h"

namespace longhaul {

namespace {

using Word = std::uint32_t;

/// The first 32 bits of the fractional part of the `root`-th root (2 or 3) of a prime. The long
/// double has 64 bits of mantissa, the integer part of the largest one takes 5 of them (sqrt(19))
/// or 3 (cbrt(311)): enough for 32 more, and the test on known digests would see a wrong bit.
Word root_bits(int prime, int root) {
  const long double value = root == 2 ? std::sqrt(static_cast<long double>(prime))
                                      : std::cbrt(static_cast<long double>(prime));
  return static_cast<Word>((value - std::floor(value)) * 4294967296.0L);
}

template <std::size_t N>
std::array<Word, N> root_table(int root) {
  std::array<Word, N> table{};
  std::size_t filled = 0;
  for (int candidate = 2; filled < N; ++candidate) {
    bool prime = true;
    for (int divisor = 2; divisor * divisor <= candidate; ++divisor) {
      prime = prime && candidate % divisor != 0;
    }
    if (prime) {
      table[filled++] = root_bits(candidate, root);
    }
  }
  return table;
}

/// The text followed by a one bit, zeros and its length in bits (section 5.1.1).
std::string padded(const std::string& text) {
  std::string out = text + '\x80';
  out.resize((out.size() + 8 + 63) / 64 * 64 - 8);
  const std::uint64_t bits = std::uint64_t{text.size()} * 8;
  for (int shift = 56; shift >= 0; shift -= 8) {
    out += static_cast<char>(bits >> shift & 0xFF);
  }
  return out;
}

/// The 64 words of the message schedule of one block (section 6.2.2, step 1).
std::array<Word, 64> schedule_of(const char* block) {
  std::array<Word, 64> w{};
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t byte = 0; byte < 4; ++byte) {
      w[i] = w[i] << 8 | static_cast<unsigned char>(block[4 * i + byte]);
    }
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const Word a = w[i - 15];
    const Word b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) +
           (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
  }
  return w;
}

/// Steps 2 to 4 of section 6.2.2; the names are the standard's.
void absorb(std::array<Word, 8>& hash, const char* block) {
  static const std::array<Word, 64> k = root_table<64>(3);
  const std::array<Word, 64> w = schedule_of(block);
  auto [a, b, c, d, e, f, g, h] = hash;
  for (std::size_t i = 0; i < 64; ++i) {
    const Word sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const Word t1 = h + sum1 + ((e & f) ^ (~e & g)) + k[i] + w[i];
    const Word sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const Word t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const std::array<Word, 8> mixed{a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < hash.size(); ++i) {
    hash[i] += mixed[i];
  }
}

}  // namespace

std::string sha256_hex(const std::string& text) {
  std::array<Word, 8> hash = root_table<8>(2);
  const std::string message = padded(text);
  for (std::size_t at = 0; at < message.size(); at += 64) {
    absorb(hash, message.data() + at);
  }
  std::string out;
  for (const Word word : hash) {
    for (int shift = 28; shift >= 0; shift -= 4) {
      out += "0123456789abcdef"[word >> shift & 0xF];
    }
  }
  return out;
}

}  // namespace longhaul
