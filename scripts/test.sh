#!/usr/bin/env bash
# Installs what is missing, builds, runs every test, and closes with one line that says how many.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/test.sh [--sanitize address|thread] [--fuzz SECONDS] [--no-install]

  (nothing)            optimised build, all tests: GoogleTest programs, fuzz corpora, pytest
  --sanitize address   the same tests under AddressSanitizer and UndefinedBehaviorSanitizer
  --sanitize thread    the same tests under ThreadSanitizer
  --fuzz SECONDS       build the fuzz targets with clang and run each for SECONDS
  --no-install         never install packages; use what is on the machine
  --help               this text

With CI set in the environment, a compiler warning is an error.
END
}

usage_error() {
  printf 'error: %s; see scripts/test.sh --help\n' "$*" >&2
  exit 2
}

preset=release
fuzz=0
install=1
while [[ $# -gt 0 ]]; do
  case $1 in
    --sanitize)
      case ${2:-} in
        address | thread) preset=$2 ;;
        *) usage_error "--sanitize takes address or thread" ;;
      esac
      shift 2
      ;;
    --fuzz)
      if [[ ! ${2:-} =~ ^[1-9][0-9]{0,5}$ ]]; then usage_error "--fuzz takes a number of seconds"; fi
      fuzz=$2
      preset=fuzz
      shift 2
      ;;
    --no-install) install=0 && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
done
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare_folders
clang=16
if [[ $install == 1 ]]; then
  step "Packages"
  distribution=$(detect_distribution /etc/os-release)
  mapfile -t packages < <(base_packages "$distribution")
  packages+=(gnuplot-nox)
  mapfile -t -O "${#packages[@]}" packages < <(browser_packages "$distribution")
  if [[ $fuzz != 0 ]]; then
    clang=$(fuzz_clang "$distribution")
    packages+=("clang-$clang" "libclang-rt-$clang-dev")
  fi
  ensure_packages "$distribution" "${packages[@]}"
  say "All ${#packages[@]} packages are installed ($distribution)."
fi

# A sanitizer's finding ends the test at once, with the whole report.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:check_initialization_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1}

# ---- Fuzzing -----------------------------------------------------------------------------------

# Every target for the given time, two at once at most, on a copy of the committed corpus: what
# libFuzzer adds stays under build/. A finding is kept there and makes the script fail.
run_fuzzers() {
  local target name parser passed=0 failed=0
  shopt -s nullglob
  for target in "$root"/fuzz/fuzz_*.cc; do
    name=$(basename "$target" .cc)
    parser=${name#fuzz_}
    local corpus=$build/fuzz/corpus/$parser findings=$build/fuzz/findings/$parser
    mkdir -p "$corpus" "$findings"
    say "$name for $fuzz s"
    if "$build/fuzz/bin/$name" -max_total_time="$fuzz" -rss_limit_mb=2048 -timeout=10 \
      -print_final_stats=1 -artifact_prefix="$findings/" "$corpus" \
      "$root/fuzz/corpus/$parser" >"$build/fuzz/$name.log" 2>&1; then
      passed=$((passed + 1))
      grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$build/fuzz/$name.log" >&2 || true
    else
      failed=$((failed + 1))
      tail -n 40 "$build/fuzz/$name.log" >&2
      say "finding kept in $findings; log in $build/fuzz/$name.log"
    fi
  done
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [[ $failed == 0 && $passed != 0 ]]
}

werror=OFF
if [[ -n ${CI:-} ]]; then werror=ON; fi
step "Build ($preset)"
if [[ $preset == fuzz ]]; then
  export CXX=clang++-$clang
  configure fuzz -DCMAKE_CXX_COMPILER="clang++-$clang" -DLIQUIDGEMM_WERROR=$werror
  build_targets fuzz all
  step "Fuzzing"
  run_fuzzers
  exit
fi
configure "$preset" -DLIQUIDGEMM_WERROR=$werror
build_targets "$preset" all
ensure_python_tools "$root/scripts/test-requirements.txt"

# ---- Tests -------------------------------------------------------------------------------------

# GoogleTest programs also write one XML file each: the closing line counts test cases, not
# programs. A program that dies leaves none and counts as one failure.
results=$build/$preset/test-results
# ThreadSanitizer's shadow memory has no room for the widest address randomisation of new kernels.
runner=()
if [[ $preset == thread ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
  runner=(setarch "$(uname -m)" -R)
fi
rm -rf "$results"
mkdir -p "$results/gtest"
failed=0

step "C++ tests"
GTEST_OUTPUT=xml:$results/gtest/ "${runner[@]}" ctest --test-dir "$build/$preset" --output-on-failure \
  --no-tests=error -j "$(nproc)" --output-junit "$results/ctest.xml" || failed=1

step "Tests of the program"
LIQUID_BINARY=$build/$preset/bin/liquid LIQUIDGEMM_SANITIZE=${preset#release} \
  "${runner[@]}" "$build/venv/bin/python" -m pytest -q -p no:cacheprovider --basetemp="$TMPDIR/pytest" \
  --junitxml="$results/pytest.xml" "$root/tests" || failed=1

"$build/venv/bin/python" "$root/scripts/summarize_tests.py" "$results" || failed=1
exit $failed
