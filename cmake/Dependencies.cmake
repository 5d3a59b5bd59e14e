# Third-party libraries, all from the distribution's packages (docs/design.md, section 6).

if(LIQUIDGEMM_STATIC)
  set(Boost_USE_STATIC_LIBS ON)
  set(OPENSSL_USE_STATIC_LIBS ON)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
endif()

find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
if(LIQUIDGEMM_STATIC)
  # Debian and Ubuntu ship these two as headers and a shared library; the headers alone will do.
  find_path(FMT_INCLUDE_DIR fmt/format.h REQUIRED)
  find_path(SPDLOG_INCLUDE_DIR spdlog/spdlog.h REQUIRED)
  add_library(fmt::fmt INTERFACE IMPORTED)
  set_target_properties(fmt::fmt PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${FMT_INCLUDE_DIR}
    INTERFACE_COMPILE_DEFINITIONS FMT_HEADER_ONLY)
  add_library(spdlog::spdlog INTERFACE IMPORTED)
  set_target_properties(spdlog::spdlog PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${SPDLOG_INCLUDE_DIR}
    INTERFACE_COMPILE_DEFINITIONS SPDLOG_FMT_EXTERNAL
    INTERFACE_LINK_LIBRARIES fmt::fmt)
  add_link_options(-static-libgcc -static-libstdc++)
else()
  find_package(spdlog REQUIRED)
  find_package(fmt REQUIRED)
endif()
find_package(CLI11 REQUIRED)
find_package(OpenSSL 3 REQUIRED)

find_path(UTF8PROC_INCLUDE_DIR utf8proc.h REQUIRED)
find_library(UTF8PROC_LIBRARY NAMES utf8proc REQUIRED)
add_library(utf8proc::utf8proc UNKNOWN IMPORTED)
set_target_properties(utf8proc::utf8proc PROPERTIES
  IMPORTED_LOCATION ${UTF8PROC_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${UTF8PROC_INCLUDE_DIR})

find_path(LIBEDIT_INCLUDE_DIR histedit.h REQUIRED)
find_library(LIBEDIT_LIBRARY NAMES edit REQUIRED)
add_library(libedit::libedit UNKNOWN IMPORTED)
set_target_properties(libedit::libedit PROPERTIES
  IMPORTED_LOCATION ${LIBEDIT_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${LIBEDIT_INCLUDE_DIR})
if(LIQUIDGEMM_STATIC)
  # An archive does not say what it needs: terminal capabilities, and the BSD functions on glibc.
  foreach(name tinfo bsd md)
    find_library(LIBEDIT_NEEDS_${name} NAMES ${name} REQUIRED)
    set_property(TARGET libedit::libedit APPEND PROPERTY INTERFACE_LINK_LIBRARIES
                 ${LIBEDIT_NEEDS_${name}})
  endforeach()
endif()

if(LIQUIDGEMM_TESTS)
  find_package(GTest REQUIRED)
endif()
