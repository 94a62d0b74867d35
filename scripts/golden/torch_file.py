"""Records files of torch.save: an adapter as older PEFT published it, and dictionaries with every kind of tensor beside the same values as safetensors."""
from collections import OrderedDict

import torch
from safetensors.torch import load_file, save_file

from common import GOLDEN, fresh, generator

FOLDER = GOLDEN / "torch"


def main():
    fresh(FOLDER)
    adapter = load_file(GOLDEN / "adapters" / "plain" / "adapter_model.safetensors")
    torch.save(adapter, FOLDER / "adapter_model.bin")
    gen = generator(7)
    base = torch.randn((4, 6), generator=gen)
    cube = torch.randn((2, 3, 5), generator=gen)
    kinds = {
        "f32": base, "f64": base.double(), "f16": base.half(), "bf16": base.bfloat16(), "i64": torch.arange(-3, 3), "i32": torch.arange(5, dtype=torch.int32),
        "u8": torch.arange(250, 256, dtype=torch.uint8), "bool": base > 0, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3),
        "transposed": base.t(), "turned": cube.permute(2, 0, 1), "rows": base[1:3], "one column": base[:, :1].t()[:, :1], "parameter": torch.nn.Parameter(base),
    }
    torch.save(OrderedDict(kinds), FOLDER / "kinds.bin")
    save_file({name: value.detach().contiguous().clone() for name, value in kinds.items()}, FOLDER / "kinds.safetensors")
    torch.manual_seed(3)
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    torch.save(layer.state_dict(), FOLDER / "state-dict.bin")
    save_file(layer.state_dict(), FOLDER / "state-dict.safetensors")
    # What is refused: not dense, of a dtype without kernels, more than tensors, the format before the archives, a whole module.
    torch.save({"steps": base[:, ::2]}, FOLDER / "steps.bin")
    torch.save({"i16": torch.arange(4, dtype=torch.int16)}, FOLDER / "i16.bin")
    torch.save({"nested": {"a": base}}, FOLDER / "nested.bin")
    torch.save({"a": base}, FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(layer, FOLDER / "module.bin")


main()
