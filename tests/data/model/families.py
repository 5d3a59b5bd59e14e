"""Small random checkpoints of every model family, as Hugging Face folders.

Weights have the scale of trained models rather than of fresh ones: attention is peaked, norm
weights and biases are far from 1 and 0, so a forward pass that forgets any of them gives logits
that are plainly wrong.
"""

import json
import math
import pathlib
import shutil

import torch
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from transformers import (GenerationConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

VOCABULARY = 512

# The published split patterns of Llama 3 and of Qwen2 differ in the digits only.
SPLIT_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CHATML = ("{% for message in messages %}"
          "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
          "{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
HEADERS = ("{{ bos_token }}{% for message in messages %}"
           "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
           "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
           "{% if add_generation_prompt %}"
           "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")

# A text for the merges: ours, so that nobody's rights are in question.
TRAINING_TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "A model reads numbers, weighs them and writes other numbers; that is the whole of it.",
    "When the weights are small the sums are small, and when the sums are small they are fast.",
    "There are 24 hours in a day, 60 minutes in an hour and 3600 seconds in that hour.",
    "What is the name of the river that runs through the town where the mill stands?",
    "def add(left, right):\n    return left + right\n\n\nprint(add(2, 3))\n",
    "It isn't what they're saying, it's what we've heard and what you'll hear, I'm sure.",
]

# name: (model class, config class, tokenizer kind, dtype, shards, config fields)
FAMILIES = {
    # Plain rope, grouped queries, its own lm_head, K = 96 and 160: a short last group of 64.
    "llama3": (LlamaForCausalLM, LlamaConfig, "llama3", torch.bfloat16, "200KB", dict(
        hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500000.0,
        tie_word_embeddings=False)),
    # Rope scaling; the original context is so short that all three frequency bands occur.
    "llama31": (LlamaForCausalLM, LlamaConfig, "llama3", torch.float16, None, dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                          high_freq_factor=4.0, original_max_position_embeddings=64))),
    "llama-bias": (LlamaForCausalLM, LlamaConfig, "llama3", torch.float32, None, dict(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, rms_norm_eps=1e-6, rope_theta=10000.0, attention_bias=True,
        mlp_bias=True, tie_word_embeddings=False)),
    # SmolLM2's proportions: tied, three query heads a key head, hidden size not in whole 128s.
    "smollm2": (LlamaForCausalLM, LlamaConfig, "smollm", torch.bfloat16, None, dict(
        hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, rms_norm_eps=1e-5, rope_theta=100000.0,
        tie_word_embeddings=True)),
    # No K is a multiple of 32 and one N is not a multiple of 8: layers that LiquidQuant leaves
    # to INT8.
    "smollm2-odd": (LlamaForCausalLM, LlamaConfig, "smollm", torch.float16, None, dict(
        hidden_size=72, intermediate_size=100, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, rms_norm_eps=1e-5, rope_theta=100000.0,
        tie_word_embeddings=True)),
    "qwen25": (Qwen2ForCausalLM, Qwen2Config, "qwen2", torch.bfloat16, None, dict(
        hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=1000000.0, use_sliding_window=False,
        max_window_layers=3, tie_word_embeddings=True)),
    # head_dim is not hidden_size / heads, and q and k are normalised.
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, "qwen2", torch.bfloat16, None, dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, rms_norm_eps=1e-6, rope_theta=1000000.0,
        use_sliding_window=False, max_window_layers=2, tie_word_embeddings=True)),
}

SPECIAL_TOKENS = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
               "<|end_header_id|>", "<|eot_id|>"],
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}


def make_tokenizer(kind):
    """A byte-level BPE of 512 ids with the family's normaliser, splitting and special tokens."""
    special = SPECIAL_TOKENS[kind]
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "smollm")
    if kind == "smollm":
        first = pre_tokenizers.Digits(individual_digits=True)
    else:
        pattern = SPLIT_PATTERN.replace("DIGITS", "{1,3}" if kind == "llama3" else "")
        first = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    # SmolLM's special tokens have the first ids, the others' the last.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY if kind == "smollm" else VOCABULARY - len(special),
        special_tokens=special if kind == "smollm" else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    if kind == "llama3":
        bos = special[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.token_to_id(bos))])
    assert tokenizer.get_vocab_size() <= VOCABULARY
    return tokenizer


def special_ids(kind, tokenizer):
    """(bos text or None, bos id, eos text, all eos ids) as the family's files name them."""
    find = tokenizer.token_to_id
    if kind == "llama3":
        return "<|begin_of_text|>", find("<|begin_of_text|>"), "<|eot_id|>", [
            find("<|end_of_text|>"), find("<|eot_id|>")]
    if kind == "smollm":
        return "<|im_start|>", find("<|im_start|>"), "<|im_end|>", [find("<|im_end|>")]
    return None, None, "<|im_end|>", [find("<|im_end|>"), find("<|endoftext|>")]


def randomise(model, seed):
    """Weights, norms and biases with the spread of a trained model."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, deviation):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("norm.weight") or "layernorm" in name:
                tensor.copy_(0.4 + 1.2 * torch.rand(tensor.shape, generator=generator))
            elif name.endswith(".bias"):
                normal(tensor, 0.3)
            elif "embed_tokens" in name:
                normal(tensor, 0.2)
            else:
                gain = 2.0 if ("q_proj" in name or "k_proj" in name or "lm_head" in name) else 0.8
                normal(tensor, gain / math.sqrt(tensor.shape[1]))


def write_tokenizer_files(folder, kind, tokenizer):
    bos, _, eos, _ = special_ids(kind, tokenizer)
    # One line: a pretty-printed vocabulary would be the largest file of the folder.
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")),
        encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": bos, "eos_token": eos, "model_max_length": 2048,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": HEADERS if kind == "llama3" else CHATML}, indent=2) + "\n")


def make_checkpoint(root, name, seed):
    """Writes the folder root/name."""
    model_class, config_class, kind, dtype, shard_size, fields = FAMILIES[name]
    tokenizer = make_tokenizer(kind)
    _, bos_id, _, eos_ids = special_ids(kind, tokenizer)
    config = config_class(vocab_size=VOCABULARY, max_position_embeddings=2048, bos_token_id=bos_id,
                          eos_token_id=eos_ids[0], torch_dtype=dtype, **fields)
    model = model_class(config)
    randomise(model, seed)
    model = model.to(dtype)
    model.generation_config = GenerationConfig(
        bos_token_id=bos_id, eos_token_id=eos_ids, do_sample=True, temperature=0.6, top_p=0.9)
    folder = pathlib.Path(root) / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shard_size or "5GB")
    write_tokenizer_files(folder, kind, tokenizer)
    return folder
