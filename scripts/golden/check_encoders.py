"""check_encoders.py DIR

Loads every adapter folder that write-encoders.mjs wrote into DIR with PEFT on the encoder it is for, and compares outputs and tensor names.
Exit code 1 when any of them differs.
"""
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel

from check_with_peft import check_keys
from compare import LIMIT
from encoders import load_base, outputs_of


def check(record):
    model = PeftModel.from_pretrained(load_base(record["base"]), record["adapter"]).eval()
    same = check_keys(model, "default", record["adapter"])
    worst = 0.0
    for row, result in zip(record["rows"], outputs_of(model, record["rows"])):
        # Embeddings were written with the first token's state.
        expected = (result["output"] if "output" in result else result["hidden"][0]).flatten()
        difference = float((torch.tensor(row["output"]) - expected).abs().max())
        worst = max(worst, difference / float(expected.max() - expected.min()))
    print(f"{record['base']}: {type(model).__name__}, worst {worst:.3e} of the range")
    return same and worst <= LIMIT


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    results = [check(json.loads(path.read_text())) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    print(f"{sum(results)} of {len(results)} load in PEFT with the same outputs")
    sys.exit(0 if results and all(results) else 1)
