"""check_diffusers.py

Converts the adapters of test/golden/dialects/diffusion with `lorikeet convert`, loads the files through the loaders of diffusers onto the tiny networks they were made
for, and compares what each layer changes by. Needs a build; exit code 1 when anything differs, or where diffusers leaves a tensor unused.
"""
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file

from common import GOLDEN
from diffusers_adapters import deltas_of, networks, with_prefix

LIMIT = 2e-3  # B of the diffusers file is stored in half precision, scale included.
SOURCES = ["kohya.safetensors", "peft-names", "older-names"]


def convert(source, kind, out):
    command = ["node", GOLDEN.parents[1] / "dist/cli/main.js", "convert", "--from", source, "--to", kind, "--out", out, "--quiet"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


def loaded_deltas(path):
    """What diffusers makes of a file, by network and layer."""
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(str(path.parent), weight_name=path.name, return_lora_metadata=True)
    found = {}
    for name, model in networks().items():
        if name == "unet":
            StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=model, metadata=metadata)
        else:
            StableDiffusionPipeline.load_lora_into_text_encoder(state, network_alphas=alphas, text_encoder=model, metadata=metadata)
        found.update({f"{name}.{with_prefix(name)(layer)}": delta for layer, delta in deltas_of(model).items()})
    return found


def main():
    logging.disable(logging.NOTSET)
    diffusers_logging.set_verbosity_warning()
    expected, failed = load_file(GOLDEN / "dialects/diffusion/deltas.safetensors"), 0
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            for kind in ("kohya", "safetensors"):
                out = Path(folder) / f"{source}-{kind}.safetensors"
                convert(GOLDEN / "dialects/diffusion" / source, kind, out)
                found = loaded_deltas(out)
                worst = max((float((found[path] - delta).abs().max() / delta.abs().max()) if path in found else float("inf")) for path, delta in expected.items())
                ok = found.keys() == expected.keys() and worst <= LIMIT
                failed += not ok
                print(f"{source} -> {kind}: {len(found)} of {len(expected)} layers, within {worst:.1e} of the largest change{'' if ok else ': DIFFERS'}")
                for path in sorted(expected.keys() ^ found.keys())[:5]:
                    print(f"    {path}")
                if not ok:
                    for path, delta in expected.items():
                        if path in found and float((found[path] - delta).abs().max() / delta.abs().max()) > LIMIT:
                            print(f"    {path}: factor {float((found[path] / delta).median()):.3f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
