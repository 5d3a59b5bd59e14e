// Grammar expressions for the numbers of a range, as JSON writes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "liquidgemm/status.h"

namespace liquidgemm {

// Integers of at most fifteen digits where a side has no bound, so that every reader takes them.
// Nothing if the range holds none.
std::optional<std::string> integer_range(std::optional<std::int64_t> low,
                                         std::optional<std::int64_t> high);

struct NumberBound {
  double value = 0;
  bool exclusive = false;
};

// Numbers without an exponent. A bound of more than fifteen digits before or after the point is an
// error; so is a range that holds nothing. `low` or `high` is there.
Result<std::string> number_range(const std::optional<NumberBound>& low,
                                 const std::optional<NumberBound>& high);

// Any integer and any number that a double holds.
std::string any_integer();
std::string any_number();

}  // namespace liquidgemm
