// Early returns for functions that return Status or Result<T>.
#pragma once

#include "liquidgemm/status.h"

#define LIQUIDGEMM_CONCAT_INNER(a, b) a##b
#define LIQUIDGEMM_CONCAT(a, b) LIQUIDGEMM_CONCAT_INNER(a, b)

#define LIQUIDGEMM_RETURN_IF_ERROR(expression)             \
  do {                                                     \
    ::liquidgemm::Status liquidgemm_status = (expression); \
    if (!liquidgemm_status.ok()) return liquidgemm_status; \
  } while (false)

// LIQUIDGEMM_ASSIGN_OR_RETURN(auto file, MappedFile::open(path));
#define LIQUIDGEMM_ASSIGN_OR_RETURN(declaration, expression)                                     \
  LIQUIDGEMM_ASSIGN_OR_RETURN_IMPL(LIQUIDGEMM_CONCAT(liquidgemm_result_, __LINE__), declaration, \
                                   expression)
#define LIQUIDGEMM_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                             \
  if (!result.ok()) return result.status();                               \
  declaration = std::move(*result)
