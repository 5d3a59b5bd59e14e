"""Tiny random GGUF files in every element type the reader takes, and their logits.

The logits are those of transformers on the dequantised weights: the golden says what the file
means, not what the unquantised model was.
"""

import json

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import families

LENGTHS = [1, 17, 200]

MODULES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}

# name: (model class, config class, tokenizer kind, pre-tokenizer's name, config fields, types).
# `types` gives the type of a matrix by the last part of its GGUF name and by layer, in turn.
FILES = {
    # SmolLM2's mixture: Q4_1 layers, a tied Q8_0 embedding.
    "llama-q4_1": (LlamaForCausalLM, LlamaConfig, "smollm", "smollm", dict(
        hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True),
        {"token_embd": [Type.Q8_0], "": [Type.Q4_1]}),
    # Everything at once, with a head of its own.
    "llama-mixed": (LlamaForCausalLM, LlamaConfig, "llama3", "llama-bpe", dict(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=False),
        {"token_embd": [Type.Q4_0], "output": [Type.Q8_0], "attn_q": [Type.F32, Type.Q8_0],
         "attn_k": [Type.F16, Type.Q4_0], "attn_v": [Type.Q4_1, Type.BF16],
         "attn_output": [Type.Q4_0, Type.F32], "ffn_gate": [Type.Q8_0, Type.F16],
         "ffn_up": [Type.BF16, Type.Q4_1], "ffn_down": [Type.Q4_0, Type.Q8_0]}),
    # F16 with biases; q and k are not permuted in this architecture.
    "qwen2-f16": (Qwen2ForCausalLM, Qwen2Config, "qwen2", "qwen2", dict(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=1000000.0, use_sliding_window=False,
        tie_word_embeddings=True),
        {"token_embd": [Type.Q8_0], "": [Type.F16, Type.Q4_0]}),
}


def permute(weight, heads):
    """Rotary pairs side by side, as llama.cpp's converter stores q and k of Llama models: row
    2 i + j of a head in the file is row i + j * head_dim / 2 of the head here."""
    rows = weight.shape[0]
    return np.ascontiguousarray(
        weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape))


def gguf_name(name):
    """(the tensor's name in GGUF, its layer) for a name of transformers."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight",
             "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name], 0
    _, _, layer, module = name.split(".", 3)
    module, suffix = module.rsplit(".", 1)
    return f"blk.{layer}.{MODULES[module]}.{suffix}", int(layer)


def pick_type(name, layer, types):
    kind = name.split(".")[-2]
    choices = types.get(kind, types.get(""))
    return choices[layer % len(choices)]


def add_tokenizer(writer, kind, pre):
    tokenizer = families.make_tokenizer(kind)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    texts = {token: text for text, token in vocabulary.items()}
    special = set(families.SPECIAL_TOKENS[kind])
    # Rows of the embedding without a token get a filler of type "unused", as the converter does.
    tokens = [texts.get(i, f"[PAD{i}]") for i in range(families.VOCABULARY)]
    kinds = [5 if i not in texts else 3 if texts[i] in special else 1
             for i in range(families.VOCABULARY)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    _, bos_id, eos, _ = families.special_ids(kind, tokenizer)
    if bos_id is not None:
        writer.add_bos_token_id(bos_id)
    writer.add_eos_token_id(tokenizer.token_to_id(eos))
    writer.add_add_bos_token(kind == "llama3")
    writer.add_chat_template(families.HEADERS if kind == "llama3" else families.CHATML)
    return bos_id, tokenizer.token_to_id(eos)


def add_config(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)


def make_file(path, name, seed):
    """Writes the GGUF file; returns the float32 model of the weights as stored."""
    model_class, config_class, kind, pre, fields, types = FILES[name]
    config = config_class(vocab_size=families.VOCABULARY, max_position_embeddings=2048,
                          attn_implementation="eager", **fields)
    model = model_class(config).eval()
    families.randomise(model, seed)

    architecture = config.model_type
    writer = GGUFWriter(path, architecture)
    add_config(writer, config)
    add_tokenizer(writer, kind, pre)
    with torch.no_grad():
        for tensor_name, parameter in model.named_parameters():
            values = parameter.numpy()
            stored, layer = gguf_name(tensor_name)
            heads = {"attn_q": config.num_attention_heads,
                     "attn_k": config.num_key_value_heads}.get(stored.split(".")[-2])
            if values.ndim == 1:
                writer.add_tensor(stored, np.array(values))
                continue
            permuted = architecture == "llama" and heads is not None
            data_type = pick_type(stored, layer, types)
            data = quantize(permute(values, heads) if permuted else values, data_type)
            writer.add_tensor(stored, data, raw_dtype=data_type)
            meant = dequantize(data, data_type)
            if permuted:
                rows = values.shape[0]
                meant = meant.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(meant).reshape(values.shape)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def make_all(root, make_goldens):
    for seed, name in enumerate(FILES, start=100):
        model = make_file(root / f"{name}.gguf", name, seed)
        make_goldens(model, root / f"{name}.goldens.safetensors", seed, LENGTHS)
        print("made", name + ".gguf", flush=True)
