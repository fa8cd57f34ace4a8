#include "sim/cli/output.h"

#include <cerrno>
#include <cstring>

#include "sim/cli/command.h"

namespace longhaul {

void Output::fail(const char* what) const {
  const int error = errno;
  const std::string name = path_.empty() ? "standard output" : path_;
  throw IoError(name + ": cannot be " + what + ": " + std::strerror(error));
}

Output::Output(std::string path) : path_(path == "-" ? "" : std::move(path)), file_(stdout) {
  if (!path_.empty()) {
    file_ = std::fopen(path_.c_str(), "ab");
    if (file_ == nullptr) {
      fail("written");
    }
  }
}

Output::~Output() {
  if (file_ != nullptr && file_ != stdout) {
    std::fclose(file_);
  }
}

void Output::write(const std::string& text) {
  if (file_ != stdout) {
    file_ = std::freopen(path_.c_str(), "wb", file_);
    if (file_ == nullptr) {
      fail("written");
    }
  }
  const bool whole = std::fwrite(text.data(), 1, text.size(), file_) == text.size();
  if (!whole || std::fflush(file_) != 0) {
    fail("written");
  }
}

}  // namespace longhaul
