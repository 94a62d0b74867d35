"""Records one LoRA adapter per PEFT option over the tiny models: the folder as PEFT saves it, and logits of the loaded pair."""
import os

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from common import GOLDEN, exact, fresh, generator, logits_of, normal, token_ids, write_json

TIED = "models/llama-gqa-tied"
BIASES = "models/llama-biases-untied"
UNTIED = "models/llama-sharded"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name -> (base model, PEFT options)
ADAPTERS = {
    "plain": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.05)),
    "default-targets": ("models/mistral-sliding", dict(r=4, lora_alpha=4)),
    "rslora": (TIED, dict(r=4, lora_alpha=8, target_modules=ATTENTION, use_rslora=True)),
    "dora": (TIED, dict(r=4, lora_alpha=8, target_modules=ATTENTION + ["down_proj"], use_dora=True)),
    "dora-rslora-biases": (BIASES, dict(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True, use_rslora=True)),
    "dora-embedding": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "q_proj"], use_dora=True)),
    "lora-bias": (BIASES, dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], lora_bias=True)),
    "bias-all": (BIASES, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], bias="all")),
    "bias-lora-only": (BIASES, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], bias="lora_only")),
    "bias-lora-only-qwen2": ("models/qwen2-sliding-old", dict(r=4, lora_alpha=8, target_modules=ATTENTION, bias="lora_only")),
    "patterns": (TIED, dict(r=4, lora_alpha=8, target_modules=ATTENTION + ["up_proj"],
                            rank_pattern={"^model.layers.0.self_attn.q_proj": 2, r"layers\.1\..*(k|v)_proj": 6, "up_proj": 3},
                            alpha_pattern={"q_proj": 5, r"model\.layers\.\d+\.mlp\.up_proj": 12})),
    "patterns-rslora": (TIED, dict(r=4, lora_alpha=8, target_modules=ATTENTION, use_rslora=True, rank_pattern={"o_proj": 9})),
    "layers-to-transform": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj", "gate_proj"], layers_to_transform=[1],
                                       layers_pattern="layers")),
    "layers-to-transform-int": (TIED, dict(r=4, lora_alpha=8, target_modules=["k_proj"], layers_to_transform=0)),
    "embedding-tied": (TIED, dict(r=4, lora_alpha=8, target_modules=["embed_tokens"])),
    "embedding-untied": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "v_proj"])),
    "lm-head": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["lm_head", "q_proj"])),
    "lm-head-tied": (TIED, dict(r=4, lora_alpha=8, target_modules=["lm_head", "q_proj"])),
    "modules-to-save-lm-head": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["lm_head"])),
    "modules-to-save-both": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"],
                                          modules_to_save=["embed_tokens", "lm_head"])),
    "modules-to-save-tied": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["embed_tokens"])),
    "modules-to-save-norms": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["input_layernorm", "norm"])),
    "modules-to-save-biased-linear": (BIASES, dict(r=4, lora_alpha=8, target_modules=["q_proj"], modules_to_save=["down_proj"])),
    "token-indices-tied": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"], trainable_token_indices=[3, 17, 42])),
    "token-indices-untied": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"], trainable_token_indices=[5, 3, 96])),
    "token-indices-named": (UNTIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"],
                                         trainable_token_indices={"embed_tokens": [7, 11]})),
    "regex-targets": (TIED, dict(r=4, lora_alpha=8, target_modules=r".*\.layers\.\d+\.(self_attn\.(q|v)_proj|mlp\.up_proj)")),
    "full-path-targets": (TIED, dict(r=4, lora_alpha=8, target_modules=["model.layers.0.self_attn.q_proj", "1.mlp.down_proj"])),
    "all-linear": (UNTIED, dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "all-linear-qwen3": ("models/qwen3-head-dim", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "exclude-list": (TIED, dict(r=4, lora_alpha=8, target_modules=ATTENTION, exclude_modules=["k_proj", "layers.1.self_attn.o_proj"])),
    "exclude-regex": (TIED, dict(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=r".*mlp.*")),
    "gaussian": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights="gaussian")),
    "init-false": (TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)),
    "rank-above-size": (TIED, dict(r=40, lora_alpha=40, target_modules=["k_proj"])),
    "float-alpha": (TIED, dict(r=3, lora_alpha=8.485281374238571, target_modules=["gate_proj"])),
}
LENGTHS = (12, 15)


