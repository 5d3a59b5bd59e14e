# The commit that `liquid version` and every recorded result name: looked up in every build, so that
# it is never that of an earlier one. The header changes, and files are compiled anew, only when the
# commit does.
find_package(Git QUIET)
set(write_version
    ${CMAKE_COMMAND} -DGIT=${GIT_EXECUTABLE} -DSOURCE=${PROJECT_SOURCE_DIR}
    -DPROJECT_VERSION=${PROJECT_VERSION}
    -DHEADER=${PROJECT_BINARY_DIR}/generated/liquidgemm_version.h
    -P ${PROJECT_SOURCE_DIR}/cmake/write_version.cmake)
execute_process(COMMAND ${write_version})
add_custom_target(liquidgemm_version ALL
  COMMAND ${write_version}
  BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/liquidgemm_version.h
  VERBATIM)
