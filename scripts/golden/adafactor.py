"""Records transformers' Adafactor over five steps on small tensors of odd sizes, factored and not."""
import torch
from transformers.optimization import Adafactor

from common import GOLDEN, exact, generator, normal, write_json

SHAPES = [(5,), (3, 7), (2, 3, 4, 5), (6, 1)]
STEPS = 5

# name -> options of each group; tensor i belongs to group i modulo their number
RUNS = {
    "rate": [dict(lr=1e-2, scale_parameter=False, relative_step=False)],
    "scaled": [dict(lr=3e-2, relative_step=False)],
    "relative": [dict()],
    "warm": [dict(warmup_init=True)],
    "options": [dict(lr=1e-2, relative_step=False, eps=(1e-12, 0.5), clip_threshold=0.3, decay_rate=-0.5, beta1=0.9, weight_decay=0.1)],
    "groups": [dict(lr=1e-2, scale_parameter=False, relative_step=False, weight_decay=0.05), dict(lr=1e-1, relative_step=False, beta1=0.7)],
}
NAMES = {"lr": "learningRate", "eps": "eps", "clip_threshold": "clipThreshold", "decay_rate": "decayRate", "beta1": "beta1",
         "weight_decay": "weightDecay", "scale_parameter": "scaleParameter", "relative_step": "relativeStep", "warmup_init": "warmupInit"}


def tensors(seed):
    gen = generator(seed)
    return [normal(shape, gen, 1.0) for shape in SHAPES]


def gradients(step):
    rows = tensors(10 + step)
    rows[0][0] = 0.0
    rows[1][0, 0] *= 1e-6
    rows[2] *= 1e-3
    return rows


def run(groups):
    parameters = [torch.nn.Parameter(value) for value in tensors(1)]
    parameters[3].data.zero_()
    optimizers = [Adafactor([p for i, p in enumerate(parameters) if i % len(groups) == g], **options) for g, options in enumerate(groups)]
    states = []
    for step in range(STEPS):
        for parameter, gradient in zip(parameters, gradients(step)):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
        states.append([exact(parameter) for parameter in parameters])
    settings = [{ours: optimizer.param_groups[0][theirs] for theirs, ours in NAMES.items()} for optimizer in optimizers]
    return {"groups": settings, "parameters": states}


if __name__ == "__main__":
    initial = tensors(1)
    initial[3].zero_()
    write_json(GOLDEN / "adafactor.json", {
        "shapes": SHAPES, "initial": [exact(t) for t in initial],
        "gradients": [[exact(g) for g in gradients(step)] for step in range(STEPS)],
        "runs": {name: run(groups) for name, groups in RUNS.items()},
    })
