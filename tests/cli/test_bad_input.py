"""Damaged and hostile models: each gives one error that names file and field, and nothing more.

Every case changes one thing in a sound model. `quantize` must fail with exit code 1, in bounded
memory, and leave nothing that could be taken for a checkpoint.
"""

import json
import pathlib
import shutil
import struct

import pytest

import checkpoints

SHARD = "model.safetensors"
DOWN = "model.layers.1.mlp.down_proj.weight"
CASES = {}


def case(*naming):
    """Registers a function that damages a model folder, and what the error has to name."""

    def register(damage):
        CASES[damage.__name__] = (damage, naming)
        return damage

    return register


def change_json(path: pathlib.Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_tensors(folder: pathlib.Path, change) -> None:
    """change(header, data) may edit both in place."""
    header, data = checkpoints.read_safetensors(folder / SHARD)
    change(header, data)
    checkpoints.write_raw_safetensors(folder / SHARD, header, bytes(data))


# ---- safetensors ---------------------------------------------------------------------------------


@case(SHARD)
def truncated_data(folder):
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[: len(data) * 2 // 3])


@case(SHARD)
def truncated_header(folder):
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:100])


@case(SHARD)
def empty_file(folder):
    (folder / SHARD).write_bytes(b"")


@case(SHARD)
def header_longer_than_the_file(folder):
    (folder / SHARD).write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}")


@case(SHARD)
def header_that_is_no_json(folder):
    (folder / SHARD).write_bytes(struct.pack("<Q", 8) + b"{]]]]]]]")


@case(SHARD)
def header_nested_without_end(folder):
    text = b'{"a":' * 100_000
    (folder / SHARD).write_bytes(struct.pack("<Q", len(text)) + text)


@case(SHARD)
def header_with_a_name_twice(folder):
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    text += b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / SHARD).write_bytes(struct.pack("<Q", len(text)) + text + b"\0")


@case(SHARD, DOWN)
def offsets_past_the_end(folder):
    def change(header, data):
        header[DOWN]["data_offsets"] = [len(data), len(data) + 64 * 160 * 2]

    change_tensors(folder, change)


@case(SHARD, DOWN)
def offsets_backwards(folder):
    change_tensors(folder, lambda header, data: header[DOWN]["data_offsets"].reverse())


@case(SHARD)
def tensors_that_overlap(folder):
    def change(header, data):
        begin, end = header[DOWN]["data_offsets"]
        header[DOWN]["data_offsets"] = [begin - 64, end - 64]

    change_tensors(folder, change)


@case(SHARD, DOWN)
def shape_larger_than_its_bytes(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(shape=[64, 161]))


@case(SHARD, DOWN)
def shape_that_overflows(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(shape=[2**62, 2**62]))


@case(SHARD, DOWN)
def shape_that_is_negative(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(shape=[-64, -160]))


@case(DOWN)
def shape_of_another_model(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(shape=[160, 64]))


@case(SHARD, DOWN)
def dtype_that_does_not_exist(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(dtype="F17"))


@case(DOWN)
def dtype_that_is_no_weight(folder):
    change_tensors(folder, lambda header, data: header[DOWN].update(dtype="I16"))


def poison(folder, bits: int) -> None:
    def change(header, data):
        at = header[DOWN]["data_offsets"][0] + 2 * (5 * 160 + 7)
        struct.pack_into("<H", data, at, bits)

    change_tensors(folder, change)


@case("model.layers.1.mlp.down_proj")
def weight_that_is_nan(folder):
    poison(folder, 0x7FC0)


@case("model.layers.1.mlp.down_proj")
def weight_that_is_infinite(folder):
    poison(folder, 0xFF80)


@case(DOWN)
def tensor_that_is_missing(folder):
    header, data = checkpoints.read_safetensors(folder / SHARD)
    kept = {
        name: (info["dtype"], info["shape"], bytes(data[slice(*info["data_offsets"])]))
        for name, info in header.items()
        if name != DOWN
    }
    checkpoints.write_safetensors(folder / SHARD, kept)


# ---- folder, index -------------------------------------------------------------------------------


@case("config.json")
def no_config(folder):
    (folder / "config.json").unlink()


@case("safetensors")
def no_weights(folder):
    (folder / SHARD).unlink()


@case("tokenizer.json")
def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def write_index(folder, weight_map) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def names_of(folder):
    return [n for n in checkpoints.read_safetensors(folder / SHARD)[0] if n != "__metadata__"]


@case("model-00002-of-00002.safetensors")
def shard_that_is_missing(folder):
    names = names_of(folder)
    (folder / SHARD).rename(folder / "model-00001-of-00002.safetensors")
    weight_map = dict.fromkeys(names, "model-00001-of-00002.safetensors")
    write_index(folder, weight_map | {DOWN: "model-00002-of-00002.safetensors"})


@case("model.safetensors.index.json", "outside.safetensors")
def shard_outside_the_folder(folder):
    names = names_of(folder)
    (folder / SHARD).rename(folder.parent / "outside.safetensors")
    write_index(folder, dict.fromkeys(names, "../outside.safetensors"))


