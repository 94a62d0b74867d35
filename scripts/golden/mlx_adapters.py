"""Records adapters that mlx-lm's own layers make and save, with the logits of the model they are on. Needs the packages mlx and mlx-lm."""
import json

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from check_mlx import load, logits_of
from common import GOLDEN, exact, fresh, token_ids

# name -> (base, number of layers from the end, keys). In a tied model mlx-lm adapts the head with the embedding.
ADAPTERS = {
    "linear": ("models/qwen3-head-dim", 1, ["self_attn.q_proj", "mlp.down_proj"]),
    "embedding-tied": ("models/llama-gqa-tied", -1, ["self_attn.v_proj", "model.embed_tokens"]),
}


def record(name, base, layers, keys):
    model = load(GOLDEN / base)
    parameters = dict(rank=3, scale=1.7, dropout=0.0, keys=keys)
    linear_to_lora_layers(model, layers, parameters)
    mx.random.seed(3)
    values = {key: mx.random.normal(value.shape) * 0.2 for key, value in tree_flatten(model.parameters()) if key.endswith(("lora_a", "lora_b"))}
    model.load_weights(list(values.items()), strict=False)
    folder = fresh(GOLDEN / "dialects" / f"mlx-{name}")
    mx.save_safetensors(str(folder / "adapters.safetensors"), values)
    config = dict(fine_tune_type="lora", model=base, num_layers=layers, lora_parameters=parameters)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=4) + "\n")
    sequences = [dict(ids=ids, logits=exact(np.asarray(logits_of(model, ids), dtype=np.float32))) for ids in (token_ids(7, 1), token_ids(5, 2))]
    (folder / "reference.json").write_text(json.dumps(dict(base=base, effect=0, sequences=sequences)) + "\n")


if __name__ == "__main__":
    for name, (base, layers, keys) in ADAPTERS.items():
        record(name, base, layers, keys)
