#include "sim/topology/smi_matrix.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/units/parse.h"

namespace longhaul {

namespace {

struct Word {
  std::string text;
  Place place;
};
using Words = std::vector<Word>;

/// Length of the escape sequence ("ESC [ ... letter") at a place of a line; 0 if there is none.
std::size_t escape_length(const std::string& line, std::size_t at) {
  if (line[at] != '\x1b') {
    return 0;
  }
  std::size_t end = at + 1;
  if (end < line.size() && line[end] == '[') {
    for (++end; end < line.size() && !std::isalpha(static_cast<unsigned char>(line[end]));) {
      ++end;
    }
    return std::min(end + 1, line.size()) - at;
  }
  return 1;
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }

Words words_of(const SourcePtr& source, const std::string& line, int number) {
  Words words;
  bool inside = false;
  for (std::size_t at = 0; at < line.size();) {
    if (const std::size_t escape = escape_length(line, at)) {
      at += escape;
      continue;
    }
    if (is_space(line[at])) {
      inside = false;
    } else if (inside) {
      words.back().text += line[at];
    } else {
      words.push_back({std::string(1, line[at]), {source, number, static_cast<int>(at) + 1, 1}});
      inside = true;
    }
    ++at;
  }
  for (Word& word : words) {
    word.place.length = static_cast<int>(word.text.size());
  }
  return words;
}

std::vector<Words> lines_of(const SourcePtr& source) {
  std::vector<Words> lines;
  const std::string& text = source->text;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    lines.push_back(
        words_of(source, text.substr(from, end - from), static_cast<int>(lines.size()) + 1));
    from = end + 1;
  }
  return lines;
}

/// The number of a word such as GPU12.
std::optional<int> gpu_number(const std::string& word) {
  if (!word.starts_with("GPU") || word.size() > 8) {
    return std::nullopt;
  }
  const Parsed<std::int64_t> parsed = parse_integer(word.substr(3));
  return parsed.ok() && parsed.value >= 0 ? std::optional(static_cast<int>(parsed.value))
                                          : std::nullopt;
}

/// SOC is what drivers before 2018 called SYS.
std::optional<SmiMatrix::Cell> parse_cell(const std::string& word) {
  using Relation = SmiMatrix::Relation;
  static const std::map<std::string, Relation> known{
      {"X", Relation::self},  {"PIX", Relation::pix},    {"PXB", Relation::pxb},
      {"PHB", Relation::phb}, {"NODE", Relation::node},  {"SYS", Relation::sys},
      {"SOC", Relation::sys}, {"N/A", Relation::unknown}};
  const auto found = known.find(word);
  if (found != known.end()) {
    return SmiMatrix::Cell{found->second, 0};
  }
  const Parsed<std::int64_t> links =
      word.starts_with("NV") ? parse_integer(word.substr(2)) : parse_integer("");
  if (links.ok() && links.value >= 1 && links.value <= 1024) {
    return SmiMatrix::Cell{Relation::nvlink, static_cast<int>(links.value)};
  }
  return std::nullopt;
}

/// A header starts with GPU0 and goes on with GPU1, or names the affinities further on; a row goes
/// on with a relation.
bool is_header(const Words& line) {
  return line.size() >= 2 && gpu_number(line[0].text) && !parse_cell(line[1].text) &&
         (gpu_number(line[1].text) || std::any_of(line.begin(), line.end(), [](const Word& word) {
            return word.text == "Affinity";
          }));
}

class SmiReader {
 public:
  SmiReader(const SourcePtr& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics), lines_(lines_of(source)) {}

  std::optional<SmiMatrix> read() {
    const std::size_t header = find_header();
    if (header == lines_.size()) {
      diagnostics_.error({source_, 0, 0, 1}, "not-a-topology",
                         "no matrix of nvidia-smi topo -m: no header line that starts with GPU0",
                         "save what 'nvidia-smi topo -m' prints");
      return std::nullopt;
    }
    matrix_.place = lines_[header][0].place;
    const std::size_t first_row = read_header(header);
    const std::size_t after = read_rows(first_row);
    read_rest(after);
    if (diagnostics_.has_errors()) {
      return std::nullopt;
    }
    fill();
    return diagnostics_.has_errors() ? std::nullopt : std::optional(std::move(matrix_));
  }

 private:
  using Relation = SmiMatrix::Relation;

