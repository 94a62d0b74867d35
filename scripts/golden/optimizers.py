"""Records torch AdamW and SGD over five steps on small tensors of odd sizes, and clip_grad_norm_."""
import torch

from common import GOLDEN, exact, generator, normal, write_json

SHAPES = [(5,), (3, 7), (17,)]
STEPS = 5

# name -> (class, options of each group)
RUNS = {
    "adamw-default": (torch.optim.AdamW, [dict(lr=1e-2)]),
    "adamw-options": (torch.optim.AdamW, [dict(lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)]),
    "adamw-no-decay": (torch.optim.AdamW, [dict(lr=1e-2, weight_decay=0.0)]),
    "adamw-groups": (torch.optim.AdamW, [dict(lr=1e-2, weight_decay=0.1), dict(lr=1.6e-1, weight_decay=0.0), dict(lr=1e-3, betas=(0.5, 0.9))]),
    "sgd": (torch.optim.SGD, [dict(lr=0.1)]),
    "sgd-momentum": (torch.optim.SGD, [dict(lr=0.1, momentum=0.9)]),
    "sgd-momentum-dampening": (torch.optim.SGD, [dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.05)]),
    "sgd-nesterov": (torch.optim.SGD, [dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)]),
    "sgd-decay": (torch.optim.SGD, [dict(lr=0.1, weight_decay=0.05)]),
}
NAMES = {"lr": "learningRate", "eps": "epsilon", "weight_decay": "weightDecay", "betas": "betas", "momentum": "momentum",
         "dampening": "dampening", "nesterov": "nesterov"}


def tensors(seed, scale=1.0):
    gen = generator(seed)
    return [normal(shape, gen, scale) for shape in SHAPES]


def run(kind, groups):
    """Tensor i belongs to group i, or to the only group there is. Gradients include exact zeros and tiny values."""
    parameters = [torch.nn.Parameter(value) for value in tensors(1)]
    optimizer = kind([{"params": [p for i, p in enumerate(parameters) if i % len(groups) == g], **options}
                      for g, options in enumerate(groups)])
    states = []
    for step in range(STEPS):
        for parameter, gradient in zip(parameters, gradients(step)):
            parameter.grad = gradient
        optimizer.step()
        states.append([exact(parameter) for parameter in parameters])
    settings = [{ours: optimizer.param_groups[g][theirs] for theirs, ours in NAMES.items() if theirs in optimizer.param_groups[g]}
                for g in range(len(groups))]
    return {"kind": kind.__name__.lower(), "groups": settings, "parameters": states}


def gradients(step):
    rows = tensors(10 + step)
    rows[0][0] = 0.0
    rows[1][0, 0] *= 1e-6
    return rows


def clip(limit, scale):
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter, gradient in zip(parameters, tensors(20, scale)):
        parameter.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    return {"limit": limit, "gradients": [exact(g) for g in tensors(20, scale)], "norm": exact(norm.numpy()[()]),
            "clipped": [exact(p.grad) for p in parameters]}


if __name__ == "__main__":
    write_json(GOLDEN / "optimizers.json", {
        "shapes": SHAPES, "initial": [exact(t) for t in tensors(1)],
        "gradients": [[exact(g) for g in gradients(step)] for step in range(STEPS)],
        **{name: run(*options) for name, options in RUNS.items()},
        "clip": [clip(1.0, 1.0), clip(1.0, 0.05), clip(1.0, 1e15), clip(0.5, 1e-12)],
    })
