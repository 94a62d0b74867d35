"""Records PEFT's own decisions: which modules a target list hits, which pattern key wins, what modules_to_save copies, what is refused."""
import os

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import _ExcludedModule, _find_minimal_target_modules, check_target_module_exists
from peft.utils.other import ModulesToSaveWrapper, get_pattern_key
from transformers import AutoModelForCausalLM

from common import GOLDEN, write_json

LLAMA = [f"model.layers.{layer}.{part}" for layer in (0, 1, 10) for part in
         ("self_attn", "self_attn.q_proj", "self_attn.barq_proj", "self_attn.v_proj", "mlp.up_proj")]
LLAMA += ["model.embed_tokens", "model.norm", "lm_head", "q_proj", "q_proj.inner"]
MOE = ["model.layers.1.experts.0.w", "model.layers.0.experts.1.w", "model.layers.1.mlp.experts.0.gate.w", "layers.1.w",
       "model.layers.1.w", "blocks.1.w", "model.h.1.attn.w", "model.layers_extra.1.w", "model.mylayers.1.w", "model.1.w", "w"]
FOO = ["foo", "foobar", "barfoo", "bar.foo", "module.foo", "module.foobar", "module.barfoo", "module.bar.foo", "foo.bar"]
MODULES = {"llama": LLAMA, "moe": MOE, "foo": FOO}

# (list of module paths, PEFT options)
TARGETS = [
    ("llama", dict(target_modules=["q_proj"])),
    ("llama", dict(target_modules=["q_proj", "up_proj"])),
    ("llama", dict(target_modules=["proj"])),
    ("llama", dict(target_modules=["self_attn"])),
    ("llama", dict(target_modules=["0.self_attn.q_proj"])),
    ("llama", dict(target_modules=["model.layers.1.self_attn.q_proj"])),
    ("llama", dict(target_modules=["lm_head", "embed_tokens"])),
    ("llama", dict(target_modules=["q.proj"])),
    ("llama", dict(target_modules=".*q_proj")),
    ("llama", dict(target_modules="q_proj")),
    ("llama", dict(target_modules=r".*\.(q|v)_proj$")),
    ("llama", dict(target_modules=r"model\.layers\.[01]\.self_attn\.\w+")),
    ("llama", dict(target_modules=r"model\.layers\.(?!0)\d+\..*up_proj")),
    ("llama", dict(target_modules=["q_proj"], exclude_modules=["q_proj"])),
    ("llama", dict(target_modules=["q_proj", "v_proj"], exclude_modules=["1.self_attn.q_proj"])),
    ("llama", dict(target_modules=["q_proj", "v_proj"], exclude_modules=["self_attn"])),
    ("llama", dict(target_modules=["q_proj", "v_proj"], exclude_modules=["model.layers.0.self_attn.v_proj", "oj"])),
    ("llama", dict(target_modules=["q_proj", "v_proj"], exclude_modules=r".*layers\.0.*")),
    ("llama", dict(target_modules=["q_proj", "v_proj"], exclude_modules="v_proj")),
    ("llama", dict(target_modules=".*proj", exclude_modules=r".*\.(q|barq)_proj")),
    ("llama", dict(target_modules=["q_proj"], modules_to_save=["self_attn"])),
    ("llama", dict(target_modules=["q_proj"], modules_to_save=["q_proj"])),
    ("llama", dict(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])),
    ("llama", dict(target_modules=".*q_proj", modules_to_save=["layers"])),
    ("llama", dict(target_modules=["q_proj"], modules_to_save=["proj"])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=1)),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=0)),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[])),
    ("llama", dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 10])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers")),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern=["h", "layers"])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern=["layers", "h"])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="h")),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="")),
    ("llama", dict(target_modules=["model.layers.0.self_attn.q_proj", "v_proj"], layers_to_transform=[1])),
    ("llama", dict(target_modules=["q_proj"], layers_to_transform=[0, 1], exclude_modules=["0.self_attn.q_proj"])),
    ("moe", dict(target_modules=["w"], layers_to_transform=[1])),
    ("moe", dict(target_modules=["w"], layers_to_transform=[0])),
    ("moe", dict(target_modules=["w"], layers_to_transform=[1], layers_pattern="layers")),
    ("moe", dict(target_modules=["w"], layers_to_transform=[1], layers_pattern="experts")),
    ("moe", dict(target_modules=["w"], layers_to_transform=[1], layers_pattern=["experts", "layers"])),
    ("moe", dict(target_modules=["w"], layers_to_transform=[1], layers_pattern="layers|h")),
    ("foo", dict(target_modules=["foo"])),
    ("foo", dict(target_modules=["module.foo"])),
    ("foo", dict(target_modules=["bar"])),
    ("foo", dict(target_modules="foo.*")),
    ("foo", dict(target_modules=".*foo")),
]

PATTERNS = [
    ["foo"], ["^foo"], ["module.foo"], ["foobar"], ["barfoo"], ["bar.foo"], ["^module.foo"], ["^foo", "foo"], ["foo", "^foo"],
    ["foo", "module.foo"], ["module.foo", "foo"], [".*foo"], ["fo+"], ["(bar)?foo"], ["foo|bar"], ["module"], ["oo"], ["foo$"],
]

RANKS = [
    dict(rank_pattern={"foo": 5}), dict(rank_pattern={"^foo": 5}), dict(rank_pattern={"module.foo": 5, "foo": 6}),
    dict(rank_pattern={"^foo": 5, "foobar": 6, "barfoo": 7}), dict(alpha_pattern={"foo": 3}),
    dict(rank_pattern={"^foo": 5, "foo": 6}, alpha_pattern={"module.foo": 12, "bar": 1}),
    dict(rank_pattern={"foo": 2}, alpha_pattern={"^foo": 10}, use_rslora=True),
]

