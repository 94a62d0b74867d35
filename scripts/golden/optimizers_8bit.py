"""Records the 8-bit AdamW of bitsandbytes over six steps, its two quantisation tables, and its Lion."""
import bitsandbytes as bnb
import numpy as np
import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.numpy import save_file

from common import GOLDEN

SIZES = {"long": 5000, "exact": 4096, "short": 300}
STEPS = 6
OPTIONS = dict(lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)


def values(count, salt):
    """Numbers that any language makes alike: a fraction in double, rounded to float32; every block of 256 ten times the one before, then again."""
    index = np.arange(count, dtype=np.int64)
    fraction = ((index * 7919 + salt * 104729) % 20011) / 20011 - 0.5
    return (fraction * 10.0 ** ((index // 256) % 4 - 2)).astype(np.float32)


def run(kind, **options):
    parameters = {name: torch.nn.Parameter(torch.from_numpy(values(size, 1))) for name, size in SIZES.items()}
    optimizer = kind(parameters.values(), **options)
    for step in range(STEPS):
        for parameter in parameters.values():
            parameter.grad = torch.from_numpy(values(parameter.numel(), 10 + step))
        optimizer.step()
    return parameters, optimizer


if __name__ == "__main__":
    parameters, optimizer = run(bnb.optim.AdamW8bit, **OPTIONS)
    tensors = {"map.signed": create_dynamic_map(True), "map.unsigned": create_dynamic_map(False)}
    for name, parameter in parameters.items():
        tensors[f"{name}.parameter"] = parameter.detach()
        state = optimizer.state[parameter]
        for key in ("state1", "state2", "absmax1", "absmax2"):
            if key in state:
                tensors[f"{name}.{key}"] = state[key]
    lion, _ = run(bnb.optim.Lion, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    tensors["lion.short"] = lion["short"].detach()
    save_file({name: tensor.numpy() for name, tensor in tensors.items()}, GOLDEN / "optimizers-8bit.safetensors")