def load_base(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()


def perturb(model, seed):
    """Moves every trainable parameter away from where it starts, so that each one shows in the logits."""
    gen = generator(seed)
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            continue
        noise = normal(parameter.shape, gen)
        if "lora_embedding_A" in name:
            parameter.data.copy_(0.5 * noise)
        elif "lora_embedding_B" in name:
            parameter.data.copy_(0.2 * noise)
        elif "lora_magnitude_vector" in name:
            parameter.data.mul_(1 + 0.1 * noise)
        else:
            parameter.data.add_(0.15 * noise)


def build(base, options, seed, name="default"):
    torch.manual_seed(seed)
    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **options), adapter_name=name)
    perturb(model, seed)
    return model.eval()


def save(model, folder):
    model.save_pretrained(folder)
    for card in folder.rglob("README.md"):
        card.unlink()


def reference(model, base, **more):
    """Logits of two sequences, of the base model too, so that a silent no-op shows."""
    plain, sequences, effect = load_base(base), [], 0.0
    for index, length in enumerate(LENGTHS):
        ids = token_ids(length, seed=200 + index)
        logits = logits_of(model, ids)
        effect = max(effect, float((logits - logits_of(plain, ids)).abs().max()))
        sequences.append({"ids": ids, "logits": exact(logits)})
    assert effect > 0.05, "the adapter hardly changes the logits"
    return {"base": base, **more, "effect": effect, "sequences": sequences}


def assert_same(model, expected):
    for row in expected["sequences"]:
        difference = float((logits_of(model, row["ids"]) - torch.tensor(row["logits"])).abs().max())
        assert difference < 1e-5, f"saved and loaded adapters differ by {difference}"


def record_single(name, base, options):
    folder = fresh(GOLDEN / "adapters" / name)
    trained = build(base, options, seed=sum(map(ord, name)))
    save(trained, folder)
    loaded = PeftModel.from_pretrained(load_base(base), folder).eval()
    expected = reference(loaded, base)
    assert_same(trained, expected)
    write_json(folder / "reference.json", expected)
    return expected["effect"]


def record_pair():
    """Two adapters of different rank and targets on one model; both files, each alone and both active."""
    folder = fresh(GOLDEN / "adapters" / "two-active")
    options = {"first": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
               "second": dict(r=2, lora_alpha=6, target_modules=["v_proj", "down_proj"], use_rslora=True)}
    for seed, (name, option) in enumerate(options.items(), 31):
        save(build(TIED, option, seed), folder / name)
    model = PeftModel.from_pretrained(load_base(TIED), folder / "first", adapter_name="first")
    model.load_adapter(folder / "second", adapter_name="second")
    for active in (["first"], ["second"], ["first", "second"]):
        model.base_model.set_adapter(active)
        write_json(folder / f"reference-{'-'.join(active)}.json", reference(model.eval(), TIED, active=active))


def record_named():
    """An adapter saved under a name other than `default`: PEFT puts it into a folder of that name."""
    folder = fresh(GOLDEN / "adapters" / "named")
    save(build(TIED, dict(r=4, lora_alpha=8, target_modules=["q_proj"]), 41, name="style"), folder)
    model = PeftModel.from_pretrained(load_base(TIED), folder / "style").eval()
    write_json(folder / "reference.json", reference(model, TIED))


if __name__ == "__main__":
    os.chdir(GOLDEN)  # so that base_model_name_or_path is a relative path
    fresh(GOLDEN / "adapters")
    for name, (base, options) in ADAPTERS.items():
        print(f"{name}: changes the logits by up to {record_single(name, base, options):.2f}")
    record_pair()
    record_named()
