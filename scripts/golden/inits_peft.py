"""Records adapters of PEFT that start from weights or data, trained: as they are on the changed base, with their initial adapter, and converted to plain LoRA."""
import dataclasses
import json
import os
import sys
from pathlib import Path

import torch

# PEFT's CorDA asks the package attrs for a decorator that the standard library has.
sys.modules.setdefault("attr", dataclasses)
from peft import EvaConfig, LoraConfig, LoraGAConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga

from adapters import LENGTHS, load_base, perturb, save
from common import GOLDEN, exact, fresh, logits_of, token_ids, write_json

BASE = "models/llama-gqa-tied"
COMMON = dict(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
BATCHES = [torch.tensor([token_ids(16, seed=300 + 4 * index + row) for row in range(4)]) for index in range(3)]


@torch.no_grad()
def run(model):
    # CorDA takes the rows of one text at a time.
    for row in torch.cat(BATCHES):
        model(input_ids=row[None])


def corda(model, config):
    preprocess_corda(model, config, run_model=lambda: run(model))


def lora_ga(model, config):
    def step():
        for ids in BATCHES:
            model(input_ids=ids, labels=ids).loss.backward()

    preprocess_loraga(model, config, step)


def eva(tuned):
    rows = [{"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)} for ids in BATCHES]
    initialize_lora_eva_weights(tuned, rows, show_progress_bar=False)


# name -> (PEFT options, work on the bare model, work on the wrapped one)
INITS = {
    "pissa": (dict(), None, None),
    "pissa-rslora": (dict(init_lora_weights="pissa", use_rslora=True), None, None),
    "pissa_niter_4": (dict(), None, None),
    "olora": (dict(), None, None),
    "corda": (dict(corda_config=CordaConfig(corda_method="ipm")), corda, None),
    "lora_ga": (dict(lora_ga_config=LoraGAConfig()), lora_ga, None),
    "eva": (dict(eva_config=EvaConfig(rho=2.0)), None, eva),
}


def written(tuned, folder, init):
    """Saves an adapter whose file says `init`, whatever the config in memory says."""
    save(tuned, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": init}, indent=2))


def record(name, options, before, after):
    folder = fresh(Path("inits-peft") / name)
    base = load_base(BASE)
    plain = load_base(BASE)
    config = LoraConfig(**(COMMON | dict(init_lora_weights=name) | options))
    init = config.init_lora_weights
    torch.manual_seed(7)
    if before is not None:
        before(base, config)
    tuned = get_peft_model(base, config)
    if after is not None:
        after(tuned)
    changes_base = init != "eva"
    if changes_base:
        written(tuned, folder / "initial", True)
    perturb(tuned, 41)
    tuned.eval()
    sequences, effect = [], 0.0
    for index, length in enumerate(LENGTHS[:1]):
        ids = token_ids(length, seed=200 + index)
        logits = logits_of(tuned, ids)
        effect = max(effect, float((logits - logits_of(plain, ids)).abs().max()))
        sequences.append({"ids": ids, "logits": exact(logits)})
    assert effect > 0.05, "the adapter hardly changes the logits"
    write_json(folder / "reference.json", {"base": BASE, "init": init, "effect": effect, "sequences": sequences})
    written(tuned, folder / "adapter", init)
    if changes_base:
        tuned.save_pretrained(folder / "converted", path_initial_model_for_weight_conversion=str(folder / "initial"))
        for card in folder.rglob("README.md"):
            card.unlink()
        check_converted(folder, sequences)
    if name == "pissa":
        written(tuned, folder / "split" / "pissa_init", True)
        tuned.unload().save_pretrained(folder / "split")
    return effect


def check_converted(folder, sequences):
    """What PEFT itself makes of the converted adapter on the published base."""
    loaded = PeftModel.from_pretrained(load_base(BASE), folder / "converted").eval()
    for row in sequences:
        difference = float((logits_of(loaded, row["ids"]) - torch.tensor(row["logits"])).abs().max())
        assert difference < 1e-4, f"{folder.name}: the converted adapter differs by {difference}"


if __name__ == "__main__":
    os.chdir(GOLDEN)
    for name, parts in INITS.items():
        print(f"{name}: effect {record(name, *parts):.3f}")
