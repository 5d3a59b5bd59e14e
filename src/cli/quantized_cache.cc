#include "cli/quantized_cache.h"

#include <filesystem>

#include "base/log.h"
#include "base/progress.h"
#include "base/status_macros.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "model/quantizer.h"

namespace liquidgemm::cli {

Result<ModelSource> quantized_source(ModelSource source, int threads) {
  if (source.config.quantization) return source;
  QuantizeOptions options;
  options.group_size = default_group_size(source.config);
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      const std::string folder,
      quantized_cache_path(source.path, "w4a8-g" + std::to_string(options.group_size)));
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    log_info("quantizing " + source.path + " once, into " + folder);
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), error);
    if (error) return io_error(folder + ": cannot create: " + error.message());
    ThreadPool pool(threads);
    LIQUIDGEMM_ASSIGN_OR_RETURN(const QuantizeReport report,
                                quantize_with_progress(source, folder, options, pool));
    (void)report;
  }
  return open_model_source(folder);
}

Result<QuantizeReport> quantize_with_progress(const ModelSource& source, const std::string& out,
                                              const QuantizeOptions& options, ThreadPool& pool) {
  // In millions of weights: a unit that moves at a steady rate whatever the layers' shapes.
  constexpr std::int64_t kUnit = 1'000'000;
  std::unique_ptr<Progress> progress;
  std::int64_t shown = 0;
  auto report =
      quantize_model(source, out, options, pool, interrupt_flag(),
                     [&](std::int64_t done, std::int64_t total, const std::string& module) {
                       if (!progress) {
                         progress = std::make_unique<Progress>(
                             "Quantizing", (total + kUnit - 1) / kUnit, "M weights");
                       }
                       progress->advance(done / kUnit - shown, module);
                       shown = done / kUnit;
                     });
  if (report.ok() && progress) progress->finish();
  return report;
}

}  // namespace liquidgemm::cli
