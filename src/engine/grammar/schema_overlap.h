// Whether the schemas of a "oneOf" exclude each other.
#pragma once

#include "base/json.h"

namespace liquidgemm {

// True if no value can belong to two of the schemas: by their types, by the strings they list, or
// by a property that all of them require with strings of their own.
bool exclude_each_other(const json::Array& schemas);

}  // namespace liquidgemm
