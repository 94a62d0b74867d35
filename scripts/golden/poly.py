"""Records adapters of PEFT's Poly, with one head and with several: the folder as PEFT saves it, and the logits of the loaded pair for each task. With
--check FOLDER: the logits that PEFT computes from a folder written here, against those in its reference.json."""
import json
import os
import sys
from pathlib import Path

import torch
from peft import PeftModel, PolyConfig, get_peft_model

from adapters import LENGTHS, load_base, save
from common import GOLDEN, exact, fresh, generator, normal, token_ids, write_json

BASE = "models/llama-gqa-tied"
# name -> PEFT options
ADAPTERS = {
    "poly": dict(r=3, n_tasks=3, n_skills=4, n_splits=1, target_modules=["q_proj", "v_proj"]),
    "mhr": dict(r=2, n_tasks=4, n_skills=3, n_splits=4, target_modules=["q_proj", "o_proj", "down_proj"]),
}


def perturb(model, seed):
    """Moves the parameters away from where they start: logits of the router by about 1, so that tasks differ."""
    gen = generator(seed)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            size = 1.5 if "module_logits" in name else 0.4
            parameter.data.add_(size * normal(parameter.shape, gen))


@torch.no_grad()
def logits_of_task(model, ids, task):
    return model(input_ids=torch.tensor([ids]), task_ids=torch.tensor([task]), use_cache=False).logits[0]


def record(seed, name, options):
    folder = fresh(GOLDEN / "poly" / name)
    model = get_peft_model(load_base(BASE), PolyConfig(task_type="CAUSAL_LM", **options))
    perturb(model, seed)
    save(model, folder)
    loaded = PeftModel.from_pretrained(load_base(BASE), folder).eval()
    sequences = []
    for task in range(options["n_tasks"]):
        ids = token_ids(LENGTHS[task % len(LENGTHS)], seed=seed + task)
        sequences.append({"ids": ids, "task": task, "logits": exact(logits_of_task(loaded, ids, task))})
    write_json(folder / "reference.json", {"base": BASE, "sequences": sequences})


def check(folder):
    reference = json.loads((folder / "reference.json").read_text())
    model = PeftModel.from_pretrained(load_base(reference["base"]), folder).eval()
    worst = 0.0
    for entry in reference["sequences"]:
        expected = torch.tensor(entry["logits"])
        difference = (logits_of_task(model, entry["ids"], entry["task"]) - expected).abs().max()
        worst = max(worst, (difference / (expected.max() - expected.min())).item())
    print(f"{folder}: the largest difference is {worst:.1e} of the range")
    if not worst < 1e-5:
        raise SystemExit("poly: PEFT computes something else")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        target = Path(sys.argv[2]).resolve()
        os.chdir(GOLDEN)
        check(target)
    else:
        os.chdir(GOLDEN)
        for number, (name, options) in enumerate(ADAPTERS.items()):
            record(700 + number, name, options)
