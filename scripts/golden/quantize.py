"""NF4, double quantisation and int8 of bitsandbytes 0.50.2 on the CPU: codes, scales and values, as base64 of their bytes.

Scales are quantised by bitsandbytes' exact path (nearest code of the map), which it takes on CUDA and for float64 input; its CPU kernel for float32 looks codes up
in a table of coarse steps and is off by one code here and there.
"""
import base64
import json
import sys
from pathlib import Path

import bitsandbytes.functional as F
import numpy as np
import torch

torch.manual_seed(3)
torch.set_num_threads(1)
DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def text(x):
    x = x.contiguous()
    if x.dtype == torch.bfloat16:
        x = x.view(torch.int16)
    return base64.b64encode(x.numpy().tobytes()).decode()


def ties():
    """Values on the midpoints of the table, and one float to each side of them."""
    table = F.get_4bit_type("nf4", "cpu")
    middle = (table[:-1] + table[1:]) / 2
    sides = [torch.nextafter(middle, torch.full_like(middle, to)) for to in (-2.0, 2.0)]
    return torch.cat([middle, *sides, torch.tensor([1.0, -1.0] + [0.0] * 17)])


def nf4_cases():
    normal = torch.randn(3, 50)
    yield "odd", torch.randn(7, 9), 64
    yield "one", torch.randn(1, 1), 64
    yield "whole", torch.randn(8, 64), 64
    yield "cut", torch.randn(2, 81), 64
    yield "cut-even", normal, 32
    yield "zeros", torch.cat([torch.zeros(64), torch.randn(64), torch.zeros(34)]).reshape(2, 81), 64
    yield "ties", ties().reshape(1, 64), 64
    yield "bf16", torch.randn(6, 70).bfloat16(), 64
    yield "f16", torch.randn(6, 70).half(), 64
    yield "large-blocks", torch.randn(4, 300), 512


def nf4(name, x, block):
    codes, state = F.quantize_4bit(x, blocksize=block, quant_type="nf4")
    values = F.dequantize_4bit(codes, state)
    return {
        "name": name, "dtype": DTYPES[x.dtype], "shape": list(x.shape), "blockSize": block, "x": text(x),
        "codes": text(codes.flatten()), "scales": text(state.absmax), "values": text(values),
    }


def double(x, block):
    codes, state = F.quantize_4bit(x, blocksize=block, quant_type="nf4")
    offset = state.absmax.double().mean().float()
    map8 = F.create_dynamic_map()
    scale_codes, scales = torch.ops.bitsandbytes.quantize_blockwise((state.absmax - offset).double(), map8, 256)
    cpu, nested = F.quantize_blockwise(state.absmax - offset, blocksize=256)
    assert (cpu.int() - scale_codes.int()).abs().max() <= 1
    theirs = F.quantize_4bit(x, blocksize=block, quant_type="nf4", compress_statistics=True)[1].offset
    assert abs(theirs - offset) <= 4 * np.spacing(offset.numpy())
    nested.absmax = scales
    absmax = F.dequantize_blockwise(scale_codes, nested) + offset
    state.absmax = absmax
    return {
        "name": "double", "dtype": DTYPES[x.dtype], "shape": list(x.shape), "blockSize": block, "x": text(x), "codes": text(codes.flatten()),
        "scaleCodes": text(scale_codes), "scales": text(scales), "scaleOffset": text(offset.reshape(1)),
        "values": text(F.dequantize_4bit(codes, state).float()),
    }


def int8(x):
    codes, scales, _ = F.int8_vectorwise_quant(x.clone())
    return {
        "name": "int8", "dtype": DTYPES[x.dtype], "shape": list(x.shape), "x": text(x), "codes": text(codes), "scales": text(scales),
        "values": text(F.int8_vectorwise_dequant(codes, scales)),
    }


def main():
    rows = torch.randn(5, 33)
    rows[2] = 0
    rows[3] = torch.arange(33) - 16.5
    golden = {
        "map": text(F.create_dynamic_map()),
        "nf4": [nf4(*case) for case in nf4_cases()],
        "double": [double((torch.randn(96, 100) * torch.rand(96, 1)).bfloat16(), 32)],
        "int8": [int8(rows), int8(torch.randn(4, 20).half()), int8(torch.randn(4, 20).bfloat16())],
    }
    path = Path(__file__).parents[2] / "test" / "golden" / "quantize.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
