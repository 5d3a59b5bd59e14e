#include "engine/grammar/string_format.h"

#include <utility>

namespace liquidgemm {
namespace {

#define LIQUIDGEMM_DATE                                      \
  "[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|" \
  "(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define LIQUIDGEMM_TIME                                                                            \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+\\-]([01][0-9]|2[0-3]):[0-5][0-9]" \
  ")"
#define LIQUIDGEMM_LABEL "[a-z0-9]([a-z0-9\\-]{0,14}[a-z0-9])?"
#define LIQUIDGEMM_HOST LIQUIDGEMM_LABEL "(\\." LIQUIDGEMM_LABEL "){1,3}"
#define LIQUIDGEMM_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
    {"date", LIQUIDGEMM_DATE},
    {"time", LIQUIDGEMM_TIME},
    {"date-time", LIQUIDGEMM_DATE "T" LIQUIDGEMM_TIME},
    {"duration",
     "P([0-9]{1,4}D(T[0-9]{1,4}(H([0-9]{1,4}M([0-9]{1,4}S)?)?|M([0-9]{1,4}S)?|S))?|"
     "T[0-9]{1,4}(H([0-9]{1,4}M([0-9]{1,4}S)?)?|M([0-9]{1,4}S)?|S))"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"email", "[A-Za-z0-9_+\\-]{1,16}(\\.[A-Za-z0-9_+\\-]{1,16}){0,3}@" LIQUIDGEMM_HOST},
    {"hostname", LIQUIDGEMM_HOST},
    {"ipv4", LIQUIDGEMM_BYTE "(\\." LIQUIDGEMM_BYTE "){3}"},
    {"ipv6", "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}"},
    {"uri", "https?://" LIQUIDGEMM_HOST "(/[A-Za-z0-9._~\\-]*)*(\\?[A-Za-z0-9._~=&\\-]*)?"},
};

}  // namespace

std::string_view string_format_regex(std::string_view format) {
  for (const auto& [name, regex] : kFormats) {
    if (name == format) return regex;
  }
  return {};
}

}  // namespace liquidgemm
