"""Records short PEFT training runs on the stories260k weights: initial adapter, batches, loss and gradient norm of every step, final adapter."""
import os

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from tokenizers import Tokenizer

from adapters import load_base, save
from common import DATA, GOLDEN, fresh, write_json

BASE = "llama-stories260k"
BATCH, SEQUENCE, STEPS = 4, 32, 50
RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
OPTIONS = dict(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")

# name -> (initial adapter, steps, LoRA+ ratio)
RUNS = {"lora": ("lora-init", STEPS, None), "dora": ("dora-init", 20, None), "lora-plus": ("lora-init", 20, 16.0)}


def batches():
    """Consecutive tokens of the Shakespeare training text, cut into rows without gaps or special tokens."""
    text = (DATA / "shakespeare" / "train.txt").read_text()[:40_000]
    ids = Tokenizer.from_file(str(DATA / BASE / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return torch.tensor(ids[:STEPS * BATCH * SEQUENCE]).view(STEPS, BATCH, SEQUENCE)


def optimizer_of(model, ratio):
    if ratio is None:
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY)
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=ratio, loraplus_weight_decay=DECAY)


def train(model, rows, ratio):
    """Mean cross-entropy over the B (T - 1) predictions of a batch; the norm is the one before clipping."""
    optimizer, losses, norms = optimizer_of(model, ratio), [], []
    for ids in rows:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
        losses.append(float(loss))
    return losses, norms, optimizer


def start(folder, dtype):
    return PeftModel.from_pretrained(load_base(BASE), folder, is_trainable=True).to(dtype).train()


def groups_of(model, optimizer):
    names = {id(parameter): name.replace(".default", "") for name, parameter in model.named_parameters()}
    return [{"learningRate": group["lr"], "weightDecay": group["weight_decay"], "parameters": [names[id(p)] for p in group["params"]]}
            for group in optimizer.param_groups if group["params"]]


def record(name, init, steps, ratio, ids):
    folder, rows = fresh(GOLDEN / "curves" / name), ids[:steps]
    init = GOLDEN / "curves" / init
    model = start(init, torch.float32)
    losses, norms, optimizer = train(model, rows, ratio)
    doubles, _, _ = train(start(init, torch.float64), rows, ratio)
    save(model, folder)
    noise = max(abs(a - b) / b for a, b in zip(losses, doubles))
    write_json(folder / "curve.json", {
        "init": init.name, "steps": steps,
        "optimizer": {"kind": "adamw", "betas": [0.9, 0.999], "epsilon": 1e-8, "clip": CLIP, "loraPlusRatio": ratio,
                      "groups": groups_of(model, optimizer) if ratio else [{"learningRate": RATE, "weightDecay": DECAY}]},
        "loss": losses, "gradNorm": norms, "noise": noise})
    print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}, norm {norms[0]:.3f} to {norms[-1]:.3f}, float32 noise {noise:.1e}")


if __name__ == "__main__":
    os.chdir(DATA)  # so that base_model_name_or_path is the folder's name
    fresh(GOLDEN / "curves")
    ids = batches()
    write_json(GOLDEN / "curves" / "batches.json", {"batch": BATCH, "sequence": SEQUENCE, "steps": STEPS, "ids": ids.tolist()})
    for kind in ("lora", "dora"):
        torch.manual_seed(7)
        save(get_peft_model(load_base(BASE), LoraConfig(**OPTIONS, use_dora=kind == "dora")), fresh(GOLDEN / "curves" / f"{kind}-init"))
    for name, (init, steps, ratio) in RUNS.items():
        record(name, init, steps, ratio, ids)
