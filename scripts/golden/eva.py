"""Records what PEFT's EVA makes of a tiny model: ranks, alphas and A by layer, for widths at which its randomised decomposition is exact."""
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from common import GOLDEN, fresh, generator, token_ids, write_json

BASE = "models/llama-gqa-tied"
ROWS, LENGTH, BATCHES = 6, 16, 3
# Layers whose inputs differ, so that no rank hangs on the order of equal ratios; 2 rho r covers each width: 32, and 48 of down_proj.
TARGETS = ["q_proj", "o_proj", "up_proj", "down_proj"]
COMMON = dict(r=8, lora_alpha=4, target_modules=TARGETS, rank_pattern={"down_proj": 12})
CASES = {
    "default": (COMMON, dict()),
    "whitened": (COMMON, dict(whiten=True)),
    "fixed-scale": (COMMON, dict(adjust_scaling_factors=False)),
    "all-positions": (COMMON, dict(use_label_mask=False, tau=0.9)),
    "removed": (dict(r=1, lora_alpha=1, target_modules=["q_proj", "o_proj", "up_proj"]), dict(rho=16.0)),
    "one-rank": (dict(r=16, lora_alpha=16, target_modules=["k_proj", "gate_proj"]), dict(rho=1.0)),
}


def batches():
    """Rows of which some are padded on the right; the first tokens of each have no target."""
    gen = generator(9)
    made = []
    for index in range(BATCHES):
        lengths = [LENGTH - int(torch.randint(0, 5, (1,), generator=gen)) for _ in range(ROWS)]
        ids = [token_ids(length, seed=100 * index + row) for row, length in enumerate(lengths)]
        masked = [int(torch.randint(0, 4, (1,), generator=gen)) for _ in range(ROWS)]
        made.append({"ids": ids, "targets": [[-100] * count + row[count:] for row, count in zip(ids, masked)]})
    return made


def padded(batch):
    fill = lambda rows, value: torch.tensor([row + [value] * (LENGTH - len(row)) for row in rows])
    return {
        "input_ids": fill(batch["ids"], 0),
        "labels": fill(batch["targets"], -100),
        "attention_mask": fill([[1] * len(row) for row in batch["ids"]], 0),
    }


def record(name, base, options, eva, data, tensors):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights="eva", eva_config=EvaConfig(**eva), **options)
    tuned = get_peft_model(model, config)
    loader = [padded(batch) for batch in data]
    initialize_lora_eva_weights(tuned, loader, show_progress_bar=False)
    found = tuned.peft_config["default"]
    for key, value in tuned.named_parameters():
        if "lora_A" in key:
            tensors[f"{name}/" + key.removeprefix("base_model.model.").replace(".lora_A.default.weight", "")] = value.detach().float().contiguous()
    return {
        "options": options,
        "eva": eva,
        "rankPattern": found.rank_pattern,
        "alphaPattern": found.alpha_pattern,
        "targets": sorted(found.target_modules),
    }


folder = fresh(GOLDEN / "eva")
data, tensors, cases = batches(), {}, {}
for name, (options, eva) in CASES.items():
    cases[name] = record(name, GOLDEN / BASE, options, eva, data, tensors)
save_file(tensors, folder / "factors.safetensors")
write_json(folder / "cases.json", {"base": BASE, "batches": data, **cases})
