"""check_mlx.py DIR

Loads what write-exports.mjs wrote into DIR with mlx-lm: the base model with the adapter, and the merged model, against the logits of the adapted model; then
lets mlx-lm's own layers write an adapter into DIR/mlx-written for the other way round. Exit code 1 when anything differs.
"""
import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model
from mlx.utils import tree_flatten, tree_map

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


def write_adapter(source, folder, ids):
    """An adapter as mlx-lm saves it, with values that are not its start, and the logits of the model with it."""
    model = load(source)
    parameters = dict(rank=3, scale=1.7, dropout=0.0, keys=["self_attn.q_proj", "mlp.down_proj"])
    linear_to_lora_layers(model, 1, parameters)
    mx.random.seed(3)
    values = {name: mx.random.normal(value.shape) * 0.1 for name, value in tree_flatten(model.parameters()) if name.endswith(("lora_a", "lora_b"))}
    model.load_weights(list(values.items()), strict=False)
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), values)
    config = dict(fine_tune_type="lora", model=str(source), num_layers=1, lora_parameters=parameters)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=4))
    sequences = [dict(ids=row, logits=logits_of(model, row).tolist()) for row in ids]
    (folder.parent / "mlx-written.json").write_text(json.dumps(dict(sequences=sequences)))


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
        if folder.name in ("llama-gqa-tied", "qwen3-head-dim", "stories260k"):
            write_adapter(folder / "base", folder / "mlx-written", [row["ids"] for row in rows])
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
