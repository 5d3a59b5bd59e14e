// Files that the build turns into arrays: the program needs no folder beside it.
#pragma once

#include <string_view>

namespace liquidgemm::server {

extern const std::string_view kPageHtml;
// SHA-256 in Base64 of what stands between the page's <script> and <style> tags: the only code and
// style that its Content-Security-Policy lets a browser run.
extern const std::string_view kPageScriptHash;
extern const std::string_view kPageStyleHash;

extern const std::string_view kOpenApiJson;

}  // namespace liquidgemm::server
