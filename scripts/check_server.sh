#!/usr/bin/env bash
# Checks a running `liquid serve` with other people's tools. Longer than a test and in need of the
# network once, so scripts/test.sh does not run it.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/check_server.sh [--model PATH] [--examples N]

  --model PATH    what to serve (default: the model that scripts/demo.sh has quantized)
  --examples N    random requests to each path, beside the systematic ones (default: 100)
  --help          this text

The program is build/release/bin/liquid, or LIQUID_BINARY. Tools and logs go to build/check-server.
END
}

model=
examples=100
while [[ $# -gt 0 ]]; do
  case $1 in
    --model | --examples)
      if [[ $# -lt 2 || -z $2 ]]; then
        printf 'error: %s needs a value; see scripts/check_server.sh --help\n' "$1" >&2
        exit 2
      fi
      if [[ $1 == --model ]]; then model=$2; else examples=$2; fi
      shift 2
      ;;
    --help | -h) usage && exit 0 ;;
    *)
      printf "error: unknown argument '%s'; see scripts/check_server.sh --help\n" "$1" >&2
      exit 2
      ;;
  esac
done
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare_folders
folder=$build/check-server
tools=$folder/venv
liquid=$(realpath "${LIQUID_BINARY:-$build/release/bin/liquid}")
if [[ ! -x $liquid ]]; then fail "$liquid is missing; build it, or set LIQUID_BINARY"; fi
if [[ -z $model ]]; then
  model=$(find "$cache/demo" -mindepth 1 -maxdepth 1 -type d ! -name '*.partial' 2>/dev/null |
    sort | head -n 1 || true)
  if [[ -z $model ]]; then fail "there is no model; run scripts/demo.sh once, or add --model PATH"; fi
fi

# ---- Tools -----------------------------------------------------------------------------------

# In a folder of their own: they want other versions than the tests do.
requirements=$root/scripts/check-requirements.txt
stamp=$tools/installed-$(sha256sum "$requirements" | cut -c1-16)
if [[ ! -f $stamp ]]; then
  step "Tools"
  rm -rf "$tools"
  "$python" -m venv "$tools" || fail "$python cannot make a virtual environment (python3-venv)"
  "$tools/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir -q install \
    --require-hashes --only-binary :all: -r "$requirements" >&2 ||
    fail "pip could not install ${requirements#"$root"/}; its message is above"
  touch "$stamp"
fi

# ---- Server ----------------------------------------------------------------------------------

step "Server"
mkdir -p "$folder"
rm -f "$folder/ready.txt"
"$liquid" serve "$model" --port 0 --max-model-len 256 --tool-call-parser hermes \
  >"$folder/ready.txt" 2>"$folder/serve.log" &
server=$!
trap 'kill -KILL "$server" 2>/dev/null || true' EXIT
for ((i = 0; i < 600; ++i)); do
  if grep -q '^Ready: ' "$folder/ready.txt" 2>/dev/null; then break; fi
  kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 5 "$folder/serve.log")"
  sleep 0.1
done
url=$(sed -n 's/^Ready: //p' "$folder/ready.txt")
[[ -n $url ]] || fail "the server was not ready after a minute; see $folder/serve.log"
say "$model at $url"

# Each check is a function; the closing line says how many passed.
passed=0
failed=0
check() {  # check NAME FUNCTION
  step "$1"
  if "$2" && kill -0 "$server" 2>/dev/null; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    say "failed: $1"
  fi
}

# ---- Checks ------------------------------------------------------------------------------------

# Whatever the API's description allows and forbids, every path and every answer.
schemathesis() {
  (cd "$folder" && SCHEMATHESIS_HOOKS=$root/scripts/schemathesis_hooks.py \
    "$tools/bin/schemathesis" --config-file "$root/scripts/schemathesis.toml" run \
    "$url/openapi.json" --continue-on-failure --generation-database none \
    --max-examples "$examples" --request-timeout 120) >&2
}
check "Schemathesis" schemathesis

# ---- End -----------------------------------------------------------------------------------------

kill -TERM "$server"
if ! wait "$server"; then
  failed=$((failed + 1))
  say "the server did not end well; see $folder/serve.log"
fi
trap - EXIT
printf '%d passed, %d failed\n' "$passed" "$failed"
[[ $failed == 0 && $passed != 0 ]]
