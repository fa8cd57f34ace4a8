#include "sim/engine/ledger.h"

#include <algorithm>
#include <numeric>

#include "sim/units/check.h"

namespace longhaul {

std::int64_t Holdings::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0});
}

Ledger::Ledger(const Program& program, bool record)
    : holdings_(static_cast<std::size_t>(program.mesh.ranks())),
      peaks_(holdings_.size()),
      record_(record) {
  const auto framework = static_cast<std::int64_t>(program.framework_memory.value());
  for (std::size_t rank = 0; rank < holdings_.size(); ++rank) {
    hold(RankId(rank), MemoryCategory::framework, framework, SimTime());
    for (const Tensor& tensor : program.tensors) {
      if (!tensor.persistent || tensor.view) {
        continue;
      }
      const auto bytes =
          static_cast<std::int64_t>(tensor.slot_bytes().value()) * tensor.slots;
      if (tensor.in_host_memory) {
        hold_on_host(RankId(rank), bytes);
      } else {
        hold(RankId(rank), tensor.category, bytes, SimTime());
      }
    }
  }
}

void Ledger::hold(RankId rank, MemoryCategory category, std::int64_t bytes, SimTime now) {
  holdings_[rank.index].bytes[static_cast<std::size_t>(category)] += bytes;
  note_peak(rank, now);
}

void Ledger::give_back(RankId rank, MemoryCategory category, std::int64_t bytes, SimTime now) {
  std::int64_t& held = holdings_[rank.index].bytes[static_cast<std::size_t>(category)];
  held -= bytes;
  check(held >= 0, "a rank gave back more memory than it held");
  if (record_) {
    samples_.push_back({rank, now, holdings_[rank.index].total()});
  }
}

void Ledger::hold_on_host(RankId rank, std::int64_t bytes) {
  Holdings& mine = holdings_[rank.index];
  mine.host += bytes;
  check(mine.host >= 0, "a rank gave back more host memory than it held");
  peaks_[rank.index].host_peak = std::max(peaks_[rank.index].host_peak, mine.host);
}

void Ledger::note_peak(RankId rank, SimTime now) {
  const Holdings& mine = holdings_[rank.index];
  const std::int64_t total = mine.total();
  MemoryPeak& peak = peaks_[rank.index];
  if (total > peak.total) {
    peak.bytes = mine.bytes;
    peak.total = total;
    peak.when = now;
  }
  if (record_) {
    samples_.push_back({rank, now, total});
  }
}

void Ledger::skip(std::int64_t periods, const std::vector<Holdings>& earlier) {
  for (std::size_t rank = 0; rank < holdings_.size(); ++rank) {
    Holdings& mine = holdings_[rank];
    for (std::size_t i = 0; i < mine.bytes.size(); ++i) {
      mine.bytes[i] += periods * (mine.bytes[i] - earlier[rank].bytes[i]);
    }
    mine.host += periods * (mine.host - earlier[rank].host);
    peaks_[rank].host_peak = std::max(peaks_[rank].host_peak, mine.host);
  }
}

}  // namespace longhaul
