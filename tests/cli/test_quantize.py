"""`liquid quantize` and `liquid inspect`: what is written, and what survives trouble."""

import filecmp
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

import checkpoints


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def assert_same_files(left: pathlib.Path, right: pathlib.Path) -> None:
    names = sorted(files_of(left))
    assert names == sorted(files_of(right))
    _, different, errors = filecmp.cmpfiles(left, right, names, shallow=False)
    assert not different and not errors, f"{different} {errors}"


def assert_not_a_model(folder: pathlib.Path) -> None:
    """What a failed quantize leaves can not be taken for a whole checkpoint."""
    assert not (folder / "config.json").exists()
    leftovers = [f for f in folder.parent.rglob("*.tmp-*")]
    assert not leftovers, leftovers


def tensors_of(folder: pathlib.Path) -> dict[str, tuple[dict, bytes]]:
    result = {}
    for file in folder.glob("*.safetensors"):
        header, data = checkpoints.read_safetensors(file)
        for name, info in header.items():
            if name != "__metadata__":
                begin, end = info["data_offsets"]
                result[name] = (info, bytes(data[begin:end]))
    return result


def array(tensors, name: str) -> np.ndarray:
    info, data = tensors[name]
    kinds = {"U8": np.uint8, "I8": np.int8, "F32": np.float32}
    return np.frombuffer(data, dtype=kinds[info["dtype"]]).reshape(info["shape"])


def dequantize(tensors, module: str, group: int) -> np.ndarray:
    """s_ch * (q * s + a - 128), from the files alone."""
    packed = array(tensors, module + ".weight_packed")
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)
    step = np.repeat(array(tensors, module + ".group_scale"), group, axis=1)[:, : codes.shape[1]]
    offset = np.repeat(array(tensors, module + ".group_offset"), group, axis=1)
    unsigned = codes.astype(int) * step + offset[:, : codes.shape[1]]
    assert unsigned.max() <= 255 and step.min() >= 1 and step.max() <= 16
    return (unsigned - 128) * array(tensors, module + ".weight_scale")[:, None]


