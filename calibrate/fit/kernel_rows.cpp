#include "calibrate/fit/kernel_rows.h"

#include <cmath>
#include <functional>

#include "calibrate/fit/csv_file.h"

namespace longhaul {

namespace {

constexpr double microsecond = 1e-6;

bool flag_allows(const std::string& flag, const RowChoice& choice) {
  return flag.empty() || (choice.slow_outliers && flag == "slow_outlier");
}

void for_each_row(CsvFile& file, const RowChoice& choice, const char* kind_column,
                  const std::function<void(const Cells&, std::size_t)>& take) {
  for (std::size_t line = 1; line < file.line_count(); ++line) {
    const Cells cells = file.cells(line);
    const bool taken = !cells.empty() && flag_allows(file.text(cells, "flag"), choice) &&
                       (choice.kind.empty() || file.text(cells, kind_column) == choice.kind) &&
                       (choice.source.empty() || file.text(cells, "source") == choice.source);
    if (taken) {
      take(cells, line);
    }
  }
}

std::int64_t count(CsvFile& file, const Cells& cells, std::size_t line, const char* column) {
  return std::llround(file.number(cells, line, column));
}

}  // namespace

std::vector<GemmRow> read_gemm_rows(const SourcePtr& source, const RowChoice& choice,
                                    KernelType type, Diagnostics& diagnostics) {
  CsvFile file(source, {"dtype", "m", "n", "k", "latency_us", "source", "flag"}, diagnostics);
  std::vector<GemmRow> rows;
  for_each_row(file, choice, "dtype", [&](const Cells& cells, std::size_t line) {
    GemmRow row;
    row.shape = {count(file, cells, line, "m"), count(file, cells, line, "n"),
                 count(file, cells, line, "k"), 1, type};
    row.seconds = file.number(cells, line, "latency_us") * microsecond;
    if (row.shape.m > 0 && row.shape.n > 0 && row.shape.k > 0 && row.seconds > 0.0) {
      rows.push_back(row);
    }
  });
  return rows;
}

std::vector<AttentionRow> read_attention_rows(const SourcePtr& source, const RowChoice& choice,
                                              Diagnostics& diagnostics) {
  CsvFile file(source,
               {"batch", "sequence_tokens", "query_heads", "kv_heads", "head_dim", "latency_us",
                "source", "kernel", "flag"},
               diagnostics);
  std::vector<AttentionRow> rows;
  for_each_row(file, choice, "kernel", [&](const Cells& cells, std::size_t line) {
    AttentionRow row;
    row.shape.batch = count(file, cells, line, "batch");
    row.shape.queries = row.shape.keys = count(file, cells, line, "sequence_tokens");
    row.shape.heads = count(file, cells, line, "query_heads");
    row.shape.kv_heads = count(file, cells, line, "kv_heads");
    row.shape.head_dim = count(file, cells, line, "head_dim");
    row.shape.backward = file.text(cells, "pass") == "backward";
    const std::string window = file.text(cells, "window_tokens");
    row.paged_cache = !window.empty();
    row.vllm = file.text(cells, "source").starts_with("vllm");
    if (row.paged_cache || file.text(cells, "causal") == "yes") {
      row.shape.band.upper = 0;
    }
    if (row.paged_cache && window != "0") {
      row.shape.band.lower = 1 - count(file, cells, line, "window_tokens");
    }
    row.seconds = file.number(cells, line, "latency_us") * microsecond;
    if (row.shape.batch > 0 && row.shape.queries > 0 && row.shape.heads > 0 &&
        row.shape.kv_heads > 0 && row.shape.head_dim > 0 && row.seconds > 0.0) {
      rows.push_back(row);
    }
  });
  return rows;
}

std::vector<StreamRow> read_memory_rows(const SourcePtr& source, const std::string& from,
                                        Diagnostics& diagnostics) {
  CsvFile file(source, {"k", "min_traffic_bytes", "latency_us", "flag"}, diagnostics);
  std::vector<StreamRow> rows;
  for_each_row(file, {"", from, false}, "operation", [&](const Cells& cells, std::size_t line) {
    const StreamRow row{file.number(cells, line, "min_traffic_bytes"),
                        file.number(cells, line, "k"),
                        file.number(cells, line, "latency_us") * microsecond};
    if (row.bytes > 0.0 && row.seconds > 0.0) {
      rows.push_back(row);
    }
  });
  return rows;
}

}  // namespace longhaul
