# Shared by the scripts of this folder: packages, build folders, Python tools. Source it; it runs
# nothing by itself but fixes where the scripts write: build/ and the user's cache, nowhere else.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
cache=${XDG_CACHE_HOME:-$HOME/.cache}/liquidgemm
python=/usr/bin/python3  # the distribution's: the one that python3-venv belongs to
quiet=${quiet:-0}

# The compiler cache, temporary files and Python byte code stay inside the two folders as well.
export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache}
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-2G}
export PYTHONDONTWRITEBYTECODE=1
export TMPDIR=$build/tmp
export TEST_TMPDIR=$TMPDIR

say() { if [[ $quiet != 1 ]]; then printf '%s\n' "$*" >&2; fi; }
step() { say $'\n==' "$@"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# An interrupted script ends with the exit code of the signal. What was written so far is either
# whole or redone by the next run.
trap 'printf "\ninterrupted; run the same command again to go on\n" >&2; exit 130' INT
trap 'exit 143' TERM

prepare_folders() {
  mkdir -p "$build" "$TMPDIR" "$cache"
}

# ---- Distribution and packages ---------------------------------------------------------------

# Prints debian-12, debian-13 or ubuntu-24.04; anything else is an error that says what to do.
# os-release's fields are read in a subshell: they are shell assignments by definition.
detect_distribution() {  # detect_distribution OS_RELEASE_FILE
  local file=$1 id
  [[ -r $file ]] || fail "$file is missing, so this is not a distribution the script knows." \
    "It knows Debian 12, Debian 13 and Ubuntu 24.04. Elsewhere install the equivalents of the" \
    "packages in scripts/lib.sh and add --no-install."
  # shellcheck disable=SC1090
  id=$(. "$file" && printf '%s-%s' "${ID:-unknown}" "${VERSION_ID:-rolling}")
  case $id in
    debian-12 | debian-13 | ubuntu-24.04) printf '%s\n' "$id" ;;
    ubuntu-22.04) fail "Ubuntu 22.04 is not supported: its Boost is older than 1.81." \
      "Use Ubuntu 24.04, Debian 12 or Debian 13." ;;
    *) fail "this is $id; the script knows debian-12, debian-13 and ubuntu-24.04." \
      "Elsewhere install a C++20 compiler, CMake 3.25, Ninja, Boost 1.81 with Boost.JSON, spdlog," \
      "fmt, CLI11, OpenSSL, utf8proc, libedit, GoogleTest and Python 3 with venv, and add" \
      "--no-install." ;;
  esac
}

# The packages that building and testing need, one a line. Debian 12's default Boost is 1.74; its
# 1.81 packages carry the version in their names and exclude the default ones.
base_packages() {
  local boost=(libboost-dev libboost-json-dev)
  if [[ $1 == debian-12 ]]; then boost=(libboost1.81-dev libboost-json1.81-dev); fi
  printf '%s\n' ca-certificates ccache cmake g++ git ninja-build python3 python3-venv \
    libcli11-dev libedit-dev libfmt-dev libgtest-dev libspdlog-dev libssl-dev libutf8proc-dev \
    "${boost[@]}"
}

# The browser that tests the server's page. Ubuntu's package is a snap, which does not start in a
# container: there these tests are skipped.
browser_packages() {
  case $1 in
    debian-*) printf '%s\n' chromium chromium-driver fonts-dejavu-core ;;
  esac
}

# The newest clang that this project is fuzzed with and the distribution has.
fuzz_clang() {
  case $1 in
    debian-13) printf '19\n' ;;
    *) printf '16\n' ;;
  esac
}

package_installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Prints those of the named packages that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    package_installed "$package" || printf '%s\n' "$package"
  done
}

