// The paper's figures in reports, with their source.
#pragma once

#include <string>

#include "base/json.h"
#include "bench/paper_figures.h"

namespace liquidgemm::cli {

// A sentence or two under a table.
std::string paper_text(const bench::PaperComparison& comparison);
json::Object paper_json(const bench::PaperComparison& comparison);

}  // namespace liquidgemm::cli
