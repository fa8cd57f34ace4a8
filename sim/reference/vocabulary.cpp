// Embedding and loss, parallel over the vocabulary: a rank has the rows (columns of logits) that
// the shards of its table (of its logits' last dimension) say.
#include <algorithm>
#include <cmath>
#include <map>

#include "sim/program/layout.h"
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// Global index -> local index of one dimension of a tensor on a rank.
std::map<std::int64_t, std::int64_t> owned(const Call& call, const Tensor& tensor,
                                           std::size_t dim) {
  std::map<std::int64_t, std::int64_t> local_of;
  for (std::int64_t i = 0; i < tensor.shape[dim]; ++i) {
    local_of[global_index(call.program.mesh, tensor.shards[dim], tensor.shape[dim], call.rank, i)] =
        i;
  }
  return local_of;
}

std::int64_t id_of(const Array& ids, std::int64_t t) {
  return std::llround(ids.values[static_cast<std::size_t>(t)]);
}

}  // namespace

void compute_embed(Call& call) {
  const Array& tokens = call.reads[0];
  const Array& table = call.reads[1];
  const std::int64_t width = table.size(1);
  need(call.writes[0].elements() == tokens.elements() * width, "writes one row per token");
  const auto rows = owned(call, call.read_tensor(1), 0);
  for (std::int64_t t = 0; t < tokens.elements(); ++t) {
    const auto found = rows.find(id_of(tokens, t));
    if (found != rows.end()) {
      std::copy_n(table.values.begin() + found->second * width, width,
                  call.writes[0].values.begin() + t * width);
    }
  }
}

void compute_embed_backward(Call& call) {
  const Array& tokens = call.reads[0];
  const Array& dy = call.reads[1];
  Array& d_table = call.writes[0];
  const std::int64_t width = d_table.size(1);
  need(dy.elements() == tokens.elements() * width, "reads one row per token");
  const auto rows = owned(call, call.written_tensor(0), 0);
  for (std::int64_t t = 0; t < tokens.elements(); ++t) {
    const auto found = rows.find(id_of(tokens, t));
    for (std::int64_t i = 0; found != rows.end() && i < width; ++i) {
      d_table.values[static_cast<std::size_t>(found->second * width + i)] +=
          dy.values[static_cast<std::size_t>(t * width + i)];
    }
  }
}

// A label that another rank has counts 0 here, so that the logits of the label add up.
void compute_loss_statistics(Call& call) {
  const Array& logits = call.reads[0];
  const Array& labels = call.reads[1];
  const std::int64_t width = logits.size(-1);
  need(logits.elements() == labels.elements() * width &&
           call.writes[0].elements() == 3 * labels.elements(),
       "keeps three numbers per token");
  const Tensor& tensor = call.read_tensor(0);
  const auto columns = owned(call, tensor, tensor.shape.size() - 1);
  for (std::int64_t t = 0; t < labels.elements(); ++t) {
    const double* row = logits.values.data() + t * width;
    const double top = *std::max_element(row, row + width);
    double sum = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      sum += std::exp(row[i] - top);
    }
    const auto found = columns.find(id_of(labels, t));
    double* out = call.writes[0].values.data() + 3 * t;
    out[0] = top;
    out[1] = sum;
    out[2] = found == columns.end() ? 0.0 : row[found->second];
  }
}

void compute_loss(Call& call) {
  const Array& logits = call.reads[0];
  const Array& labels = call.reads[1];
  const Array& statistics = call.reads[2];
  const std::int64_t width = logits.size(-1);
  const std::int64_t tokens = labels.elements();
  const std::int64_t ranks = statistics.size(0);
  need(logits.elements() == tokens * width && statistics.elements() == 3 * tokens * ranks &&
           call.writes[0].elements() == tokens && call.writes[1].elements() == logits.elements(),
       "needs three numbers per token of every rank");
  const Tensor& tensor = call.read_tensor(0);
  const auto columns = owned(call, tensor, tensor.shape.size() - 1);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto of = [&](std::int64_t rank) {
      return statistics.values.data() + 3 * (rank * tokens + t);
    };
    double top = of(0)[0];
    for (std::int64_t r = 1; r < ranks; ++r) {
      top = std::max(top, of(r)[0]);
    }
    double sum = 0, of_label = 0;
    for (std::int64_t r = 0; r < ranks; ++r) {
      sum += of(r)[1] * std::exp(of(r)[0] - top);
      of_label += of(r)[2];
    }
    call.writes[0].values[static_cast<std::size_t>(t)] = top + std::log(sum) - of_label;
    for (const auto& [column, i] : columns) {
      const auto at = static_cast<std::size_t>(t * width + i);
      const double softmax = std::exp(logits.values[at] - top) / sum;
      const double hit = column == id_of(labels, t) ? 1.0 : 0.0;
      call.writes[1].values[at] = (softmax - hit) * call.instruction.scale;
    }
  }
}

}  // namespace longhaul
