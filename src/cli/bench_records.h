// Results of `liquid bench` that are kept: files, and what says where they come from.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "liquidgemm/status.h"

namespace liquidgemm::cli {

std::string today();  // "2026-08-31", UTC
// The program's own command line, as another could repeat it: without the folders of this machine.
std::string command_line();
// When, by which commit and with which command: the end of a .md file.
std::string provenance(const std::string& command);

// Writes each path as `render` gives it for the path's extension: ".json", ".csv", anything else.
Status write_records(const std::vector<std::string>& paths,
                     const std::function<std::string(const std::string& extension)>& render);

}  // namespace liquidgemm::cli
