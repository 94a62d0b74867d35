"""Records what PEFT's add_weighted_adapter makes of adapters: `cases.json` in full, `grid.json` one layer for every type with every option, `dare.json` with a known choice."""
import itertools
import os
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from safetensors.torch import save_file

from adapters import load_base
from common import GOLDEN, exact, fresh, generator, normal, write_json

BASE = "models/llama-gqa-tied"
# name of an adapter -> options; `first`, `second` and `third` share their layers and rank, `other` has neither.
SOURCES = {
    "first": dict(r=4, lora_alpha=8, target_modules=["q_proj", "embed_tokens"]),
    "second": dict(r=4, lora_alpha=6, target_modules=["q_proj", "embed_tokens"]),
    "other": dict(r=3, lora_alpha=9, target_modules=["q_proj", "k_proj"]),
    "third": dict(r=4, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "embed_tokens"]),
}
# name -> (adapters, weights, options of add_weighted_adapter)
CASES = {
    "cat": (["first", "other"], [0.7, -0.4], dict(combination_type="cat")),
    "linear": (["first", "second"], [0.7, -0.4], dict(combination_type="linear")),
    "svd": (["first", "other"], [0.7, -0.4], dict(combination_type="svd", svd_rank=5)),
    "ties-total": (["first", "second"], [0.7, 1.3], dict(combination_type="ties", density=0.6)),
    "ties-frequency": (["first", "second"], [0.7, -0.4], dict(combination_type="ties", density=0.33, majority_sign_method="frequency")),
    "ties-svd": (["first", "other"], [0.7, 0.4], dict(combination_type="ties_svd", density=0.5, svd_rank=6)),
    "magnitude-prune": (["first", "second"], [0.7, -0.4], dict(combination_type="magnitude_prune", density=0.4)),
    "magnitude-prune-svd": (["first", "second"], [0.7, -0.4], dict(combination_type="magnitude_prune_svd", density=0.25)),
}


# The layer and the rows of its B A that the grid keeps.
GRID_LAYER, GRID_ROWS = "model.layers.1.self_attn.q_proj", 2
GRID_PARTS = [(["first", "second"], [1.3, 0.6]), (["first", "second", "third"], [0.7, -0.4, 1.1]), (["second", "first", "third"], [-0.5, -1.0, 0.0])]
GRID_MIXED = [(["first", "other"], [1.3, -0.6]), (["other", "third", "first"], [0.7, 0.4, -1.1])]


def grid():
    """Every type with every option; `dare` with density 1 only, which leaves nothing to chance."""
    for kind in ("linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", "ties_svd", "magnitude_prune_svd", "dare_linear_svd", "dare_ties_svd"):
        densities = [None] if kind in ("linear", "cat", "svd") else [1.0] if kind.startswith("dare") else [0.2, 0.55, 1.0]
        signs = [None, "frequency"] if "ties" in kind else [None]
        mixed = kind == "cat" or kind.endswith("svd")
        ranks = [None, 2] if kind.endswith("svd") else [None]
        for parts, density, sign, rank in itertools.product(GRID_PARTS + (GRID_MIXED if mixed else []), densities, signs, ranks):
            options = dict(combination_type=kind, density=density, majority_sign_method=sign, svd_rank=rank)
            yield *parts, {key: value for key, value in options.items() if value is not None}


def product(module, name):
    """B A of an adapter on a layer, with its scale."""
    if name in module.lora_A:
        return module.lora_B[name].weight @ module.lora_A[name].weight * module.scaling[name]
    return module.lora_embedding_B[name] @ module.lora_embedding_A[name] * module.scaling[name]


def record_dare(path):
    """dare_linear and dare_ties of random values, where a value is kept if its recorded chance is below the density."""
    gen = generator(77)
    tensors, chances = normal((3, 24), gen), torch.rand((3, 24), generator=gen)
    weights = torch.tensor([0.7, -0.4, 1.2])
    runs = []
    for density, (name, sign) in itertools.product((0.3, 0.7), (("dare_linear", None), ("dare_ties", "total"), ("dare_ties", "frequency"))):
        rows = iter(chances)
        with mock.patch.object(torch, "bernoulli", lambda p: (next(rows) < p).to(p.dtype)):
            more = {} if sign is None else dict(majority_sign_method=sign)
            result = getattr(merge_utils, name)(list(tensors), weights, density, **more)
        runs.append(dict(type=name, density=density, majority=sign, result=exact(result)))
    write_json(path, dict(values=exact(tensors), chances=exact(chances), weights=exact(weights), runs=runs))


@torch.no_grad()
def main():
    folder = fresh(GOLDEN / "combined")
    model = None
    for seed, (name, options) in enumerate(SOURCES.items()):
        config = LoraConfig(task_type="CAUSAL_LM", layers_to_transform=None, **options)
        if model is None:
            model = get_peft_model(load_base(BASE), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        gen = generator(seed + 40)
        for key, value in model.named_parameters():
            if f".{name}" in key:
                value.copy_(normal(value.shape, gen, 0.2))
    for name in SOURCES:
        model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for name, (adapters, weights, options) in CASES.items():
        model.add_weighted_adapter(adapters, weights, name, **options)
        layers = {}
        for path, module in model.base_model.model.named_modules():
            if name in getattr(module, "lora_A", {}) or name in getattr(module, "lora_embedding_A", {}):
                layers[path] = product(module, name)
        # The first layer of each kind says it all.
        save_file({path: value.contiguous() for path, value in layers.items() if "layers.1." not in path}, folder / f"{name}.safetensors", {"format": "pt"})
    write_json(folder / "cases.json", {name: dict(adapters=adapters, weights=weights, options=options) for name, (adapters, weights, options) in CASES.items()})
    rows = {}
    for number, (adapters, weights, options) in enumerate(grid()):
        name = f"grid{number}"
        model.add_weighted_adapter(adapters, weights, name, **options)
        # PEFT hands rsLoRA of the first adapter on without adapting alpha; here the first has none.
        values = product(model.base_model.model.get_submodule(GRID_LAYER), name)
        rows[name] = dict(adapters=adapters, weights=weights, options=options, values=exact(values[:GRID_ROWS].flatten()))
        model.delete_adapter(name)
    write_json(folder / "grid.json", dict(layer=GRID_LAYER, **rows))
    record_dare(folder / "dare.json")


if __name__ == "__main__":
    os.chdir(GOLDEN)
    main()
