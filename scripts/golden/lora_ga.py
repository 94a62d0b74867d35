"""Records PEFT's LoRA-GA on an MLP of two layers: the gradients of three batches, and A and B for each direction and scale."""
import torch
from peft import LoraConfig, LoraGAConfig, get_peft_model
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from common import GOLDEN, decaying, generator, normal

RANK, ALPHA = 5, 15
SHAPES = {"fc1": (24, 20), "fc2": (18, 24)}


class Mlp(nn.Module):
    def __init__(self, weights):
        super().__init__()
        for name, weight in weights.items():
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            layer.weight.data = weight.clone()
            setattr(self, name, layer)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def main():
    # Falling spectra: with singular values apart, vectors are defined up to their sign, and a sketch finds them.
    weights = {name: 4 * decaying(*shape, 0.6, 7 + i) for i, (name, shape) in enumerate(SHAPES.items())}
    gen = generator(11)
    basis = decaying(20, 20, 0.85, 13)
    batches = [3 * normal((16, 20), gen) @ basis for _ in range(3)]
    labels = [torch.randint(0, 18, (16,), generator=gen) for _ in batches]
    tensors = {f"weight.{name}": weight for name, weight in weights.items()}
    for i, (batch, label) in enumerate(zip(batches, labels)):
        tensors[f"batch.{i}"], tensors[f"labels.{i}"] = batch, label
    for direction in ("ArB2r", "A2rBr", "ArBr"):
        for scale in ("stable", "unit", "gd_scale", "weight_svd"):
            torch.manual_seed(0)
            model = Mlp(weights)

            def train_step():
                for batch, label in zip(batches, labels):
                    F.cross_entropy(model(batch), label).backward()

            config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(SHAPES), init_lora_weights="lora_ga",
                                lora_ga_config=LoraGAConfig(direction=direction, scale=scale))
            preprocess_loraga(model, config, train_step)
            gradients = {name: getattr(model, name)._peft_loraga_grad.clone() for name in SHAPES}
            peft = get_peft_model(model, config)
            for name in SHAPES:
                layer = getattr(peft.base_model.model, name)
                tensors[f"gradient.{name}"] = gradients[name]
                tensors[f"{direction}.{scale}.{name}.A"] = layer.lora_A["default"].weight.detach().clone()
                tensors[f"{direction}.{scale}.{name}.B"] = layer.lora_B["default"].weight.detach().clone()
    for name in SHAPES:
        print(name, torch.linalg.svdvals(tensors[f"gradient.{name}"])[: 2 * RANK + 1])
    save_file(tensors, GOLDEN / "lora-ga.safetensors")


if __name__ == "__main__":
    main()
