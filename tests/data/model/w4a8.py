"""A LiquidQuant checkpoint made in NumPy (step rule "round"), and the W4A8 forward pass over it.

Written from docs/format.md and docs/numerics.md; shares no code with the program. The goldens are
bit for bit: INT32 sums, outputs of single layers and logits.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

import contract
from contract import F32

GROUP = 64
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]

# length: positions whose logits are kept, for each format of the KV cache.
KEPT = {1: [0], 17: [0, 7, 16], 300: [63, 255, 256, 299]}
# Rows of layer 0 that are kept, of the 17-token sequence.
LAYER_ROWS = 9


def quantize_liquid(weight):
    """{suffix: array} of one linear layer [N, K]."""
    rows, k = weight.shape
    largest = np.abs(weight).max(1)
    scale = np.where(largest > 0, largest / F32(119), F32(1))
    levels = np.clip(weight / scale[:, None], F32(-119), F32(119))
    integers = np.rint(levels).astype(np.int64)
    codes = np.zeros((rows, k), np.int64)
    steps, offsets = [], []
    for first in range(0, k, GROUP):
        group = integers[:, first:first + GROUP]
        low, high = group.min(1), group.max(1)
        step = np.maximum(1, (high - low + 7) // 15)  # range / 15 is never halfway
        # Half steps round up; code 16 is clamped.
        code = (group - low[:, None] + step[:, None] // 2) // step[:, None]
        codes[:, first:first + GROUP] = np.minimum(15, code)
        steps.append(step)
        offsets.append(low + 128)
    return {"weight_packed": (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8),
            "group_scale": np.stack(steps, 1).astype(np.uint8),
            "group_offset": np.stack(offsets, 1).astype(np.uint8),
            "weight_scale": scale.astype(F32)}


def quantize_int8(weight):
    largest = np.abs(weight).max(1)
    scale = np.where(largest > 0, largest / F32(127), F32(1)).astype(F32)
    values = np.clip(np.rint(weight / scale[:, None]), -127, 127)
    return {"weight_int8": values.astype(np.int8), "weight_scale": scale}


def make_checkpoint(source, folder):
    """Quantises the Hugging Face folder `source` into `folder`."""
    source, folder = pathlib.Path(source), pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors, layers = {}, {}
    for file in sorted(source.glob("*.safetensors")):
        for name, value in load_torch(file).items():
            module = name.removesuffix(".weight")
            if value.ndim == 1:
                tensors[name] = value  # norms stay as they came
                continue
            if module in ("model.embed_tokens", "lm_head"):
                stored, layers[module] = quantize_int8(value.float().numpy()), {"scheme": "int8"}
            else:
                stored = quantize_liquid(value.float().numpy())
                layers[module] = {"scheme": "liquid4", "group_size": GROUP}
            tensors |= {f"{module}.{suffix}": torch.from_numpy(array)
                        for suffix, array in stored.items()}
    save_torch(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "liquidquant", "format_version": 1, "bits": 4,
                                     "group_size": GROUP, "layers": dict(sorted(layers.items()))}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)


class Model:
    """The decoder of a LiquidQuant checkpoint, after the contract."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {name: value.float().numpy() if value.is_floating_point() else value.numpy()
                        for name, value in load_torch(folder / "model.safetensors").items()}
        self.kept = None  # where linear() writes what it did, while a layer is recorded

    def levels(self, module):
        """(integer weights [N, K], channel scale)."""
        get = lambda suffix: self.tensors.get(f"{module}.{suffix}")
        scale = get("weight_scale")
        if (int8 := get("weight_int8")) is not None:
            return int8.astype(np.int64), scale
        packed = get("weight_packed").astype(np.int64)
        codes = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)
        group = np.arange(codes.shape[1]) // GROUP
        step, offset = (get(name).astype(np.int64)[:, group]
                        for name in ("group_scale", "group_offset"))
        return codes * step + offset - 128, scale

    def linear(self, module, x):
        weight, channel_scale = self.levels(module)
        x8, row_scale = contract.quantize_rows(x)
        sums = x8.astype(np.int64) @ weight.T
        assert np.abs(sums).max() < 2 ** 31
        sums = sums.astype(np.int32)
        out = contract.scale_output(sums, row_scale, channel_scale)
        if self.kept is not None:
            kept = {"input": x, "x8": x8, "row_scale": row_scale, "sums": sums, "output": out}
            self.kept |= {f"{module}.{key}": np.ascontiguousarray(value[:LAYER_ROWS])
                          for key, value in kept.items()}
        return out

    def norm(self, name, x):
        return contract.rms_norm(x, self.tensors[name + ".weight"], self.config["rms_norm_eps"])

    def attention(self, qkv, kv_format):
        config, tokens = self.config, len(qkv[0])
        width, heads = config["head_dim"], config["num_attention_heads"]
        group = heads // config["num_key_value_heads"]
        q, k, v = (x.reshape(tokens, -1, width) for x in qkv)
        cos, sin = contract.rope_tables(tokens, width, config["rope_theta"])
        q, k = contract.rotate(q, cos, sin), contract.rotate(k, cos, sin)
        out = [contract.attention(q[:, h], k[:, h // group], v[:, h // group], kv_format)
               for h in range(heads)]
        return np.concatenate(out, axis=-1)

    def logits(self, tokens, kv_format, kept=None):
        embedding, scale = (self.tensors[f"model.embed_tokens.{name}"]
                            for name in ("weight_int8", "weight_scale"))
        x = embedding[tokens].astype(F32) * scale[tokens][:, None]
        for i in range(self.config["num_hidden_layers"]):
            self.kept = kept if i == 0 else None
            q, k, v, o, gate, up, down = (f"model.layers.{i}.{name}" for name in LINEARS)
            h = self.norm(f"model.layers.{i}.input_layernorm", x)
            h = self.attention([self.linear(m, h) for m in (q, k, v)], kv_format)
            x = x + self.linear(o, h)
            h = self.norm(f"model.layers.{i}.post_attention_layernorm", x)
            h = contract.silu(self.linear(gate, h)) * self.linear(up, h)
            x = x + self.linear(down, h)
        self.kept = None
        return self.linear("lm_head", self.norm("model.norm", x))


def make_goldens(folder, path, layer_path):
    """path: tokens.L, positions.L, logits.f16.L and logits.int8.L (by format of the KV cache).
    layer_path: MODULE.input, .x8, .row_scale, .sums and .output of every linear of layer 0."""
    model = Model(folder)
    kept, layer = {}, {}
    for length, positions in KEPT.items():
        tokens = np.random.default_rng([48, length]).integers(
            0, model.config["vocab_size"], length, dtype=np.int32)
        kept[f"tokens.{length}"] = tokens
        kept[f"positions.{length}"] = np.array(positions, np.int32)
        for kv_format in ("f16", "int8"):
            record = layer if (length, kv_format) == (17, "f16") else None
            logits = model.logits(tokens, kv_format, record)
            assert logits.dtype == F32 and np.isfinite(logits).all()
            kept[f"logits.{kv_format}.{length}"] = np.ascontiguousarray(logits[positions])
    save_file(kept, path)
    save_file(layer, layer_path)
    print("made", pathlib.Path(folder).name, flush=True)
