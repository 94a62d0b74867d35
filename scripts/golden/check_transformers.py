"""check_transformers.py DIR

Loads what write-exports.mjs wrote into DIR with transformers and PEFT: the merged model in float32 and bfloat16 against the logits of the adapted model,
and the adapter on its base. Every warning, missing or unexpected tensor is a failure. Exit code 1 when anything differs.
"""
import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from common import logits_of

# PEFT says this of every adapter on one of two tied layers, also of its own.
EXPECTED = "ensure_weight_tying"
# Shares of the range of the logits.
LIMITS = {"merged": 1e-5, "merged-bf16": 0.05, "adapter": 1e-5}


class Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def load(folder, kind):
    """The model, and all that was said while it was loaded."""
    logging.disable(logging.NOTSET)
    heard = Heard()
    loggers = [logging.getLogger(name) for name in ("transformers", "peft")]
    for logger in loggers:
        logger.addHandler(heard)
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = folder / ("base" if kind == "adapter" else kind)
        model, info = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        said = [f"{key}: {sorted(map(str, info[key]))}" for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(key)]
        if kind == "adapter":
            said, heard.lines[:] = [], []
            caught.clear()
            model = PeftModel.from_pretrained(model, folder / "adapter")
        if (path / "generation_config.json").exists():
            GenerationConfig.from_pretrained(path)
    for logger in loggers:
        logger.removeHandler(heard)
    said += heard.lines + [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    return model.eval(), [line for line in said if EXPECTED not in line]


def main(root):
    failed, worst = [], dict.fromkeys(LIMITS, 0.0)
    for folder in sorted(path.parent for path in Path(root).glob("*/logits.json")):
        rows = json.loads((folder / "logits.json").read_text())["sequences"]
        for kind, limit in LIMITS.items():
            model, said = load(folder, kind)
            share = 0.0
            for row in rows:
                expected = torch.tensor(row["logits"])
                share = max(share, float((logits_of(model, row["ids"]) - expected).abs().max() / (expected.max() - expected.min())))
            worst[kind] = max(worst[kind], share)
            if said or not share <= limit:
                failed.append(f"{folder.name}/{kind}")
            print(f"{folder.name}/{kind}: {share:.2e} of the range" + "".join(f"\n    {line}" for line in said))
    print("worst: " + ", ".join(f"{kind} {value:.2e}" for kind, value in worst.items()))
    for name in failed:
        print(f"DIFFERS: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1]))
