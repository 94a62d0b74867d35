"""Records tiny random models of each supported family and RoPE kind, as transformers writes them, with their logits."""
import json

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from common import GOLDEN, exact, fresh, generator, greedy, logits_of, mean_nll, normal, token_ids, write_json

SHAPE = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
# Two wide heads and a small theta spread the rotary wavelengths over the few positions of a golden.
WIDE = {**SHAPE, "num_attention_heads": 2, "num_key_value_heads": 1}


def rope(kind="default", **more):
    return {"rope_type": kind, "rope_theta": 100.0, **more}


LINEAR = rope("linear", factor=2.5)
DYNAMIC = rope("dynamic", factor=2.0)
LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
SHORT = {**WIDE, "max_position_embeddings": 16}

# name -> (config, lengths of the two sequences, options of `record`)
MODELS = {
    "llama-gqa-tied": (LlamaConfig(**SHAPE, tie_word_embeddings=True), (13, 24), {}),
    "llama-biases-untied": (LlamaConfig(**SHAPE, head_dim=16, attention_bias=True, mlp_bias=True), (13, 24), {}),
    "llama-bf16": (LlamaConfig(**SHAPE, tie_word_embeddings=True), (12, 20), {"dtype": torch.bfloat16}),
    "llama-sharded": (LlamaConfig(**SHAPE), (12, 16), {"shard": "64KB"}),
    "llama-old-style": (LlamaConfig(**SHAPE, rope_parameters=rope()), (12, 16), {"old": "type"}),
    "llama-rope-linear": (LlamaConfig(**WIDE, rope_parameters=LINEAR), (13, 24), {}),
    "llama-rope-linear-old": (LlamaConfig(**WIDE, rope_parameters=LINEAR), (13, 24), {"old": "type"}),
    "llama-rope-dynamic": (LlamaConfig(**SHORT, rope_parameters=DYNAMIC), (13, 24), {}),
    "llama-rope-dynamic-old": (LlamaConfig(**SHORT, rope_parameters=DYNAMIC), (13, 24), {"old": "type"}),
    "llama-rope-llama3": (LlamaConfig(**WIDE, rope_parameters=LLAMA3), (13, 40), {}),
    "llama-rope-llama3-old": (LlamaConfig(**WIDE, rope_parameters=LLAMA3), (13, 40), {"old": "rope_type"}),
    "llama-rope-yarn": (LlamaConfig(**WIDE, rope_parameters=YARN), (13, 24), {}),
    "llama-rope-yarn-old": (LlamaConfig(**WIDE, rope_parameters=YARN), (13, 24), {"old": "rope_type"}),
    "llama-rope-yarn-mscale": (LlamaConfig(**WIDE, rope_parameters={**YARN, "mscale": 1.2, "mscale_all_dim": 0.7,
                                                                    "beta_fast": 2.0, "beta_slow": 0.5}), (13, 24), {}),
    "llama-rope-yarn-factor": (LlamaConfig(**WIDE, rope_parameters={**YARN, "attention_factor": 0.8, "truncate": False}),
                               (13, 24), {}),
    "mistral-sliding": (MistralConfig(**SHAPE, sliding_window=4), (13, 24), {}),
    "mistral-sliding-old": (MistralConfig(**SHAPE, sliding_window=4), (13, 24), {"old": "type"}),
    "mistral-full-head-dim": (MistralConfig(**SHAPE, sliding_window=None, head_dim=12), (12, 16), {}),
    # As published: a window is given, but not in use.
    "qwen2-tied": (Qwen2Config(**SHAPE, tie_word_embeddings=True), (13, 24),
                   {"old": "type", "extra": {"sliding_window": 4, "max_window_layers": 0}}),
    "qwen2-sliding-layer-types": (Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=2,
                                              layer_types=["sliding_attention", "full_attention"]), (13, 24), {}),
    "qwen2-sliding-old": (Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1),
                          (13, 24), {"old": "type"}),
    "qwen3-head-dim": (Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True), (13, 24), {}),
    "qwen3-biases-sliding": (Qwen3Config(**SHAPE, head_dim=8, attention_bias=True, use_sliding_window=True,
                                         sliding_window=4, max_window_layers=1), (13, 24), {"old": "type"}),
}


def randomise(model, seed):
    """Every parameter away from its neutral value: norms around 1, biases around 0, matrices of deviation 0.3."""
    gen = generator(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = normal(parameter.shape, gen)
        if "norm" in name:
            value = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        else:
            value = (1.0 if "embed_tokens" in name else 0.3) * noise
            if "embed_tokens" in name and model.config.tie_word_embeddings:
                value = 0.5 * noise
        parameter.data.copy_(value)


def to_old_style(folder, key, extra):
    """Rewrites config.json as files published before `rope_parameters` spell it; `key` names the kind inside rope_scaling."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    kind = scaling.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {key: kind, **scaling}
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config.update(extra)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(folder, dtype=torch.float32, attention="eager"):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def record(name, config, lengths, dtype=torch.float32, shard=None, old=None, extra={}):
    folder = fresh(GOLDEN / "models" / name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Folders that differ only in spelling share their weights.
    randomise(model, seed=sum(map(ord, name.removesuffix("-old"))))
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if old:
        to_old_style(folder, old, extra)
    sequences, noise = [], 0.0
    for index, length in enumerate(lengths):
        ids = token_ids(length, seed=100 + index)
        # A fresh model each time: dynamic RoPE keeps state between calls.
        logits = logits_of(load(folder), ids)
        for other in (load(folder, torch.float64), load(folder, attention="sdpa")):
            noise = max(noise, float((logits_of(other, ids) - logits).abs().max()))
        row = {"ids": ids, "logits": exact(logits), "nll": mean_nll(logits, ids)}
        if dtype != torch.float32:
            row["nllStored"] = mean_nll(logits_of(load(folder, dtype), ids), ids)
        sequences.append(row)
    prompt = sequences[0]["ids"]
    new, margin = greedy(load(folder), prompt, 12)
    write_json(folder / "reference.json", {
        "dtype": "float32", "noise": noise, "sequences": sequences,
        "greedy": {"prompt": prompt, "new": new, "margin": margin}})
    return noise, margin


if __name__ == "__main__":
    fresh(GOLDEN / "models")
    for name, (config, lengths, options) in MODELS.items():
        noise, margin = record(name, config, lengths, **options)
        print(f"{name}: noise {noise:.2e}, greedy margin {margin:.2e}")