  [[nodiscard]] std::size_t find_header() const {
    const auto found = std::find_if(lines_.begin(), lines_.end(), is_header);
    return static_cast<std::size_t>(found - lines_.begin());
  }

  /// Columns up to the affinities; a header that was wrapped goes on in the next line.
  std::size_t read_header(std::size_t line) {
    bool ended = false;
    for (; line < lines_.size() && !is_row(lines_[line]); ++line) {
      for (const Word& word : lines_[line]) {
        ended = ended || word.text == "CPU" || word.text == "NUMA";
        const bool name = !ended && columns_.size() < column_limit;
        if (name) {
          columns_.push_back(word);
        }
      }
    }
    refuse_repeated_columns();
    for (const bool gpus : {true, false}) {
      for (std::size_t i = 0; i < columns_.size(); ++i) {
        if (gpu_number(columns_[i].text).has_value() == gpus) {
          number_[columns_[i].text] = matrix_.names.size();
          matrix_.names.push_back(columns_[i].text);
        }
      }
      matrix_.gpus = gpus ? matrix_.names.size() : matrix_.gpus;
    }
    const std::size_t size = matrix_.names.size();
    given_.resize(size * size);
    matrix_.numa.resize(size);
    matrix_.affinity.resize(size);
    matrix_.rows.assign(size, matrix_.place);
    seen_.resize(size);
    return line;
  }

