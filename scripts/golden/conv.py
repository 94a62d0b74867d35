"""Records convolutions and batch normalisation of torch, and LoRA of PEFT on a tiny network of convolutions.

With a folder as argument: checks an adapter that this project saved there against `expected.safetensors` beside it, in PEFT."""
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from adapters import perturb, save
from common import GOLDEN, fresh, generator, normal

# name -> (dimensions, x, weight, options)
CASES = {
    "patches": (2, (2, 1, 40, 26), (12, 1, 16, 16), dict(stride=10)),
    "stem": (2, (2, 3, 17, 19), (8, 3, 7, 7), dict(stride=2, padding=3)),
    "same-dilated": (2, (1, 4, 11, 10), (6, 4, 3, 4), dict(padding="same", dilation=(2, 3))),
    "groups": (2, (2, 6, 9, 9), (4, 3, 3, 3), dict(padding=(0, 1), groups=2)),
    "depthwise": (2, (2, 5, 8, 12), (10, 1, 3, 3), dict(stride=(1, 2), padding=1, groups=5)),
    "pointwise": (2, (2, 6, 7, 5), (9, 6, 1, 1), dict()),
    "conformer": (1, (2, 6, 33), (6, 1, 31), dict(padding="same", groups=6)),
    "causal": (1, (2, 4, 21), (5, 4, 4), dict(padding=3, stride=3)),
}


def record_ops():
    tensors = {}
    for index, (name, (dimensions, x_shape, weight_shape, options)) in enumerate(CASES.items()):
        gen = generator(40 + index)
        x, weight, bias = (normal(shape, gen).double().requires_grad_() for shape in (x_shape, weight_shape, weight_shape[:1]))
        y = (F.conv2d if dimensions == 2 else F.conv1d)(x, weight, bias, **options)
        dy = normal(y.shape, gen).double()
        y.backward(dy)
        for key, value in dict(x=x, weight=weight, bias=bias, y=y, dy=dy, dx=x.grad, dw=weight.grad, db=bias.grad).items():
            tensors[f"{name}.{key}"] = value.detach().contiguous()
    for name, shape in {"batch-norm": (4, 3, 5), "batch-norm-flat": (6, 3)}.items():
        gen = generator(70)
        layer = nn.BatchNorm1d(3).double()
        for parameter in layer.parameters():
            parameter.data.copy_(normal(parameter.shape, gen))
        x = normal(shape, gen).double().requires_grad_()
        tensors |= {f"{name}.weight": layer.weight.detach().clone(), f"{name}.bias": layer.bias.detach().clone()}
        y = layer(x)
        dy = normal(shape, gen).double()
        y.backward(dy)
        grads = dict(dx=x.grad, dw=layer.weight.grad, db=layer.bias.grad)
        layer.eval()
        more = dict(x=x, y=y, dy=dy, running_mean=layer.running_mean, running_var=layer.running_var, later=layer(x))
        for key, value in (grads | more).items():
            tensors[f"{name}.{key}"] = value.detach().contiguous()
    save_file(tensors, GOLDEN / "conv.safetensors")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.point = nn.Conv2d(8, 6, 1, bias=False)
        self.along = nn.Conv1d(6, 5, 5, padding=2)

    def forward(self, x):
        y = F.relu(self.stem(x))
        y = F.relu(self.point(y + self.depthwise(y)))
        return self.along(y.flatten(2))


# name -> PEFT options
ADAPTERS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=["stem", "point", "along"]),
    "groups": dict(r=8, lora_alpha=4, target_modules=["depthwise", "stem"], lora_bias=True, use_rslora=True),
}


def network():
    torch.manual_seed(5)
    return Network().eval()


def record_adapters():
    folder = fresh(GOLDEN / "lora-conv")
    x = normal((2, 3, 9, 11), generator(90))
    base = network()
    save_file(base.state_dict(), folder / "model.safetensors")
    save_file({"x": x, "y": base(x).detach()}, folder / "base.safetensors")
    for index, (name, options) in enumerate(ADAPTERS.items()):
        torch.manual_seed(index)
        tuned = get_peft_model(network(), LoraConfig(**options))
        perturb(tuned, 91 + index)
        save(tuned.eval(), folder / name)
        outputs = {"y": tuned(x).detach()}
        if name == "plain":
            merged = tuned.merge_and_unload()
            outputs |= {f"merged.{key}": value for key, value in merged.state_dict().items() if key.endswith("weight")}
        save_file({key: value.contiguous() for key, value in outputs.items()}, folder / name / "expected.safetensors")


def check(folder):
    config = LoraConfig.from_pretrained(folder)
    config.task_type = None  # the network is no language model
    tuned = PeftModel.from_pretrained(network(), folder, config=config).eval()
    expected = load_file(Path(folder) / "expected.safetensors")
    y = expected["y"]
    difference = float((tuned(expected["x"]) - y).abs().max() / (y.max() - y.min()))
    print(f"{folder}: largest difference {difference} of the range")
    assert difference < 1e-5


if len(sys.argv) > 1:
    for path in sys.argv[1:]:
        check(path)
else:
    record_ops()
    record_adapters()
