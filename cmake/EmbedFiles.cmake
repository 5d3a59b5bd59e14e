# Writes a C++ source with the page and the API's description as arrays of bytes, and the hashes
# that the page's Content-Security-Policy names. Run as a script: -DPAGE= -DOPENAPI= -DOUTPUT=
cmake_minimum_required(VERSION 3.25)

# The bytes of a file as a constexpr array `NAME_bytes` and a string_view `NAME` over it.
function(embed file name out)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  string(REPEAT "." 98 line)  # fourteen bytes
  string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
  string(CONCAT text "constexpr char ${name}Bytes[] = {\n${bytes}};\n"
         "const std::string_view ${name}(${name}Bytes, sizeof(${name}Bytes));\n\n")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

function(hex_to_base64 hex out)
  set(alphabet "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  string(LENGTH "${hex}" left)
  set(text "")
  while(left GREATER 0)
    string(SUBSTRING "${hex}" 0 6 part)  # three bytes become four letters
    string(LENGTH "${part}" digits)
    string(SUBSTRING "${hex}" ${digits} -1 hex)
    string(SUBSTRING "${part}0000" 0 6 part)
    math(EXPR letters "${digits} / 2 + 1")
    foreach(shift 18 12 6 0)
      if(letters GREATER 0)
        math(EXPR index "(0x${part} >> ${shift}) & 63")
        string(SUBSTRING "${alphabet}" ${index} 1 letter)
        string(APPEND text "${letter}")
      else()
        string(APPEND text "=")
      endif()
      math(EXPR letters "${letters} - 1")
    endforeach()
    string(LENGTH "${hex}" left)
  endwhile()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# The hash of what stands between <TAG> and </TAG>, which occur once.
function(hash_of_tag html tag out)
  string(FIND "${html}" "<${tag}>" begin)
  string(FIND "${html}" "</${tag}>" end)
  string(FIND "${html}" "<${tag}>" last REVERSE)
  if(begin EQUAL -1 OR end LESS begin OR NOT last EQUAL begin)
    message(FATAL_ERROR "the page must have exactly one <${tag}>...</${tag}>")
  endif()
  string(LENGTH "<${tag}>" length)
  math(EXPR begin "${begin} + ${length}")
  math(EXPR length "${end} - ${begin}")
  string(SUBSTRING "${html}" ${begin} ${length} text)
  string(SHA256 hash "${text}")
  hex_to_base64("${hash}" hash)
  set(${out} "${hash}" PARENT_SCOPE)
endfunction()

file(READ "${PAGE}" html)
hash_of_tag("${html}" script script_hash)
hash_of_tag("${html}" style style_hash)
embed("${PAGE}" kPageHtml page)
embed("${OPENAPI}" kOpenApiJson openapi)
file(WRITE "${OUTPUT}" "// Written by cmake/EmbedFiles.cmake.
#include \"server/embedded.h\"

namespace liquidgemm::server {

${page}const std::string_view kPageScriptHash = \"${script_hash}\";
const std::string_view kPageStyleHash = \"${style_hash}\";

${openapi}}  // namespace liquidgemm::server
")