  void refuse_repeated_columns() {
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (columns_[i].text == columns_[j].text) {
          diagnostics_.error(columns_[i].place, "duplicate-device",
                             fmt::format("two columns are called '{}'", columns_[i].text),
                             "is the header torn? print the matrix again");
          break;
        }
      }
    }
  }

  /// A row: the name of a GPU or column, then a relation.
  [[nodiscard]] static bool is_row(const Words& line) {
    return line.size() >= 2 && parse_cell(line[1].text) && !parse_cell(line[0].text);
  }

  std::size_t read_rows(std::size_t line) {
    std::size_t after = line;
    for (; line < lines_.size() && !is_header(lines_[line]); ++line) {
      if (is_row(lines_[line])) {
        read_row(lines_[line]);
        after = line + 1;
      } else if (open_row_ && !lines_[line].empty() && parse_cell(lines_[line][0].text)) {
        read_cells(lines_[line], 0);  // a wrapped row goes on
        after = line + 1;
      } else {
        open_row_.reset();
      }
    }
    return after;
  }

  void read_row(const Words& line) {
    const auto row = number_.find(line[0].text);
    open_row_.reset();
    if (row == number_.end()) {
      if (gpu_number(line[0].text)) {
        diagnostics_.error(line[0].place, "unknown-row",
                           fmt::format("row '{}' has no column", line[0].text),
                           "is the header torn? print the matrix again");
      }
      return;
    }
    if (seen_[row->second]) {
      diagnostics_.error(line[0].place, "duplicate-device",
                         fmt::format("a second row is called '{}'", line[0].text),
                         "keep one matrix in the file");
      return;
    }
    seen_[row->second] = true;
    matrix_.rows[row->second] = line[0].place;
    open_row_ = row->second;
    next_column_ = 0;
    read_cells(line, 1);
  }

  void read_cells(const Words& line, std::size_t from) {
    const std::size_t row = *open_row_;
    for (; from < line.size() && next_column_ < columns_.size(); ++from, ++next_column_) {
      const std::optional<SmiMatrix::Cell> cell = parse_cell(line[from].text);
      const std::size_t column = number_[columns_[next_column_].text];
      if (!cell) {
        diagnostics_.error(
            line[from].place, "unknown-relation",
            fmt::format("'{}' is no relation of nvidia-smi topo -m", line[from].text),
            "relations are X, NV#, PIX, PXB, PHB, NODE and SYS");
        open_row_.reset();
        return;
      }
      if ((row == column) != (cell->relation == Relation::self)) {
        diagnostics_.error(
            line[from].place, row == column ? "self-loop" : "misplaced-self",
            row == column ? fmt::format("{} is '{}' to itself", matrix_.names[row], line[from].text)
                          : fmt::format("{} and {} are marked as the same", matrix_.names[row],
                                        matrix_.names[column]),
            "the diagonal, and only the diagonal, is X; is the row torn?");
      }
      given_[row * matrix_.names.size() + column] = *cell;
    }
    if (next_column_ == columns_.size() && matrix_.is_gpu(row) && from < line.size()) {
      read_affinities(line, from, row);
    }
  }

  /// "CPU Affinity", then "NUMA Affinity".
  void read_affinities(const Words& line, std::size_t from, std::size_t row) {
    const auto told = [](const std::string& text) { return text == "N/A" ? "" : text; };
    matrix_.affinity[row] = told(line[from].text);
    const Parsed<std::int64_t> numa =
        from + 1 < line.size() ? parse_integer(line[from + 1].text) : parse_integer("");
    matrix_.numa[row] = numa.ok() && numa.value >= 0 ? line[from + 1].text : "";
  }

  /// The legend of adapters, and a second matrix.
  void read_rest(std::size_t line) {
    for (; line < lines_.size(); ++line) {
      const Words& words = lines_[line];
      if (is_header(words)) {
        diagnostics_.warning(words[0].place, "second-matrix",
                             "a second matrix starts here; only the first is read",
                             "put it into a file of its own");
        return;
      }
      if (words.size() == 2 && words[0].text.ends_with(":")) {
        const std::string name = words[0].text.substr(0, words[0].text.size() - 1);
        if (number_.contains(name)) {
          matrix_.legend[name] = words[1].text;
        }
      }
    }
  }

  /// Cells that one direction leaves out are taken from the other.
  void fill() {
    const std::size_t size = matrix_.names.size();
    matrix_.cells.resize(size * size);
    for (std::size_t a = 0; a < size; ++a) {
      matrix_.cells[a * size + a] = {Relation::self, 0};
      for (std::size_t b = 0; b < a; ++b) {
        const SmiMatrix::Cell cell = agree(a, b);
        matrix_.cells[a * size + b] = matrix_.cells[b * size + a] = cell;
      }
    }
    warn_of_gaps();
  }

  SmiMatrix::Cell agree(std::size_t a, std::size_t b) {
    const std::size_t size = matrix_.names.size();
    const SmiMatrix::Cell& forth = given_[b * size + a];  // of the row of the lower number
    const SmiMatrix::Cell& back = given_[a * size + b];
    if (forth.relation == Relation::unknown || back.relation == Relation::unknown) {
      const SmiMatrix::Cell& cell = forth.relation == Relation::unknown ? back : forth;
      if (cell.relation == Relation::unknown && matrix_.is_gpu(a) && matrix_.is_gpu(b)) {
        diagnostics_.error(matrix_.place, "missing-cell",
                           fmt::format("the matrix does not say how {} and {} are joined",
                                       matrix_.names[b], matrix_.names[a]),
                           "is the file complete? every GPU needs its row");
      }
      return cell;
    }
    if (!(forth == back)) {
      diagnostics_.warning(matrix_.rows[b], "asymmetric-matrix",
                           fmt::format("{} and {} disagree about their relation", matrix_.names[b],
                                       matrix_.names[a]),
                           fmt::format("the row of {} is taken", matrix_.names[b]));
    }
    return forth;
  }

  void warn_of_gaps() {
    const auto missing =
        std::count(seen_.begin() + static_cast<std::ptrdiff_t>(matrix_.gpus), seen_.end(), false);
    if (missing > 0) {
      diagnostics_.warning(
          matrix_.place, "missing-rows",
          fmt::format("{} adapters have no row: how they are joined to one another "
                      "is known only as far as other rows say",
                      missing));
    }
  }

  /// Beyond any machine; keeps the matrix from growing with the square of a torn file.
  static constexpr std::size_t column_limit = 2048;

  SourcePtr source_;
  Diagnostics& diagnostics_;
  std::vector<Words> lines_;
  Words columns_;
  std::map<std::string, std::size_t> number_;  ///< in the matrix, by name
  std::vector<SmiMatrix::Cell> given_;         ///< as written, row by row
  std::vector<bool> seen_;
  std::optional<std::size_t> open_row_;
  std::size_t next_column_ = 0;
  SmiMatrix matrix_;
};

}  // namespace

bool has_smi_header(const SourceText& source) {
  const auto alias = std::make_shared<const SourceText>(source);
  const std::vector<Words> lines = lines_of(alias);
  return std::any_of(lines.begin(), lines.end(), is_header);
}

std::optional<SmiMatrix> read_smi_matrix(const SourcePtr& source, Diagnostics& diagnostics) {
  Diagnostics own;
  std::optional<SmiMatrix> matrix = SmiReader(source, own).read();
  diagnostics.append(own);
  return matrix;
}

}  // namespace longhaul