# apt-get would have to remove the default Boost to install 1.81. Removing is the user's decision.
explain_boost_conflict() {
  local package present=()
  for package in libboost1.74-dev libboost1.80-dev; do
    if package_installed "$package"; then present+=("$package"); fi
  done
  if [[ $1 != debian-12 || ${#present[@]} == 0 ]]; then return 0; fi
  if package_installed libboost1.81-dev; then return 0; fi
  fail "${present[*]} is installed and excludes libboost1.81-dev, which the build needs." \
    "This script removes nothing. To replace the old headers yourself, run" \
    "'apt-get install libboost1.81-dev libboost-json1.81-dev' as root and read what it would" \
    "remove; then run this script again."
}

# Installs what is missing of the named packages: as root, or with sudo. With neither it prints the
# one line to run and stops. The network is touched only when something is missing.
ensure_packages() {
  local distribution=$1 missing=() sudo=()
  shift
  mapfile -t missing < <(missing_packages "$@")
  if [[ ${#missing[@]} == 0 ]]; then return 0; fi

  local line="apt-get install --no-remove -y --no-install-recommends ${missing[*]}"
  say "Missing packages: ${missing[*]}"
  explain_boost_conflict "$distribution"
  if [[ $EUID != 0 ]]; then
    if ! command -v sudo >/dev/null; then
      fail "installing them needs root, and there is no sudo. Run this as root, then try again:
  $line"
    elif sudo -n true 2>/dev/null; then
      sudo=(sudo -n)
    elif [[ -t 0 ]]; then
      sudo=(sudo)
    else
      fail "installing them needs root, and sudo wants a password. Run this, then try again:
  sudo $line"
    fi
  fi
  say "Installing them with: ${sudo[*]:+sudo }$line"
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
  # One unreachable third-party source must not stop the others: the install decides.
  "${apt[@]}" update -q >&2 || say "apt-get update reported errors; trying the install all the same."
  "${apt[@]}" install --no-remove -y --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install: ${missing[*]}. Its own message is above."
  mapfile -t missing < <(missing_packages "$@")
  if [[ ${#missing[@]} != 0 ]]; then fail "still missing after the install: ${missing[*]}"; fi
}

# ---- Building ------------------------------------------------------------------------------------

# How many compilers to run at once: one a core, but each needs up to 1.5 GB of free memory. A
# container's own memory limit counts too.
compile_jobs() {
  local cores free limit used jobs
  cores=$(nproc)
  free=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null || true)  # KiB
  free=${free:-1500000}
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || true)
  used=$(cat /sys/fs/cgroup/memory.current 2>/dev/null || true)
  if [[ $limit =~ ^[0-9]+$ && $used =~ ^[0-9]+$ ]]; then
    limit=$(((limit - used) / 1024))
    if ((limit < free)); then free=$limit; fi
  fi
  jobs=$((free / 1500000))
  if ((jobs > cores)); then jobs=$cores; fi
  if ((jobs < 1)); then jobs=1; fi
  printf '%s\n' "$jobs"
}

cached() {  # cached FOLDER NAME: the value of NAME in the folder's CMake cache
  sed -n "s|^$2:[A-Z]*=||p" "$1/CMakeCache.txt" 2>/dev/null || true
}

# configure PRESET OPTION...: a folder that was configured for another compiler (CXX) or another
# place is configured afresh; otherwise this takes a second.
configure() {
  local preset=$1 folder=$build/$1 fresh=() home compiler wanted
  shift
  fetch_xgrammar
  set -- "-DLIQUIDGEMM_XGRAMMAR_SOURCE=$xgrammar_source" "$@"
  if [[ -f $folder/CMakeCache.txt ]]; then
    home=$(cached "$folder" CMAKE_HOME_DIRECTORY)
    compiler=$(command -v "$(cached "$folder" CMAKE_CXX_COMPILER)" || true)
    wanted=$compiler
    if [[ -n ${CXX:-} && $CXX != *' '* ]]; then wanted=$(command -v "$CXX" || true); fi
    if [[ $home != "$root" || -z $compiler || $wanted != "$compiler" ]]; then fresh=(--fresh); fi
  fi
  (cd "$root" && logged "$folder" cmake --preset "$preset" "${fresh[@]}" "$@")
}

# build_targets PRESET TARGET...
build_targets() {
  local folder=$build/$1 jobs
  shift
  jobs=$(compile_jobs)
  say "Compiling with $jobs job(s) in ${folder#"$root"/}"
  if [[ -t 2 && $quiet != 1 ]]; then
    cmake --build "$folder" -j "$jobs" --target "$@" >&2
  else
    logged "$folder" cmake --build "$folder" -j "$jobs" --target "$@"
  fi
}

# Sets xgrammar_source to the unpacked source archive that scripts/source-requirements.txt names, or
# to nothing: then the program is built without structured output. The archive is fetched once and
# kept in the user's cache.
fetch_xgrammar() {
  local file=$root/scripts/source-requirements.txt name version hash archive folder
  read -r name version <<<"$(sed -nE 's/^([a-z]+)==([0-9.]+).*/\1 \2/p' "$file")"
  hash=$(sed -nE 's/.*--hash=sha256:([0-9a-f]+).*/\1/p' "$file")
  archive=$cache/sources/$name-$version.tar.gz
  folder=$build/sources/$name-$version
  xgrammar_source=
  if ! sha256sum --status -c <<<"$hash  $archive" 2>/dev/null; then
    say "Downloading the source of $name $version (3 MB)"
    local download=$TMPDIR/source-download
    rm -rf "$download" "$folder"
    mkdir -p "$download" "$cache/sources"
    ensure_venv
    if ! PYTHONPATH=$root/scripts/download_only venv_pip download --retries 1 --timeout 20 \
      --no-deps --no-build-isolation --no-binary :all: --require-hashes -r "$file" \
      -d "$download" >"$TMPDIR/source-download.log" 2>&1; then
      say "It could not be fetched (this needs the network once; $TMPDIR/source-download.log):" \
        "building without structured output."
      return 0
    fi
    mv "$download/$name-$version.tar.gz" "$archive"
  fi
  if [[ ! -d $folder ]]; then
    rm -rf "$folder.partial"
    mkdir -p "$folder.partial"
    tar -xzf "$archive" -C "$folder.partial" --strip-components 1
    mv "$folder.partial" "$folder"
  fi
  xgrammar_source=$folder
}

# logged FOLDER COMMAND...: keeps a command's output in FOLDER/log.txt and shows its end on failure.
logged() {
  local folder=$1 log=$1/log.txt
  shift
  mkdir -p "$folder"
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    fail "'$*' failed; the whole output is in $log"
  fi
}

# ---- Python tools --------------------------------------------------------------------------------

# Makes build/venv once; again when the interpreter that it was made with has gone.
ensure_venv() {
  if ! "$build/venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$build/venv"
    "$python" -m venv "$build/venv" ||
      fail "$python cannot make a virtual environment; is the package python3-venv installed?"
  fi
}

# pip of build/venv, quiet, without a cache of its own.
venv_pip() {
  "$build/venv/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir -q "$@"
}

# Installs a requirements file (pinned, with hashes) into build/venv, once for each content.
ensure_python_tools() {
  local file=$1 stamp
  stamp=$build/venv/installed-$(sha256sum "$file" | cut -c1-16)
  if [[ -f $stamp ]] && "$build/venv/bin/python" -c '' 2>/dev/null; then return 0; fi
  ensure_venv
  say "Installing the Python tools of ${file#"$root"/} into build/venv"
  venv_pip install --require-hashes --only-binary :all: -r "$file" >&2 ||
    fail "pip could not install ${file#"$root"/}; its message is above (this step needs the network)"
  touch "$stamp"
}
