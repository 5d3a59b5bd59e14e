#include "cli/line_editor.h"

#include <histedit.h>

#include <cstdio>
#include <utility>

#include "cli/interrupt.h"

namespace liquidgemm::cli {

struct LineEditor::Impl {
  std::string prompt;
  EditLine* editor = nullptr;
  History* history = nullptr;

  static char* prompt_of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return static_cast<Impl*>(data)->prompt.data();
  }
};

LineEditor::LineEditor(std::string prompt) : impl_(std::make_unique<Impl>()) {
  impl_->prompt = std::move(prompt);
  impl_->editor = el_init("liquid", stdin, stdout, stderr);
  impl_->history = history_init();
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  el_set(impl_->editor, EL_PROMPT, Impl::prompt_of);
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_SIGNAL, 0);
  HistEvent event;
  history(impl_->history, &event, H_SETSIZE, 1000);
  el_set(impl_->editor, EL_HIST, history, impl_->history);
}

LineEditor::~LineEditor() {
  history_end(impl_->history);
  el_end(impl_->editor);
}

LineEditor::End LineEditor::read(std::string& line) {
  std::atomic<bool>& interrupted = interrupt_flag();
  interrupted = false;
  int count = 0;
  const char* text = el_gets(impl_->editor, &count);
  if (text == nullptr || count <= 0) {
    const bool by_signal = interrupted.exchange(false);
    if (by_signal) el_reset(impl_->editor);
    std::fputc('\n', stdout);
    return by_signal ? End::kInterrupted : End::kEndOfInput;
  }
  line.assign(text, static_cast<std::size_t>(count));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  if (!line.empty()) {
    HistEvent event;
    history(impl_->history, &event, H_ENTER, line.c_str());
  }
  return End::kLine;
}

}  // namespace liquidgemm::cli
