// One line from a person, with editing and history (libedit).
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace liquidgemm::cli {

class LineEditor {
 public:
  explicit LineEditor(std::string prompt);
  ~LineEditor();

  enum class End { kLine, kInterrupted, kEndOfInput };
  // Reads a line without its newline. Ctrl-C gives kInterrupted, Ctrl-D kEndOfInput.
  End read(std::string& line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace liquidgemm::cli
