// The text of `nvidia-smi topo -m` as a matrix. Private to sim/topology.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"

namespace longhaul {

/// GPUs first, in order of their numbers, then adapters in order of the columns.
struct SmiMatrix {
  enum class Relation { unknown, self, nvlink, pix, pxb, phb, node, sys };
  struct Cell {
    Relation relation = Relation::unknown;
    int links = 0;  ///< of nvlink
    bool operator==(const Cell&) const = default;
  };

  std::vector<std::string> names;
  std::size_t gpus = 0;
  std::vector<Cell> cells;                    ///< symmetric; row by row
  std::vector<std::string> numa;              ///< NUMA affinity of a GPU; empty: not told
  std::vector<std::string> affinity;          ///< CPUs of a GPU; empty: not told
  std::vector<Place> rows;                    ///< of GPUs
  std::map<std::string, std::string> legend;  ///< NIC0 -> mlx5_0
  Place place;                                ///< of the header

  [[nodiscard]] bool is_gpu(std::size_t i) const { return i < gpus; }
  [[nodiscard]] const Cell& cell(std::size_t a, std::size_t b) const {
    return cells[a * names.size() + b];
  }
  /// What tells the NUMA node of a GPU: its number, or else its CPUs.
  [[nodiscard]] const std::string& home(std::size_t i) const {
    return numa[i].empty() ? affinity[i] : numa[i];
  }
};

/// True for a line with the matrix's header.
bool has_smi_header(const SourceText& source);

/// Reads the first matrix of a text. Escape sequences, markdown around it, columns that do not line
/// up, wrapped lines and missing rows of adapters are coped with; a second matrix is told about.
/// Records what is wrong (repeated rows, words that are no relation, GPUs without a row) and
/// returns nothing then.
std::optional<SmiMatrix> read_smi_matrix(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