@case("model.safetensors.index.json")
def shard_with_an_absolute_path(folder):
    names = names_of(folder)
    target = folder.parent / "outside.safetensors"
    (folder / SHARD).rename(target)
    write_index(folder, dict.fromkeys(names, str(target)))


@case("model.safetensors.index.json")
def index_that_is_no_object(folder):
    (folder / SHARD).rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("[1, 2, 3]")


# ---- config.json ---------------------------------------------------------------------------------


def config_case(field: str, value, label: str) -> None:
    def damage(folder):
        change_json(folder / "config.json", lambda config: config.__setitem__(field, value))

    CASES[f"config_{field}_{label}"] = (damage, ("config.json", field))


for size_field in (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
):
    config_case(size_field, 0, "zero")
    config_case(size_field, -64, "negative")
    config_case(size_field, 2**62, "huge")
    config_case(size_field, "64", "text")
config_case("hidden_size", 64.5, "fraction")
config_case("max_position_embeddings", 2**60, "huge")
config_case("rms_norm_eps", -1.0, "negative")
config_case("rms_norm_eps", "small", "text")
config_case("rope_theta", 0, "zero")
config_case("rope_scaling", {"rope_type": "spiral", "factor": 2.0}, "unknown")
config_case("hidden_act", "tanh", "unknown")
config_case("architectures", ["SomethingForCausalLM"], "unknown")


@case("config.json", "num_attention_heads")
def config_heads_that_do_not_divide(folder):
    change_json(folder / "config.json", lambda config: config.update(num_attention_heads=3))


@case("config.json", "number")
def config_number_that_reads_as_infinity(folder):
    text = (folder / "config.json").read_text().replace("1e-05", "1e999")
    assert "1e999" in text
    (folder / "config.json").write_text(text)


@case("config.json")
def config_that_is_no_json(folder):
    (folder / "config.json").write_text("{")


@case("config.json")
def config_nested_without_end(folder):
    (folder / "config.json").write_text("[" * 1_000_000)


@pytest.mark.parametrize("name", CASES)
def test_quantize_refuses(liquid, model, tmp_path, name):
    damage, naming = CASES[name]
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    damage(folder)
    liquid.fails("quantize", folder, "-o", tmp_path / "out", naming=naming)
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list(tmp_path.glob("**/*.tmp-*"))


# ---- tokenizer and template: read when text is made -----------------------------------------------


def token_past_the_end(tokenizer):
    tokenizer["model"]["vocab"]["zzz"] = 10**9


def token_with_a_negative_id(tokenizer):
    tokenizer["model"]["vocab"]["zzz"] = -1


def token_id_used_twice(tokenizer):
    tokenizer["model"]["vocab"]["zzz"] = 5


def merge_of_unknown_tokens(tokenizer):
    tokenizer["model"]["merges"].append("qqqq zzzz")


def merge_that_is_no_pair(tokenizer):
    tokenizer["model"]["merges"].append("lonely")


def added_token_past_the_end(tokenizer):
    tokenizer["added_tokens"][0]["id"] = 2**40


def unknown_pre_tokenizer(tokenizer):
    tokenizer["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }


def unknown_model_type(tokenizer):
    tokenizer["model"]["type"] = "Unigram"


@pytest.mark.parametrize(
    "damage",
    [
        token_past_the_end,
        token_with_a_negative_id,
        token_id_used_twice,
        merge_of_unknown_tokens,
        merge_that_is_no_pair,
        added_token_past_the_end,
        unknown_pre_tokenizer,
        unknown_model_type,
    ],
)
def test_run_refuses_a_broken_tokenizer(liquid, quantized, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(quantized, folder)
    change_json(folder / "tokenizer.json", damage)
    liquid.fails("run", folder, "--prompt", "x", naming=["tokenizer.json"])


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in %}",
        "{{ messages.__class__ }}{% include 'other' %}",
        "{% for i in range(1000000000) %}{{ i }}{% endfor %}",
        "{{ 'a' * 1000000000000 }}",
        "{{ raise_exception('no system role') }}",
    ],
)
def test_run_refuses_a_broken_chat_template(liquid, quantized, tmp_path, template):
    folder = tmp_path / "model"
    shutil.copytree(quantized, folder)
    change_json(
        folder / "tokenizer_config.json", lambda value: value.update(chat_template=template)
    )
    liquid.fails("run", folder, "--prompt", "x", timeout=120)


# ---- LiquidQuant checkpoints ----------------------------------------------------------------------


MODULE = "model.layers.0.mlp.up_proj"


def edit_tensor(folder: pathlib.Path, name: str, edit) -> None:
    for file in folder.glob("*.safetensors"):
        header, data = checkpoints.read_safetensors(file)
        if name in header:
            begin, end = header[name]["data_offsets"]
            part = bytearray(data[begin:end])
            edit(part)
            data[begin:end] = part
            checkpoints.write_raw_safetensors(file, header, bytes(data))
            return
    raise AssertionError(f"{name} is in no file of {folder}")


