"""Writes tiny GGUF models with mixed block types and a byte-level BPE, with logits of their dequantised weights and token ids of texts."""
import json

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, dequantize, quantize
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from common import DATA, GOLDEN, exact, greedy, logits_of, mean_nll, write_json
from gguf_blocks import random_blocks
from models import randomise

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
TEXTS = ["First Citizen:\nBefore we proceed any further, hear me speak.", " two  spaces, 1234 digits and I'll", "naïve café — 東京 🙂",
         "<|im_start|>user\nHello<|im_end|>\n", "", "tab\tand\r\nline\n\n\nend  "]
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SHAPE = dict(vocab_size=330, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)

PARTS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
# K types need rows of 256 values, which only ffn_down of the llama has; other tensors are F32.
LLAMA_TYPES = {"token_embd": "Q8_0", "attn_q": "Q4_0", "attn_k": "Q8_0", "attn_v": "Q5_1", "attn_output": "Q4_1", "ffn_gate": "Q5_0",
               "blk.0.ffn_up": "F16", "blk.1.ffn_up": "BF16", "blk.0.ffn_down": "Q6_K", "blk.1.ffn_down": "Q4_K"}
QWEN2_TYPES = {"token_embd": "F16", "output": "Q8_0", "attn_q": "Q8_0", "attn_k": "F16", "ffn_gate": "Q4_1", "ffn_up": "Q4_0",
               "ffn_down": "Q5_K"}


def tokenizer(pre):
    """A byte-level BPE of 330 tokens, split as the named family splits."""
    built = Tokenizer(models.BPE())
    if pre == "smollm":
        built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        built.normalizer = normalizers.NFC()
        built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=SHAPE["vocab_size"], special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    built.train_from_iterator([(DATA / "shakespeare" / "train.txt").read_text()[:20_000]], trainer)
    return built


def gguf_name(name):
    """The GGUF name of a transformers parameter."""
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    path, _, kind = name.rpartition(".")
    if path in top:
        return f"{top[path]}.{kind}"
    layer, part = path.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{next(short for short, long in PARTS.items() if long == part)}.{kind}"


def interleave(rows, heads):
    """The row order of q and k in llama GGUF files: the two halves of a head's rotary dimensions alternate."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def split(rows, heads):
    """The inverse of `interleave`."""
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def encode(rows, kind, rng):
    """Bytes of the stored tensor, and the values a reader must find."""
    if kind.endswith("_K"):  # the gguf package reads but does not write these
        data = random_blocks(kind, rows.size // 256, rng).reshape(rows.shape[0], -1)
    else:
        data = quantize(rows, GGMLQuantizationType[kind])
    return data, dequantize(data, GGMLQuantizationType[kind]).reshape(rows.shape)


def write(path, arch, config, model, types, pre):
    """Writes the file and puts the values it holds back into the model."""
    writer, rng = GGUFWriter(path, arch), np.random.default_rng(9)
    writer.add_name(path.stem)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if arch == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        writer.add_vocab_size(config.vocab_size)
    built = add_tokenizer(writer, pre)
    for name, parameter in model.named_parameters():
        rows, short = parameter.detach().numpy(), gguf_name(name)
        stem = short.removesuffix(".weight")
        kind = types.get(stem, types.get(stem.split(".")[-1], "F32")) if rows.ndim == 2 else "F32"
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(stem.split(".")[-1])
        turned = heads is not None and arch == "llama"
        data, values = encode(interleave(rows, heads) if turned else rows, kind, rng)
        writer.add_tensor(short, data, raw_dtype=None if kind in ("F32", "F16") else GGMLQuantizationType[kind])
        parameter.data.copy_(torch.from_numpy((split(values, heads) if turned else values).copy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return built


def add_tokenizer(writer, pre):
    built = tokenizer(pre)
    tokens = [built.id_to_token(index) for index in range(built.get_vocab_size())]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens])
    merges = json.loads(built.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    return built


def record(stem, arch, config, types, pre):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    randomise(model, seed=sum(map(ord, stem)))
    path = GOLDEN / "gguf" / f"{stem}.gguf"
    built = write(path, arch, config, model, types, pre)
    texts = [{"text": text, "ids": (ids := built.encode(text).ids), "decoded": built.decode(ids, skip_special_tokens=False)} for text in TEXTS]
    sequences = []
    for row in texts[:2]:
        ids = row["ids"][:12]
        logits = logits_of(model, ids)
        sequences.append({"ids": ids, "logits": exact(logits), "nll": mean_nll(logits, ids)})
    new, margin = greedy(model, sequences[0]["ids"], 12)
    write_json(path.with_suffix(".json"), {"sequences": sequences, "greedy": {"prompt": sequences[0]["ids"], "new": new, "margin": margin},
                                           "texts": texts})
    other = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    difference = max(float((logits_of(other, row["ids"]) - torch.tensor(row["logits"])).abs().max()) for row in sequences)
    print(f"{stem}: {path.stat().st_size} bytes, greedy margin {margin:.2e}, transformers' own reader differs by {difference:.1e}")


if __name__ == "__main__":
    (GOLDEN / "gguf").mkdir(exist_ok=True)
    record("tiny-llama", "llama", LlamaConfig(**SHAPE, intermediate_size=256, tie_word_embeddings=True), LLAMA_TYPES, "smollm")
    record("tiny-qwen2", "qwen2", Qwen2Config(**SHAPE, intermediate_size=256), QWEN2_TYPES, "qwen2")
