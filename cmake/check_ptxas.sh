#!/bin/sh
# Runs a CUDA compilation and fails where the assembler reports what costs the kernels their speed:
# spilled registers, or wgmma instructions that it serialises (its messages C7500 to C7599).
output=$("$@" 2>&1)
status=$?
bad=$(printf '%s\n' "$output" | grep -E '\(C75[0-9]{2}\)|[1-9][0-9]* bytes spill')
# The assembler's report for every kernel is for --verbose builds only.
printf '%s\n' "$output" |
  grep -vE '^ptxas info|^ *[0-9]+ bytes stack frame|^ *$|Compile time|Function properties' >&2
if [ "$status" -eq 0 ] && [ -n "$bad" ] && [ -z "$ALLOW_SPILL" ]; then
  printf 'error: the assembler reports spills or serialised wgmma:\n%s\n' "$bad" >&2
  exit 1
fi
exit "$status"
