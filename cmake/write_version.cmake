# Run by cmake -P with GIT, SOURCE, PROJECT_VERSION and HEADER.
set(LIQUIDGEMM_COMMIT "unknown")
if(GIT AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${GIT} describe --always --dirty --abbrev=12
                  WORKING_DIRECTORY ${SOURCE}
                  OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                  RESULT_VARIABLE failed)
  if(NOT failed)
    set(LIQUIDGEMM_COMMIT ${described})
  endif()
endif()
configure_file(${SOURCE}/cmake/version.h.in ${HEADER})