MODULES_TO_SAVE = [["lm_head"], ["embed_tokens"], ["norm"], ["input_layernorm"], ["head"], ["model.norm"],
                   ["layers.0.input_layernorm"], ["down_proj"]]

ALL_LINEAR = [("models/llama-gqa-tied", {}), ("models/llama-sharded", {}), ("models/qwen3-head-dim", {}),
              ("models/llama-gqa-tied", dict(exclude_modules=["q_proj", "down_proj"])),
              ("models/llama-gqa-tied", dict(exclude_modules=r".*layers\.0.*"))]

# Settings that cannot work. PEFT lets the last one pass in silence.
REFUSED = [
    dict(target_modules=["nothing"]), dict(target_modules="nothing.*"), dict(target_modules=["q_proj"], exclude_modules=["q_proj"]),
    dict(target_modules=["q_proj"], layers_to_transform=[7]), dict(target_modules=".*q_proj", layers_to_transform=[0]),
    dict(target_modules=".*q_proj", layers_pattern="layers"), dict(target_modules=["q_proj"], layers_pattern="layers"),
    dict(target_modules=["q_proj"], r=0), dict(target_modules=["q_proj"], r=-1), dict(target_modules=["q_proj"], bias="some"),
    dict(target_modules=["q_proj"], init_lora_weights="nonsense"), dict(target_modules=["q_proj"], lora_bias=True, use_dora=True),
    dict(target_modules=["q_proj"], lora_bias=True, init_lora_weights="pissa"), dict(target_modules=["self_attn"]),
    dict(target_modules=["norm"]), dict(target_modules=["q_proj"], lora_dropout=1.5),
    dict(target_modules=["q_proj"], trainable_token_indices=[97]), dict(target_modules=["q_proj"], trainable_token_indices={"nope": [1]}),
    dict(target_modules=["q_proj"], modules_to_save=["nope"]),
]


def match(modules, options):
    rows = {"matched": [], "excluded": []}
    config = LoraConfig.__new__(LoraConfig)  # the bare fields: the constructor turns lists into sets and refuses some pairs
    config.__dict__.update({"exclude_modules": None, "modules_to_save": None, "target_parameters": None,
                            "layers_to_transform": None, "layers_pattern": None, **options})
    for path in MODULES[modules]:
        found = check_target_module_exists(config, path)
        if isinstance(found, _ExcludedModule):
            rows["excluded"].append(path)
        elif found:
            rows["matched"].append(path)
    return {"options": options, "modules": modules, **rows}


def tree(paths):
    """A module tree with a linear layer at every path that has no deeper one."""
    root = torch.nn.Module()
    for path in paths:
        node, parts = root, path.split(".")
        for part in parts[:-1]:
            if not hasattr(node, part):
                node.add_module(part, torch.nn.Module())
            node = getattr(node, part)
        node.add_module(parts[-1], torch.nn.Linear(3, 3))
    root.forward = lambda x: x
    return root


def ranks(options):
    paths = [path for path in FOO if path not in ("foo.bar",)]
    model = get_peft_model(tree(paths), LoraConfig(r=8, lora_alpha=8, target_modules=".*foo.*", **options))
    layers = {name.removeprefix("base_model.model."): layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    return {"options": {"r": 8, "lora_alpha": 8, **options},
            "layers": {path: {"rank": layer.r["default"], "alpha": layer.lora_alpha["default"], "scale": layer.scaling["default"]}
                       for path, layer in sorted(layers.items())}}


def adapted(base, **options):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))


def names(model, kind):
    return [name.removeprefix("base_model.model.") for name, module in model.named_modules() if isinstance(module, kind)]


def refusal(options):
    try:
        adapted("models/llama-gqa-tied", **options)
    except Exception as error:
        return {"options": options, "refused": True, "kind": type(error).__name__}
    return {"options": options, "refused": False, "kind": None}


if __name__ == "__main__":
    os.chdir(GOLDEN)
    many = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(12) for part in "qv"]
    others = [f"model.layers.{layer}.self_attn.k_proj" for layer in range(12)] + ["model.q_proj.k_proj", "lm_head"]
    tied = "models/llama-gqa-tied"
    write_json(GOLDEN / "matching.json", {
        "modules": MODULES,
        "targets": [match(*row) for row in TARGETS],
        "patterns": [{"keys": keys, "key": {path: (key if (key := get_pattern_key(keys, path)) in keys else None) for path in FOO}}
                     for keys in PATTERNS],
        "ranks": [ranks(options) for options in RANKS],
        "modulesToSave": [{"entries": entries, "base": tied, "copied": names(
            adapted(tied, target_modules=["q_proj"], modules_to_save=entries), ModulesToSaveWrapper)} for entries in MODULES_TO_SAVE],
        "allLinear": [{"base": base, "options": options, "matched": names(adapted(base, target_modules="all-linear", **options), LoraLayer)}
                      for base, options in ALL_LINEAR],
        "defaultTargets": [{"base": base, "matched": names(adapted(base), LoraLayer)} for base in
                           (tied, "models/mistral-sliding", "models/qwen2-tied", "models/qwen3-head-dim")],
        "minimalTargets": {"targets": many, "others": others, "minimal": sorted(_find_minimal_target_modules(many, others))},
        "refused": [refusal(options) for options in REFUSED],
    })
