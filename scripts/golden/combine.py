"""Records what PEFT's add_weighted_adapter makes of two adapters, for the combination types without chance."""
import os

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from adapters import load_base
from common import GOLDEN, fresh, generator, normal, write_json

BASE = "models/llama-gqa-tied"
# name of an adapter -> options; `first` and `second` share their layers and rank, `other` has neither.
SOURCES = {
    "first": dict(r=4, lora_alpha=8, target_modules=["q_proj", "embed_tokens"]),
    "second": dict(r=4, lora_alpha=6, target_modules=["q_proj", "embed_tokens"]),
    "other": dict(r=3, lora_alpha=9, target_modules=["q_proj", "k_proj"]),
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
            if name in getattr(module, "lora_A", {}):
                layers[path] = module.lora_B[name].weight @ module.lora_A[name].weight * module.scaling[name]
            elif name in getattr(module, "lora_embedding_A", {}):
                layers[path] = module.lora_embedding_B[name] @ module.lora_embedding_A[name] * module.scaling[name]
        # The first layer of each kind says it all.
        save_file({path: value.contiguous() for path, value in layers.items() if "layers.1." not in path}, folder / f"{name}.safetensors", {"format": "pt"})
    write_json(folder / "cases.json", {name: dict(adapters=adapters, weights=weights, options=options) for name, (adapters, weights, options) in CASES.items()})


if __name__ == "__main__":
    os.chdir(GOLDEN)
    main()
