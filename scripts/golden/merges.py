"""Records the weights that PEFT's merge_and_unload changes, for adapters recorded by adapters.py."""
import json
import os

import torch
from peft import PeftModel
from safetensors.torch import save_file

from adapters import load_base
from common import GOLDEN, fresh, logits_of

NAMES = ["plain", "rslora", "patterns", "dora", "dora-rslora-biases", "dora-embedding", "embedding-untied", "lora-bias",
         "modules-to-save-both", "token-indices-untied"]
# Float32 logits of the merged model, as a share of their range: merging rounds every weight once more.
LIMIT = 1e-5


def changed(base, merged):
    before = dict(base.named_parameters())
    return {name: parameter.detach().contiguous() for name, parameter in merged.named_parameters() if not torch.equal(parameter, before[name])}


def record(name, folders, reference):
    expected = json.loads((GOLDEN / "adapters" / reference).read_text())
    model = None
    for index, folder in enumerate(folders):
        if model is None:
            model = PeftModel.from_pretrained(load_base(expected["base"]), GOLDEN / "adapters" / folder, adapter_name="adapter0")
        else:
            model.load_adapter(GOLDEN / "adapters" / folder, adapter_name=f"adapter{index}")
    merged = model.merge_and_unload(safe_merge=True, adapter_names=[f"adapter{i}" for i in range(len(folders))]).eval()
    weights = changed(load_base(expected["base"]), merged)
    save_file(weights, GOLDEN / "merged" / f"{name}.safetensors", {"format": "pt"})
    worst = 0.0
    for row in expected["sequences"]:
        logits = torch.tensor(row["logits"])
        worst = max(worst, float((logits_of(merged, row["ids"]) - logits).abs().max() / (logits.max() - logits.min())))
    assert worst < LIMIT, f"{name}: merged logits differ by {worst:.1e} of their range"
    print(f"{name}: {len(weights)} tensors, logits within {worst:.1e} of their range")


if __name__ == "__main__":
    os.chdir(GOLDEN)
    fresh(GOLDEN / "merged")
    for name in NAMES:
        record(name, [name], f"{name}/reference.json")
    record("two-active", ["two-active/first", "two-active/second"], "two-active/reference-first-second.json")
