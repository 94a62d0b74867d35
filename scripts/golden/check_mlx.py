"""check_mlx.py DIR

Loads what write-exports.mjs wrote into DIR with mlx-lm: the base model with the adapter, and the merged model, against the logits of the adapted model.
Exit code 1 when anything differs. Models that mlx-lm computes otherwise without any adapter are listed and left out.
"""
import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model
from mlx.utils import tree_map

# A share of the range of the logits.
LIMIT = 1e-5
mx.set_default_device(mx.cpu)


def load(path):
    model, _ = load_model(path)
    model.update(tree_map(lambda value: value.astype(mx.float32), model.parameters()))
    return model


def logits_of(model, ids):
    return np.array(model(mx.array([ids]))[0].astype(mx.float32))


def share(model, rows):
    worst = 0.0
    for row in rows:
        expected = np.array(row["logits"])
        worst = max(worst, float(np.abs(logits_of(model, row["ids"]) - expected).max() / np.ptp(expected)))
    return worst


def main(root):
    failed, worst, unsupported = [], 0.0, []
    for folder in sorted(path.parent for path in root.glob("*/logits.json")):
        record = json.loads((folder / "logits.json").read_text())
        rows = record["sequences"]
        try:
            base = share(load(folder / "base"), record["base"])
        except ValueError as error:
            base = f"it does not load: {str(error).splitlines()[0]}"
        # mlx-lm leaves out sliding windows, biases of Qwen3 and `rope_parameters`.
        if not (isinstance(base, float) and base <= LIMIT):
            unsupported.append(f"{folder.name}: {base}")
            continue
        for kind in ("mlx", "merged"):
            if kind in record["refused"]:
                unsupported.append(f"{folder.name}/{kind}: {record['refused'][kind]}")
                continue
            model = load(folder / ("base" if kind == "mlx" else kind))
            if kind == "mlx":
                load_adapters(model, str(folder / "mlx"))
            found = share(model, rows)
            worst = max(worst, found)
            if not found <= LIMIT:
                failed.append(f"{folder.name}/{kind}")
            print(f"{folder.name}/{kind}: {found:.2e} of the range")
    for line in unsupported:
        print(f"not compared, as mlx-lm computes another base model or we refused: {line}")
    print(f"worst: {worst:.2e}")
    for name in failed:
        print(f"DIFFERS: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
