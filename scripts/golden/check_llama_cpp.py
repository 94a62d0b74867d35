"""check_llama_cpp.py DIR

Loads what write-exports.mjs wrote into DIR with llama.cpp (package llama-cpp-python) and compares logits with those of the adapted model: the merged
model as F32, F16, BF16 and Q8_0, and the base model with the adapter. Exit code 1 when anything differs. Models that llama.cpp computes otherwise without
any adapter (it has no sliding window for these architectures) are listed and left out.
"""
import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

# Shares of the range of the logits. llama.cpp keeps keys and values as F16 unless told otherwise; here they are F32.
LIMITS = {"merged-f32": 1e-5, "merged-f16": 5e-3, "merged-bf16": 5e-2, "merged-q8_0": 5e-2, "adapter": 1e-5}
quiet = llama_cpp.llama_log_callback(lambda *_: None)


class Context:
    """A model with its context, and an adapter where one is given."""

    def __init__(self, path, adapter=None, scale=1.0):
        params = llama_cpp.llama_model_default_params()
        params.use_mmap = False
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 256, 256, 256, 1, 1
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.width = llama_cpp.llama_vocab_n_tokens(self.vocab)
        if adapter is not None:
            self.adapter = llama_cpp.llama_adapter_lora_init(self.model, str(adapter).encode())
            if not self.adapter:
                raise SystemExit(f"{adapter}: llama.cpp cannot load it")
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(self.adapter)
            llama_cpp.llama_set_adapters_lora(self.context, adapters, 1, (ctypes.c_float * 1)(scale))

    def logits(self, ids):
        """[T, V] of one sequence run alone."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, i), (self.width,)).copy() for i in range(len(ids))]
        llama_cpp.llama_batch_free(batch)
        return np.stack(rows)

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def share(context, rows):
    """The largest difference as a share of the range of the logits."""
    worst = 0.0
    for row in rows:
        expected = np.array(row["logits"])
        worst = max(worst, float(np.abs(context.logits(row["ids"]) - expected).max() / np.ptp(expected)))
    context.close()
    return worst


def main(root):
    llama_cpp.llama_log_set(quiet, None)
    llama_cpp.llama_backend_init()
    failed, worst, refused = [], dict.fromkeys(LIMITS, 0.0), []
    for folder in sorted(path.parent for path in Path(root).glob("*/logits.json")):
        record = json.loads((folder / "logits.json").read_text())
        if "base.gguf" not in record["refused"] and not (base := share(Context(folder / "base.gguf"), record["base"])) <= LIMITS["merged-f32"]:
            refused.append(f"{folder.name}: llama.cpp computes another base model, {base:.2e} of the range")
            continue
        for kind, limit in LIMITS.items():
            if f"{kind}.gguf" in record["refused"]:
                refused.append(f"{folder.name}/{kind}: {record['refused'][f'{kind}.gguf']}")
                continue
            found = share(Context(folder / "base.gguf", folder / "adapter.gguf") if kind == "adapter" else Context(folder / f"{kind}.gguf"), record["sequences"])
            worst[kind] = max(worst[kind], found)
            if not found <= limit:
                failed.append(f"{folder.name}/{kind}")
            print(f"{folder.name}/{kind}: {found:.2e} of the range")
    for line in refused:
        print(f"refused: {line}")
    print("worst: " + ", ".join(f"{kind} {value:.2e}" for kind, value in worst.items()))
    for name in failed:
        print(f"DIFFERS: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1]))
