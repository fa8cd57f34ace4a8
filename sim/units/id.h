// Ids are types: a RankId is not a LinkId, and nothing is -1.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace longhaul {

/// A dense index into a table, distinct per Tag.
template <class Tag>
struct Id {
  std::uint32_t index = 0;
  constexpr Id() = default;
  constexpr explicit Id(std::size_t i) : index(static_cast<std::uint32_t>(i)) {}
  constexpr auto operator<=>(const Id&) const = default;
};

using RankId = Id<struct RankTag>;      ///< a process of the job, 0..world-1, placed on one GPU
using GpuId = Id<struct GpuTag>;        ///< a GPU of the cluster
using LinkId = Id<struct LinkTag>;      ///< one directed link of the cluster
using FlowId = Id<struct FlowTag>;      ///< one transfer in progress
using TensorId = Id<struct TensorTag>;  ///< a tensor declaration of a program
using GroupId = Id<struct GroupTag>;    ///< a communicator of a program
using LoopId = Id<struct LoopTag>;      ///< a loop of a program

}  // namespace longhaul
