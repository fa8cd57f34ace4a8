// Standard output of nccl-tests. What was seen in the wild: layouts from 2.0 to 2.17, mpirun's and
// srun's prefixes, colours, NCCL's INFO lines between and within tables, several tables in a file.
#include "sim/validation/nccl_tests.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/validation/nccl_tests_log.h"

namespace longhaul {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Without ANSI escape sequences and carriage returns.
std::string without_colours(const std::string& line) {
  std::string plain;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b' && i + 1 < line.size() && line[i + 1] == '[') {
      i += 2;
      while (i < line.size() && !(line[i] >= '@' && line[i] <= '~')) {
        ++i;
      }
    } else if (line[i] != '\r' && line[i] != '\x1b') {
      plain += line[i];
    }
  }
  return plain;
}

// What other programs put before a line: "[pod-0]", "host-1:", "|", ">", a date or a time of day.
// Rows begin with a plain number, all other lines of nccl-tests with '#'.
bool is_prefix_word(const std::string& word) {
  const bool bracketed = word.front() == '[' && word.back() == ']';
  const bool stamp = is_digit(word.front()) &&
                     (word.find(':') != std::string::npos || word.find('-') != std::string::npos);
  return bracketed || stamp || word.back() == ':' || word == "|" || word == ">";
}

// Without such words, and without "[1,0]<stdout>:" (mpirun --tag-output), after which a line may
// follow at once.
std::string without_prefix(std::string line) {
  const std::size_t tag = line.find("]<std");
  const std::size_t tag_end = line.find('>', tag);
  if (line.starts_with('[') && tag_end != std::string::npos) {
    line.erase(0, line.compare(tag_end, 2, ">:") == 0 ? tag_end + 2 : tag_end + 1);
  }
  constexpr int most_words = 8;
  for (int i = 0; i < most_words; ++i) {
    const std::size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos) {
      return {};
    }
    line.erase(0, first);
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    if (!is_prefix_word(line.substr(0, end))) {
      break;
    }
    line.erase(0, end);
  }
  return line;
}

std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : line) {
    if (c == ' ' || c == '\t') {
      if (!word.empty()) {
        words.push_back(std::move(word));
      }
      word.clear();
    } else {
      word += c;
    }
  }
  if (!word.empty()) {
    words.push_back(std::move(word));
  }
  return words;
}

