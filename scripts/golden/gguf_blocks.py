"""Records random blocks of every supported GGUF type with the values that the gguf package gives them."""
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from common import GOLDEN, exact, write_json

# type -> (byte offsets of the float16 scales inside a block, their usual size)
TYPES = {
    "F16": ((), 0), "BF16": ((), 0),
    "Q4_0": ((0,), 0.05), "Q4_1": ((0, 2), 0.05), "Q5_0": ((0,), 0.05), "Q5_1": ((0, 2), 0.05), "Q8_0": ((0,), 0.01),
    "Q4_K": ((0, 2), 2e-3), "Q5_K": ((0, 2), 2e-3), "Q6_K": ((208,), 2e-4),
}


def random_blocks(name, count, rng):
    """Uniform random bytes, with float16 scales of a usual size and either sign written over them."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    offsets, scale = TYPES[name]
    for offset in offsets:
        values = (rng.standard_normal(count) * scale).astype(np.float16)
        blocks[:, offset:offset + 2] = values.view(np.uint8).reshape(count, 2)
    return blocks


def record(name, rng):
    kind = GGMLQuantizationType[name]
    values_per_block, bytes_per_block = GGML_QUANT_SIZES[kind]
    if values_per_block == 1:
        bits = rng.integers(0, 65536, 96).astype(np.uint16)
        # Finite values only: no exponent of all ones. Then zeros, subnormals and the largest value, with both signs.
        exponent = 0x7C00 if name == "F16" else 0x7F80
        bits = np.where(bits & exponent == exponent, bits & 0x83FF, bits)
        edge = np.array([0, 1, 2, exponent - 1, exponent >> 1], np.uint16)
        data = np.concatenate([bits, edge, edge | np.uint16(0x8000)]).astype(np.uint16).view(np.uint8)
    else:
        blocks = random_blocks(name, 4 if values_per_block == 256 else 6, rng)
        offsets = TYPES[name][0]
        blocks[-1, offsets[0]:offsets[0] + 2] = [3, 0]  # a subnormal scale
        data = blocks.reshape(-1)
    values = dequantize(data, kind)
    assert np.isfinite(values).all()
    return {"valuesPerBlock": values_per_block, "bytesPerBlock": bytes_per_block, "bytes": data.tobytes().hex(), "values": exact(values)}


if __name__ == "__main__":
    rng = np.random.default_rng(5)
    write_json(GOLDEN / "gguf" / "blocks.json", {name: record(name, rng) for name in TYPES})
