// The decoder-only transformer, written once for every backend and every family.
#pragma once

#include "model/backend.h"

namespace liquidgemm {

// Runs one checked step. Called by Backend::step; calls only the backend's operations, in a fixed
// order that does not depend on data, so that a device can capture it.
void run_transformer(Backend& backend, const ModelGraph& graph, const StepInput& input);

}  // namespace liquidgemm
