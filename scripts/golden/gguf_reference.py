"""gguf_reference.py LLAMA_CPP_SOURCE

Records what llama.cpp's own converters (convert_hf_to_gguf.py, convert_lora_to_gguf.py of that source folder) make of tiny models and adapters of the goldens: the
metadata, and name, type, shape and SHA-256 of every tensor (of the rotary factors the values). The models have no tokenizer, so that step of the converter writes "none".
"""
import hashlib
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

from common import GOLDEN, exact, write_json

MODELS = ["llama-bf16", "llama-biases-untied", "llama-gqa-tied", "llama-rope-linear", "llama-rope-llama3", "llama-rope-yarn", "llama-sharded",
          "mistral-full-head-dim", "mistral-sliding", "qwen2-tied", "qwen3-head-dim"]
TYPES = ["f32", "f16", "bf16", "q8_0"]
# Adapters with one scale and without rsLoRA, which convert_lora_to_gguf.py leaves out of account.
ADAPTERS = ["plain", "all-linear", "embedding-untied", "lm-head", "layers-to-transform"]
# Names, dates and sizes that say nothing about the weights.
IGNORED = ("GGUF.", "general.name", "general.size_label", "general.finetune", "general.basename", "general.version", "general.base_model",
           "general.dataset", "general.license", "general.tags", "general.sampling")


def described(path):
    from gguf import GGUFReader
    reader = GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith(IGNORED)}
    # The rotary factors are computed, and need not have the same last bits.
    content = lambda tensor: exact(tensor.data) if tensor.name == "rope_freqs.weight" else hashlib.sha256(tensor.data.tobytes()).hexdigest()
    tensors = {tensor.name: [tensor.tensor_type.name, [int(size) for size in reversed(tensor.shape)], content(tensor)]
               for tensor in sorted(reader.tensors, key=lambda tensor: tensor.name)}
    return dict(metadata=dict(sorted(metadata.items())), tensors=tensors)


def convert(script, *arguments):
    sys.argv = [script, *map(str, arguments)]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as exit:
        if exit.code:
            raise


def main(source):
    sys.path[:0] = [source, str(Path(source) / "gguf-py")]
    import conversion.base
    from conversion import get_model_class
    for architecture in ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"):
        get_model_class(architecture).set_vocab = lambda self: self._set_vocab_none()
    assert hasattr(conversion.base.TextModel, "_set_vocab_none")
    models, adapters = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.gguf"
        for name in MODELS:
            for kind in TYPES if name == "llama-gqa-tied" else ["f32"]:
                convert(f"{source}/convert_hf_to_gguf.py", GOLDEN / "models" / name, "--outtype", kind, "--outfile", out)
                models[name if kind == "f32" else f"{name}:{kind}"] = described(out)
        for name in ADAPTERS:
            base = json.loads((GOLDEN / "adapters" / name / "reference.json").read_text())["base"]
            convert(f"{source}/convert_lora_to_gguf.py", GOLDEN / "adapters" / name, "--base", GOLDEN / base, "--outtype", "f32", "--outfile", out)
            adapters[name] = dict(base=base, **described(out))
    write_json(GOLDEN / "gguf" / "llama-cpp-models.json", models)
    write_json(GOLDEN / "gguf" / "llama-cpp-adapters.json", adapters)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(os.path.abspath(sys.argv[1]))
