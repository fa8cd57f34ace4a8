// Where a command's data goes: standard output, or a file that is opened before the work begins.
#pragma once

#include <cstdio>
#include <string>

namespace longhaul {

/// Opens on construction, so that an output that cannot be written fails before an hour of work.
/// An existing file keeps its content until something is written.
class Output {
 public:
  /// Empty or "-": standard output. Throws IoError if the file cannot be opened for writing.
  explicit Output(std::string path);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  /// Replaces the file's content by this text. Throws IoError if not all of it could be written.
  void write(const std::string& text);

 private:
  void fail(const char* what) const;
  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace longhaul
