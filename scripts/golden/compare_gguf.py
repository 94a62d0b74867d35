"""compare_gguf.py OURS REFERENCE

Compares two GGUF files of one model by the gguf package's reader: names, shapes, types and bytes of the tensors, and the metadata. REFERENCE is what
llama.cpp's convert_hf_to_gguf.py or convert_lora_to_gguf.py makes of the same folder. Prints every difference; exit code 1 where a tensor differs.
"""
import sys

import numpy as np
from gguf import GGUFReader


def metadata(reader):
    return {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def short(value):
    text = repr(value)
    return text if len(text) < 90 else f"{text[:70]}… ({len(value)})"


def main(ours, reference):
    mine, theirs = GGUFReader(ours), GGUFReader(reference)
    one, two = ({tensor.name: tensor for tensor in reader.tensors} for reader in (mine, theirs))
    wrong = [f"tensor {name}: only in {'ours' if name in one else 'reference'}" for name in sorted(one.keys() ^ two.keys())]
    for name in one.keys() & two.keys():
        left, right = one[name], two[name]
        if (left.tensor_type, list(left.shape)) != (right.tensor_type, list(right.shape)):
            wrong.append(f"tensor {name}: {left.tensor_type.name} {list(left.shape)}, reference {right.tensor_type.name} {list(right.shape)}")
        elif not np.array_equal(left.data.view(np.uint8), right.data.view(np.uint8)):
            share = float((left.data.view(np.uint8) != right.data.view(np.uint8)).mean())
            wrong.append(f"tensor {name}: {share:.2%} of the bytes differ")
    one, two = metadata(mine), metadata(theirs)
    for key in sorted(one.keys() | two.keys()):
        if key not in one or key not in two:
            print(f"{key}: only in {'ours' if key in one else 'reference'}: {short(one.get(key, two.get(key)))}")
        elif one[key] != two[key]:
            print(f"{key}: ours {short(one[key])}, reference {short(two[key])}")
            if isinstance(one[key], list):
                print(f"    at {[i for i, (a, b) in enumerate(zip(one[key], two[key])) if a != b][:8]}")
    print("\n".join(wrong) if wrong else f"all {len(mine.tensors)} tensors equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