@pytest.mark.parametrize("group", [32, 64, 128])
def test_the_folder_holds_what_the_format_says(liquid, model, tmp_path, group):
    out = tmp_path / "out"
    liquid.ok("quantize", model, "-o", out, "--group-size", group)
    config = json.loads((out / "config.json").read_text())
    quantization = config["quantization_config"]
    assert quantization["quant_method"] == "liquidquant"
    assert quantization["format_version"] == 1
    assert quantization["bits"] == 4
    assert quantization["group_size"] == group
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / file).read_bytes() == (model / file).read_bytes()

    tensors = tensors_of(out)
    module = "model.layers.1.mlp.down_proj"  # K = 160: the last group is short for 64 and 128
    assert array(tensors, module + ".weight_packed").shape == (64, 80)
    assert array(tensors, module + ".group_scale").shape == (64, -(-160 // group))
    original = checkpoints.random_weights(checkpoints.default_config(), seed=1)[module + ".weight"]
    restored = dequantize(tensors, module, group)
    error = np.square(restored - original).mean() / np.square(original).mean()
    assert error < 0.02, f"relative squared error {error}"
    # Tied embeddings are stored once, as INT8.
    assert array(tensors, "model.embed_tokens.weight_int8").dtype == np.int8
    assert not any(name.startswith("lm_head") for name in tensors)


def test_an_fp16_head_is_the_rounded_embedding_of_a_tied_model(liquid, model, tmp_path):
    out = tmp_path / "out"
    report = liquid.ok("quantize", model, "-o", out, "--lm-head", "fp16", "--json").json()
    assert {m["name"]: m["scheme"] for m in report["modules"]}["lm_head"] == "fp16"
    config = json.loads((out / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    layers = config["quantization_config"]["layers"]
    assert layers["lm_head"] == {"scheme": "fp16"}
    assert layers["model.embed_tokens"] == {"scheme": "int8"}

    info, data = tensors_of(model)["model.embed_tokens.weight"]
    assert info["dtype"] == "BF16"
    original = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    info, data = tensors_of(out)["lm_head.weight"]
    assert info["dtype"] == "F16"
    assert (np.frombuffer(data, np.float16) == original.astype(np.float16)).all()

    outcome = liquid.ok("inspect", out, "--source", model, "--json").json()
    head = [t for t in outcome["tensors"] if t["name"] == "lm_head.weight"]
    assert head[0]["type"] == "F16" and head[0]["relative_squared_error"] < 1e-7
    liquid.ok("run", out, "--prompt", "in the", "--max-tokens", 3)
    assert liquid("quantize", model, "-o", tmp_path / "no", "--lm-head", "int4").code == 2


def test_scales_of_a_static_cache(liquid, model, tmp_path):
    text = tmp_path / "text"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    plain, out = tmp_path / "plain", tmp_path / "out"
    liquid.ok("quantize", model, "-o", plain)
    liquid.ok("quantize", model, "-o", out, "--kv-scales", text, "--threads", 2)
    tensors = tensors_of(out)
    config = json.loads((out / "config.json").read_text())
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    width = config["num_key_value_heads"] * head_dim
    for layer in range(config["num_hidden_layers"]):
        for name in ("k_scale", "v_scale"):
            scales = array(tensors, f"model.layers.{layer}.self_attn.{name}")
            assert scales.shape == (width,) and np.isfinite(scales).all() and scales.min() > 0
        # Dimensions that a rotation mixes have one scale.
        keys = array(tensors, f"model.layers.{layer}.self_attn.k_scale").reshape(-1, head_dim)
        assert (keys[:, : head_dim // 2] == keys[:, head_dim // 2 :]).all()
    # The weights are what they are without.
    without = {n: t[1] for n, t in tensors.items() if not n.endswith((".k_scale", ".v_scale"))}
    assert without == {name: data for name, (_, data) in tensors_of(plain).items()}
    run = ("run", out, "--prompt", "Hello", "--temperature", 0, "--max-tokens", 8)
    assert liquid.ok(*run, "--kv-cache-dtype", "int8-static").stdout.strip()
    liquid.fails("quantize", model, "-o", tmp_path / "none", "--kv-scales", tmp_path / "missing",
                 naming=["missing"])
    assert not (tmp_path / "none").exists()


def test_the_search_beats_rounding(liquid, model, tmp_path):
    original = checkpoints.random_weights(checkpoints.default_config(), seed=1)
    errors = {}
    for rule in ("search", "round", "ceil"):
        liquid.ok(
            "quantize", model, "-o", tmp_path / rule, "--step", rule, "--group-size", 64
        )
        tensors = tensors_of(tmp_path / rule)
        errors[rule] = sum(
            np.square(dequantize(tensors, name.removesuffix(".weight"), 64) - values).sum()
            for name, values in original.items()
            if "_proj" in name
        )
    assert errors["search"] < 0.9 * errors["round"], errors
    assert errors["search"] < 0.9 * errors["ceil"], errors


def test_threads_do_not_change_a_byte(liquid, model, tmp_path):
    liquid.ok("quantize", model, "-o", tmp_path / "one", "--threads", 1)
    liquid.ok("quantize", model, "-o", tmp_path / "two", "--threads", 2)
    assert_same_files(tmp_path / "one", tmp_path / "two")


def test_shards_are_read_as_one_model(liquid, model, tmp_path):
    sharded = checkpoints.write_model(tmp_path / "sharded", shards=3)
    liquid.ok("quantize", model, "-o", tmp_path / "from-one")
    liquid.ok("quantize", sharded, "-o", tmp_path / "from-three")
    assert tensors_of(tmp_path / "from-one") == tensors_of(tmp_path / "from-three")


def test_a_gguf_file_is_a_model(liquid, gguf, tmp_path):
    out = tmp_path / "out"
    liquid.ok("quantize", gguf, "-o", out, "--group-size", 64)
    original = checkpoints.random_weights(checkpoints.default_config(), seed=1)
    tensors = tensors_of(out)
    for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"):
        module = f"model.layers.0.{name}"
        restored = dequantize(tensors, module, 64)
        values = original[module + ".weight"]
        error = np.square(restored - values).mean() / np.square(values).mean()
        assert error < 0.02, f"{module}: relative squared error {error}"
    assert json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
    liquid.ok("run", out, "--prompt", "the", "--max-tokens", 4)


def test_w8a8_is_a_scheme_too(liquid, model, tmp_path):
    liquid.ok("quantize", model, "-o", tmp_path / "out", "--scheme", "w8a8")
    weights = array(tensors_of(tmp_path / "out"), "model.layers.0.mlp.up_proj.weight_int8")
    assert weights.shape == (160, 64) and np.abs(weights.astype(int)).max() == 127


def test_quantize_reports_as_json(liquid, model, tmp_path):
    assert isinstance(liquid.ok("quantize", model, "-o", tmp_path / "out", "--json").json(), dict)


def test_an_existing_folder_is_replaced_only_when_asked(liquid, model, tmp_path):
    out = tmp_path / "out"
    liquid.ok("quantize", model, "-o", out, "--group-size", 32)
    before = files_of(out)
    liquid.fails("quantize", model, "-o", out, "--group-size", 128, naming=["out", "--overwrite"])
    assert files_of(out) == before
    liquid.ok("quantize", model, "-o", out, "--group-size", 128, "--overwrite")
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"]["group_size"] == 128


def test_a_folder_of_something_else_is_never_overwritten(liquid, model, tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("years of work")
    liquid.fails("quantize", model, "-o", precious, "--overwrite", naming=["thesis"])
    assert files_of(precious) == {"chapter1.txt": b"years of work"}


def test_the_source_is_never_its_own_output(liquid, model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    before = files_of(copy)
    outcome = liquid("quantize", copy, "-o", copy, "--overwrite")
    assert outcome.code in (1, 2), outcome.stderr
    assert files_of(copy) == before


def test_inspect_lists_tensors_and_sizes(liquid, model, gguf, quantized):
    for path in (model, gguf, quantized):
        text = liquid.ok("inspect", path).text
        assert "down_proj" in text
        assert isinstance(liquid.ok("inspect", path, "--json").json(), dict)


def test_inspect_measures_the_error_against_the_source(liquid, model, quantized):
    plain = liquid.ok("inspect", quantized).text
    compared = liquid.ok("inspect", quantized, "--source", model).text
    assert compared != plain


# ---- Trouble -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> pathlib.Path:
    """Large enough that quantizing it on one thread can be interrupted."""
    folder = tmp_path_factory.mktemp("larger") / "model"
    return checkpoints.write_model(
        folder, seed=3, hidden_size=512, intermediate_size=1536, num_hidden_layers=6
    )


def blocks_written(folder: pathlib.Path) -> int:
    """Disk blocks of the outputs; a temporary file may be renamed while it is looked at."""
    blocks = 0
    for path in folder.glob("out*/**/*"):
        try:
            blocks += path.stat().st_blocks if path.is_file() else 0
        except FileNotFoundError:
            pass
    return blocks


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_quantize_goes_on_where_it_stopped(liquid, larger, tmp_path, how):
    arguments = ["quantize", larger, "-o", tmp_path / "out", "--threads", 1]
    process = liquid.start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Until the first tensors are on the disk.
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if blocks_written(tmp_path) > 0:
            break
        time.sleep(0.002)
    time.sleep(0.05)
    process.send_signal(how)
    code = process.wait(60)
    if code == 0:
        pytest.skip("the machine was faster than the interruption")
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 1)
    assert not (tmp_path / "out" / "config.json").exists()

    liquid.ok(*arguments)
    liquid.ok("quantize", larger, "-o", tmp_path / "undisturbed")
    assert_same_files(tmp_path / "out", tmp_path / "undisturbed")
    assert not [f.name for f in tmp_path.iterdir() if f.name.startswith("out") and f.name != "out"]


def limit_file_size(limit: int):
    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return prepare


@pytest.mark.parametrize("limit", [0, 1000, 40_000])
def test_a_refused_write_leaves_nothing_half_written(liquid, model, tmp_path, limit):
    out = tmp_path / "out"
    process = liquid.start(
        "quantize", model, "-o", out,
        preexec=limit_file_size(limit), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert b"error" in stderr
    assert_not_a_model(out)
    liquid.ok("quantize", model, "-o", out)
    liquid.ok("run", out, "--prompt", "x", "--max-tokens", 2)


def test_a_full_disk_leaves_nothing_half_written(liquid, model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        liquid.fails("quantize", model, "-o", disk / "out", naming=["space"])
        assert_not_a_model(disk / "out")
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        liquid.ok("quantize", model, "-o", disk / "out")
        liquid.ok("run", disk / "out", "--prompt", "x", "--max-tokens", 2)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_can_not_be_written_is_named(liquid, model, tmp_path):
    target = tmp_path / "file"
    target.write_text("not a folder")
    liquid.fails("quantize", model, "-o", target / "out", naming=["file"])


def test_memory_is_bounded_by_the_largest_tensor(liquid, larger, tmp_path):
    outcome = liquid.ok("quantize", larger, "-o", tmp_path / "out", "--threads", 2)
    if not os.environ.get("LIQUIDGEMM_SANITIZE"):
        assert outcome.max_rss_mib < 150, f"{outcome.max_rss_mib} MiB"
