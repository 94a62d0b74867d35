"""Records outputs and gradients of single PEFT layers in float64: LoRA, LoRA with bias, rsLoRA pair, DoRA, on linear and embedding layers."""
import torch
from peft import LoraConfig, get_peft_model

from adapters import perturb
from common import GOLDEN, exact, generator, normal, write_json

IN, OUT, VOCAB = 7, 5, 11
LINEAR_INPUT = (2, 3, IN)
IDS = [[0, 3, 3, 10], [7, 1, 0, 10]]

# name -> (layer, options of each active adapter)
CASES = {
    "linear-lora": ("linear", [dict(r=3, lora_alpha=6)]),
    "linear-lora-bias": ("linear", [dict(r=3, lora_alpha=6, lora_bias=True)]),
    "linear-two": ("linear", [dict(r=3, lora_alpha=6), dict(r=2, lora_alpha=5, use_rslora=True)]),
    "linear-dora": ("linear", [dict(r=3, lora_alpha=6, use_dora=True)]),
    "linear-dora-no-bias": ("linear-no-bias", [dict(r=3, lora_alpha=6, use_dora=True, use_rslora=True)]),
    "embedding-lora": ("embedding", [dict(r=3, lora_alpha=6)]),
    "embedding-dora": ("embedding", [dict(r=3, lora_alpha=6, use_dora=True)]),
}


class Holder(torch.nn.Module):
    """One target layer under the name `layer`."""

    def __init__(self, kind):
        super().__init__()
        self.layer = torch.nn.Embedding(VOCAB, OUT) if kind == "embedding" else torch.nn.Linear(IN, OUT, bias=kind == "linear")

    def forward(self, x):
        return self.layer(x)


def short(name):
    return name.removeprefix("base_model.model.layer.")


def record(kind, adapters):
    torch.manual_seed(3)
    base = Holder(kind).double()
    model = get_peft_model(base, LoraConfig(target_modules=["layer"], **adapters[0]), adapter_name="adapter0", autocast_adapter_dtype=False)
    for index, options in enumerate(adapters[1:], 1):
        model.add_adapter(f"adapter{index}", LoraConfig(target_modules=["layer"], **options), autocast_adapter_dtype=False)
    model.base_model.set_adapter([f"adapter{index}" for index in range(len(adapters))])
    model.double()
    perturb(model, 4)
    gen = generator(6)
    x = torch.tensor(IDS) if kind == "embedding" else normal(LINEAR_INPUT, gen).double().requires_grad_()
    y = model(x)
    dy = normal(y.shape, gen).double()
    y.backward(dy)
    row = {"adapters": adapters, "input": exact(x), "output": exact(y), "outputGradient": exact(dy),
           "parameters": {short(name): exact(parameter) for name, parameter in model.named_parameters()},
           "gradients": {short(name): exact(parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None}}
    if kind != "embedding":
        row["inputGradient"] = exact(x.grad)
    return row


if __name__ == "__main__":
    write_json(GOLDEN / "layer-gradients.json", {name: record(*case) for name, case in CASES.items()})