bool contains(const std::vector<std::string>& words, const char* word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_title_line(const std::string& line, const std::vector<std::string>& words) {
  return line.starts_with('#') && contains(words, "size") && contains(words, "count") &&
         contains(words, "time") && contains(words, "busbw");
}

int integer_of(const std::string& word) {
  const auto parsed = parse_integer(word);
  return parsed.ok() && parsed.value >= 0 && parsed.value < (1 << 24)
             ? static_cast<int>(parsed.value)
             : -1;
}

/// Reads one log, line by line.
class LogReader {
 public:
  LogReader(const SourcePtr& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics) {}

  std::vector<Sweep> read() {
    std::size_t at = 0;
    const std::string& text = source_->text;
    while (at < text.size()) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      ++line_;
      read_line(without_colours(text.substr(at, end - at)));
      at = end + 1;
    }
    finish_table();
    return std::move(sweeps_);
  }

 private:
  void read_line(const std::string& whole) {
    const std::string line = without_prefix(whole);
    const std::vector<std::string> words = words_of(line);
    if (words.empty()) {
      return;
    }
    if (whole.find("NCCL INFO") != std::string::npos || line.starts_with("NCCL version")) {
      read_nccl_line(line, words);
    } else if (is_title_line(line, words)) {
      read_titles(words);
    } else if (words[0] == "#") {
      read_comment(line, words);
    } else if (in_table_ && parse_integer(words[0]).ok()) {
      read_row(words);
    } else {
      read_command(words);
    }
  }

  void read_command(const std::vector<std::string>& words) {
    for (const std::string& word : words) {
      const std::string name = program_collective(word);
      if (!name.empty()) {
        log_.collective = name;
      }
    }
  }

  // "NCCL version 2.20.3+cuda12.2"; "... NCCL INFO NCCL_ALGO set by environment to Ring".
  void read_nccl_line(const std::string& line, const std::vector<std::string>& words) {
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      if (words[i] == "NCCL" && words[i + 1] == "version" && i + 2 < words.size()) {
        log_.nccl = words[i + 2];
      }
    }
    const bool pinned = contains(words, "environment") && !words.back().empty();
    if (pinned && contains(words, "NCCL_ALGO")) {
      log_.algorithm = words.back();
    } else if (pinned && contains(words, "NCCL_PROTO")) {
      log_.protocol = words.back();
    } else if (pinned) {
      note_setting(words);
    }
    read_adapters(line, words, log_);
  }

  void note_setting(const std::vector<std::string>& words) {
    const auto name = std::find_if(words.begin(), words.end(), [](const std::string& word) {
      return word.starts_with("NCCL_") && !word.starts_with("NCCL_DEBUG");
    });
    if (name == words.end()) {
      return;
    }
    const std::string note = *name + "=" + words.back() + " is not modelled";
    if (!contains(log_.notes, note.c_str())) {
      log_.notes.push_back(note);
    }
  }

  void read_comment(const std::string& line, const std::vector<std::string>& words) {
    if (words.size() > 4 && words[1] == "Rank") {
      read_rank(words);
    } else if (contains(words, "nThread") || contains(words, "devices")) {
      finish_table();
      log_.ranks.clear();
      if (contains(words, "nThread")) {
        read_settings(words);
      }
    } else if (line.find("Avg bus bandwidth") != std::string::npos) {
      if (!tables_.empty()) {
        tables_.back().average = parse_printed(words.back());
      }
      finish_table();
    } else if (!contains(words, "concluded:")) {
      read_version(words);
      read_command(words);
    }
  }

  // "# nThread 1 nGpus 8 ... agg iters: 1 validate: 1 graph: 0"
  void read_settings(const std::vector<std::string>& words) {
    log_.notes.clear();
    for (std::size_t i = 1; i < words.size(); ++i) {
      const bool graph = words[i - 1] == "graph:";
      const bool together = words[i - 1] == "iters:" && i > 1 && words[i - 2] == "agg";
      if (graph && integer_of(words[i]) > 0) {
        log_.notes.push_back("launched from CUDA graphs: small sizes take less");
      } else if (together && integer_of(words[i]) > 1) {
        log_.notes.push_back("several operations launched together: small sizes take less");
      }
    }
  }

  // "# nccl-tests version 2.17.1 nccl-headers=22602 nccl-library=22602"
  void read_version(const std::vector<std::string>& words) {
    for (const std::string& word : words) {
      if (word.starts_with("nccl-library=")) {
        log_.nccl = word.substr(13);
      }
    }
  }

  // "#  Rank  0 Group  0 Pid 1234 on  host device  0 [0x18] NVIDIA H100 80GB HBM3"
  void read_rank(const std::vector<std::string>& words) {
    if (had_rows_) {
      log_.ranks.clear();
      had_rows_ = false;
    }
    LogRank rank;
    rank.rank = integer_of(words[2]);
    std::size_t name = words.size();
    for (std::size_t i = 3; i + 1 < words.size(); ++i) {
      if (words[i] == "Group") {
        rank.group = words[i + 1];
      } else if (words[i] == "on") {
        rank.host = words[i + 1];
      } else if (words[i] == "Pid") {
        rank.process = words[i + 1];
      } else if (words[i] == "device") {
        rank.device = words[i + 1];
        name = i + 2;
        break;
      }
    }
    if (name < words.size() && words[name].starts_with('[')) {
      rank.device += " " + words[name];
      ++name;
    }
    for (; name < words.size(); ++name) {
      rank.gpu += (rank.gpu.empty() ? "" : " ") + words[name];
    }
    log_.ranks.push_back(rank);
  }

  // Titles before the first "time" describe the operation; what follows is measured, twice.
  void read_titles(const std::vector<std::string>& words) {
    finish_table();
    const auto first = std::find(words.begin(), words.end(), "time");
    titles_.assign(first, words.end());
    stamped_ = titles_.back() == "timestamp";
    if (stamped_) {
      titles_.pop_back();
    }
    in_table_ = true;
    LogTable table;
    table.place = Place{source_, line_, 1, 1};
    tables_.push_back(table);
  }

  void read_row(std::vector<std::string> words) {
    while (stamped_ && !words.empty() && is_timestamp(words.back())) {
      words.pop_back();
    }
    // Versions differ in whether they print redop and root: measured columns count from the end.
    if (words.size() < titles_.size() + 3 || words.size() > titles_.size() + 5) {
      unreadable_row();
      return;
    }
    const auto size = parse_integer(words[0]);
    SweepRow row;
    row.place = Place{source_, line_, 1, 1};
    bool readable = size.ok() && size.value >= 0;
    row.bytes = readable ? static_cast<double>(size.value) : 0.0;
    const std::size_t first = words.size() - titles_.size();
    bool in_place = false;
    bool wrong = false;
    for (std::size_t i = 0; i < titles_.size(); ++i) {
      in_place = in_place || (i > 0 && titles_[i] == "time");
      readable = read_cell(titles_[i], in_place, words[first + i], row) && readable;
      wrong = wrong || (titles_[i] == "#wrong" && integer_of(words[first + i]) > 0);
    }
    if (wrong) {
      diagnostics_.warning(row.place, "wrong-results",
                           "the results of this size were wrong, and it is left out",
                           "a collective that computes the wrong sum has no time worth comparing");
      return;
    }
    if (!readable) {
      unreadable_row();
      return;
    }
    had_rows_ = true;
    tables_.back().rows.push_back(row);
    tables_.back().dtype = words[2];
  }

  static bool is_timestamp(const std::string& word) {
    return word.find(':') != std::string::npos || word.find('-', 1) != std::string::npos;
  }

  static bool read_cell(const std::string& title, bool in_place, const std::string& word,
                        SweepRow& row) {
    std::optional<Printed>* cell =
        title == "time" ? (in_place ? &row.in_place_time : &row.time)
        : title == "algbw"
            ? (in_place ? &row.in_place_algorithm_bandwidth : &row.algorithm_bandwidth)
        : title == "busbw" ? (in_place ? &row.in_place_bus_bandwidth : &row.bus_bandwidth)
                           : nullptr;
    if (cell == nullptr || word == "N/A") {
      return true;
    }
    *cell = parse_printed(word);
    return cell->has_value();
  }

  void unreadable_row() {
    diagnostics_.warning(Place{source_, line_, 1, 1}, "unreadable-row",
                         "a row of the table cannot be read, and is left out",
                         "other output may have been written into the middle of it");
  }

  void finish_table() {
    in_table_ = false;
    if (tables_.empty()) {
      return;
    }
    for (LogTable& table : tables_) {
      sweeps_.push_back(sweep_of_table(table, log_, source_, sweeps_.size(), diagnostics_));
    }
    tables_.clear();
    log_.collective.clear();  // the next table may be another program's
  }

  SourcePtr source_;
  Diagnostics& diagnostics_;
  int line_ = 0;
  bool in_table_ = false;
  bool stamped_ = false;   ///< rows end in a time stamp
  bool had_rows_ = false;  ///< since the ranks were listed
  std::vector<std::string> titles_;
  std::vector<LogTable> tables_;  ///< at most one: the one that is being read
  LogFacts log_;
  std::vector<Sweep> sweeps_;
};

bool looks_like_json(const SourceText& source) {
  const std::size_t first = source.text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && source.text[first] == '{' &&
         source.text.find("\"results\"") != std::string::npos;
}

}  // namespace

bool looks_like_nccl_tests(const SourceText& source) {
  if (looks_like_json(source)) {
    return true;
  }
  std::size_t at = 0;
  while (at < source.text.size()) {
    const std::size_t end = std::min(source.text.find('\n', at), source.text.size());
    const std::string line = without_prefix(without_colours(source.text.substr(at, end - at)));
    if (line.find("busbw") != std::string::npos && is_title_line(line, words_of(line))) {
      return true;
    }
    at = end + 1;
  }
  return false;
}

std::vector<Sweep> read_nccl_tests(const SourcePtr& source, Diagnostics& diagnostics) {
  return looks_like_json(*source) ? read_nccl_tests_json(source, diagnostics)
                                  : LogReader(source, diagnostics).read();
}

}  // namespace longhaul