@pytest.mark.parametrize(
    "tensor,value",
    [
        ("group_scale", b"\x00"),
        ("group_scale", b"\x11"),
        ("group_scale", b"\xff"),
        ("group_offset", b"\xff"),
        ("weight_scale", struct.pack("<f", float("nan"))),
        ("weight_scale", struct.pack("<f", float("inf"))),
        ("weight_scale", struct.pack("<f", 0.0)),
        ("weight_scale", struct.pack("<f", -1.0)),
        ("weight_scale", struct.pack("<f", 1e-40)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.hex(),
)
def test_run_refuses_data_that_breaks_the_contract(liquid, quantized, tmp_path, tensor, value):
    folder = tmp_path / "model"
    shutil.copytree(quantized, folder)

    def edit(data):
        data[: len(value)] = value

    edit_tensor(folder, f"{MODULE}.{tensor}", edit)
    liquid.fails("run", folder, "--prompt", "x", naming=[MODULE, "row 0"])


@pytest.mark.parametrize(
    "field,value",
    [
        ("format_version", 2),
        ("format_version", "1"),
        ("bits", 3),
        ("group_size", 48),
        ("quant_method", "other"),
        ("surprise", True),
        ("layers", {"model.layers.0.mlp.up_proj": {"scheme": "w1a1"}}),
    ],
    ids=str,
)
def test_run_refuses_an_unknown_quantization_config(liquid, quantized, tmp_path, field, value):
    folder = tmp_path / "model"
    shutil.copytree(quantized, folder)
    change_json(
        folder / "config.json", lambda config: config["quantization_config"].update({field: value})
    )
    liquid.fails("run", folder, "--prompt", "x", naming=["config.json"])


# ---- GGUF ------------------------------------------------------------------------------------------


def replace(old: bytes, new: bytes):
    def damage(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return damage


BAD_GGUF = {
    "wrong_magic": lambda data: b"GGML" + data[4:],
    "unknown_version": lambda data: data[:4] + struct.pack("<I", 99) + data[8:],
    "huge_tensor_count": lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:],
    "huge_metadata_count": lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:],
    "huge_string": lambda data: data[:24] + struct.pack("<Q", 2**63) + data[32:],
    "truncated_header": lambda data: data[:500],
    "truncated_data": lambda data: data[:-1000],
    "only_the_magic": lambda data: data[:4],
    "layers_zero": replace(
        b"llama.block_count" + struct.pack("<II", 4, 2),
        b"llama.block_count" + struct.pack("<II", 4, 0),
    ),
    "heads_zero": replace(
        b"attention.head_count" + struct.pack("<II", 4, 4),
        b"attention.head_count" + struct.pack("<II", 4, 0),
    ),
    "hidden_huge": replace(
        b"llama.embedding_length" + struct.pack("<II", 4, 64),
        b"llama.embedding_length" + struct.pack("<II", 4, 2**32 - 1),
    ),
    "alignment_zero": replace(
        b"general.alignment" + struct.pack("<II", 4, 32),
        b"general.alignment" + struct.pack("<II", 4, 0),
    ),
    "unknown_architecture": replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"),
    "unknown_pre_tokenizer": replace(b"smollm", b"smollX"),
    "unknown_tensor_type": replace(
        struct.pack("<QQ", 64, 64) + struct.pack("<I", 8),
        struct.pack("<QQ", 64, 64) + struct.pack("<I", 77),
    ),
    "tensor_that_overflows": replace(
        struct.pack("<QQ", 64, 64) + struct.pack("<I", 8),
        struct.pack("<QQ", 2**62, 2**62) + struct.pack("<I", 8),
    ),
    "eos_past_the_end": replace(
        b"eos_token_id" + struct.pack("<II", 4, 2),
        b"eos_token_id" + struct.pack("<II", 4, 2**31),
    ),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_quantize_refuses_a_damaged_gguf(liquid, gguf, tmp_path, name):
    file = tmp_path / "damaged.gguf"
    file.write_bytes(BAD_GGUF[name](gguf.read_bytes()))
    liquid.fails("quantize", file, "-o", tmp_path / "out", naming=["damaged.gguf"])
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list(tmp_path.glob("**/*.tmp-*"))


def test_links_devices_and_folders_are_no_weights(liquid, model, tmp_path):
    """A weights file that is a folder or a device is refused without waiting for it."""
    makers = {
        "folder": lambda path: path.mkdir(),
        "device": lambda path: path.symlink_to("/dev/zero"),
        "loop": lambda path: path.symlink_to(path),
    }
    for name, make in makers.items():
        folder = tmp_path / name
        shutil.copytree(model, folder)
        (folder / SHARD).unlink()
        make(folder / SHARD)
        liquid.fails("quantize", folder, "-o", tmp_path / "out", naming=["safetensors"])
