"""Small random checkpoints, written by hand: a Hugging Face folder and a GGUF file.

Nothing here uses the program under test or a library for the formats, so that both sides of every
test are independent.
"""

from __future__ import annotations

import json
import pathlib
import struct

import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def tokens_and_merges() -> tuple[list[str], list[tuple[str, str]]]:
    alphabet = byte_alphabet()
    merges = [("t", "h"), ("th", "e"), ("a", "n"), ("an", "d"), ("i", "n"), (alphabet[32], "the")]
    return SPECIAL + alphabet + [left + right for left, right in merges], merges


def default_config(**changes) -> dict:
    tokens, _ = tokens_and_merges()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokens) + (-len(tokens)) % 8,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    config.update(changes)
    return config


def tokenizer_json() -> dict:
    tokens, merges = tokens_and_merges()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, content in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": True,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


def weight_shapes(config: dict) -> dict[str, list[int]]:
    """Every tensor's shape, by Hugging Face name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": [hidden],
            prefix + "self_attn.q_proj.weight": [hidden, hidden],
            prefix + "self_attn.k_proj.weight": [kv, hidden],
            prefix + "self_attn.v_proj.weight": [kv, hidden],
            prefix + "self_attn.o_proj.weight": [hidden, hidden],
            prefix + "post_attention_layernorm.weight": [hidden],
            prefix + "mlp.gate_proj.weight": [inner, hidden],
            prefix + "mlp.up_proj.weight": [inner, hidden],
            prefix + "mlp.down_proj.weight": [hidden, inner],
        }
    shapes["model.norm.weight"] = [hidden]
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    return shapes


def random_weight(name: str, shape: list[int], random: np.random.Generator) -> np.ndarray:
    """Normal numbers, as large as keeps a row's sum of products near 1."""
    values = random.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        return 1.0 + 0.1 * values
    return values * np.float32((4.0 if "embed" in name else 1.0) / np.sqrt(shape[1]))


def random_weights(config: dict, seed: int) -> dict[str, np.ndarray]:
    """float32 arrays by Hugging Face name."""
    random = np.random.default_rng(seed)
    shapes = weight_shapes(config)
    return {name: random_weight(name, shape, random) for name, shape in shapes.items()}


def bfloat16_bytes(values: np.ndarray) -> bytes:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_safetensors(path: pathlib.Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """tensors: name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
    write_raw_safetensors(path, header, b"".join(data for _, _, data in tensors.values()))


def write_raw_safetensors(path: pathlib.Path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path: pathlib.Path) -> tuple[dict, bytearray]:
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    return json.loads(raw[8 : 8 + length]), bytearray(raw[8 + length :])


def write_small_files(folder: pathlib.Path, config: dict) -> None:
    """Everything but the weights."""
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(), ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "chat_template": TEMPLATE,
                "bos_token": SPECIAL[1],
                "eos_token": SPECIAL[2],
                "tokenizer_class": "GPT2Tokenizer",
            }
        )
    )


def write_model(folder: pathlib.Path, seed: int = 1, shards: int = 1, **changes) -> pathlib.Path:
    """A whole Hugging Face folder in BF16, norms included."""
    folder.mkdir(parents=True, exist_ok=True)
    config = default_config(**changes)
    weights = random_weights(config, seed)
    stored = {
        name: ("BF16", list(values.shape), bfloat16_bytes(values))
        for name, values in weights.items()
    }
    write_small_files(folder, config)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", stored)
        return folder
    names, weight_map = list(stored), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        write_safetensors(folder / file, {name: stored[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# ---- GGUF ----------------------------------------------------------------------------------------

GGUF_U32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_I32 = 4, 6, 7, 8, 9, 5
GGML_F32, GGML_F16, GGML_Q8_0 = 0, 1, 8


def gguf_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value) -> bytes:
    """Type and value; lists are arrays of strings or of int32."""
    if isinstance(value, bool):
        return struct.pack("<I?", GGUF_BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", GGUF_U32, value)
    if isinstance(value, float):
        return struct.pack("<If", GGUF_F32, value)
    if isinstance(value, str):
        return struct.pack("<I", GGUF_STRING) + gguf_string(value)
    if isinstance(value[0], str):
        body = b"".join(gguf_string(item) for item in value)
        return struct.pack("<IIQ", GGUF_ARRAY, GGUF_STRING, len(value)) + body
    body = struct.pack(f"<{len(value)}i", *value)
    return struct.pack("<IIQ", GGUF_ARRAY, GGUF_I32, len(value)) + body


def q8_0_bytes(values: np.ndarray) -> bytes:
    """Blocks of 32: a float16 scale and 32 int8."""
    blocks = values.reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1) / 127).astype(np.float16)
    safe = np.where(scale == 0, 1, scale).astype(np.float32)
    codes = np.clip(np.rint(blocks / safe[:, None]), -127, 127).astype(np.int8)
    return b"".join(s.tobytes() + c.tobytes() for s, c in zip(scale, codes))


def interleave_heads(values: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores the rows of q and k with the two halves of each head interleaved."""
    rows, columns = values.shape
    shaped = values.reshape(heads, 2, rows // heads // 2, columns)
    return shaped.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: pathlib.Path, seed: int = 1) -> pathlib.Path:
    """The same model as write_model(seed) makes, norms in F32, embeddings F16, the rest Q8_0."""
    config = default_config()
    weights = random_weights(config, seed)
    tokens, merges = tokens_and_merges()
    tokens += [f"<|unused{i}|>" for i in range(config["vocab_size"] - len(tokens))]
    metadata = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.alignment": 32,
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.rope.dimension_count": config["hidden_size"] // config["num_attention_heads"],
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t.startswith("<|") else 1 for t in tokens],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    renames = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "model.layers": "blk",
    }
    infos, data = b"", b""
    for name, values in weights.items():
        for old, new in renames.items():
            name = name.replace(old, new)
        if "attn_q" in name:
            values = interleave_heads(values, config["num_attention_heads"])
        if "attn_k" in name:
            values = interleave_heads(values, config["num_key_value_heads"])
        if values.ndim == 1:
            kind, body = GGML_F32, values.tobytes()
        elif name.startswith("token_embd"):
            kind, body = GGML_F16, values.astype(np.float16).tobytes()
        else:
            kind, body = GGML_Q8_0, q8_0_bytes(values)
        shape = values.shape[::-1]  # GGUF names the fastest dimension first
        infos += gguf_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        infos += struct.pack("<IQ", kind, len(data))
        data += body + b"\0" * (-len(body) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(metadata))
    head += b"".join(gguf_string(key) + gguf_value(value) for key, value in metadata.items())
    head += infos
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path
