"""Records what PEFT's initialisations of LoRA make of three small layers: one function and one file `inits/NAME.safetensors` for each initialisation.

A file holds, for each case and layer, `CASE.LAYER.A`, `.B` and `.base`, the frozen weight afterwards; `inits/weights.safetensors` the weights before, and `digits`:
the middle layer of the DIGITS-MLP after it learnt odd digits.
"""
import sys
from unittest.mock import patch

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

from common import DATA, GOLDEN, generator, normal

FOLDER = GOLDEN / "inits"
RANK = 4


class Layers(nn.Module):
    """Linear layers of three shapes; their singular values lie apart, so that vectors can be compared. Rows are not of 16, 32 or 48 values: for those the CPU
    kernel of bitsandbytes gives NF4 back with the scales of other blocks."""

    def __init__(self):
        super().__init__()
        for i, (name, rows, columns) in enumerate((("tall", 40, 24), ("wide", 24, 40), ("square", 36, 36))):
            layer = nn.Linear(columns, rows, bias=False)
            k = min(rows, columns)
            u, v = (torch.linalg.qr(normal((size, k), generator(10 * i + j)).double()).Q for j, size in enumerate((rows, columns)))
            layer.weight.data = (u * 0.8 ** torch.arange(k, dtype=torch.float64) @ v.mT).float().contiguous()
            setattr(self, name, layer)

    def forward(self, x):
        return x


def write(name, tensors):
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, FOLDER / f"{name}.safetensors")


def started(case, model=Layers, **config):
    """A, B and the frozen weight of every layer after PEFT put LoRA on the model."""
    tuned = get_peft_model(model(), LoraConfig(r=RANK, target_modules=["tall", "wide", "square"], **config))
    found = {}
    for name, layer in tuned.base_model.model.named_children():
        found[f"{case}.{name}.A"] = layer.lora_A["default"].weight
        found[f"{case}.{name}.B"] = layer.lora_B["default"].weight
        found[f"{case}.{name}.base"] = layer.base_layer.weight
    return found


def weights():
    tensors = {name: layer.weight for name, layer in Layers().named_children()}
    write("weights", {**tensors, "digits": digits_layer()})


def digits_layer():
    rows = np.loadtxt(DATA / "digits" / "digits.csv", delimiter=",", skiprows=1, dtype=np.float32)
    digits, pixels = rows[:, 0].astype(np.int64), rows[:, 1:]
    odd = digits % 2 == 1
    images, labels = torch.from_numpy((pixels - pixels.mean(0))[odd] / 16), torch.from_numpy(digits[odd] // 2)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 256, bias=False), nn.ReLU(), nn.Linear(256, 256, bias=False), nn.ReLU(), nn.Linear(256, 5, bias=False)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0)
    for _ in range(300):
        batch = torch.randint(len(labels), (128,))
        nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network[2].weight


def pissa():
    write("pissa", {**started("plain", init_lora_weights="pissa", lora_alpha=RANK), **started("scaled", init_lora_weights="pissa", lora_alpha=6)})


def olora():
    write("olora", {**started("plain", init_lora_weights="olora", lora_alpha=RANK), **started("scaled", init_lora_weights="olora", lora_alpha=6)})


def loftq():
    """PEFT takes alpha = rank for granted here, and a GPU, which the CPU stands for."""
    import bitsandbytes

    def here(move):
        on = lambda device: "cpu" if device == "cuda" else device
        return lambda self, *args, **options: move(self, *map(on, args), **{key: on(value) for key, value in options.items()})

    tensors = {}
    for rounds in (1, 5):
        config = dict(init_lora_weights="loftq", lora_alpha=RANK, loftq_config={"loftq_bits": 4, "loftq_iter": rounds})
        kinds = (torch.Tensor, bitsandbytes.nn.Params4bit)
        with patch.object(kinds[0], "to", here(kinds[0].to)), patch.object(kinds[1], "to", here(kinds[1].to)):
            tensors.update(started(f"rounds-{rounds}", **config))
    write("loftq", tensors)


RECORDERS = (
    weights,
    pissa,
    olora,
    loftq,
)

if __name__ == "__main__":
    for record in RECORDERS:
        if len(sys.argv) == 1 or record.__name__ in sys.argv[1:]:
            record()
