"""check_merged.py MERGED_DIR IDS_JSON LOGITS_JSON

Loads a model folder merged by Lorikeet with transformers and compares logits with the given ones (of the merged or of the adapted model).
Same files and exit code as check_with_peft.py; a tensor that transformers misses or does not expect is a failure too.
"""
import sys

import torch
from transformers import AutoModelForCausalLM

from compare import compare


def main(folder, ids, logits):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                       output_loading_info=True)
    wrong = [f"{kind}: {sorted(map(str, info[kind]))}" for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info.get(kind)]
    for line in wrong:
        print(f"{folder}: {line}")
    return compare(model.eval(), ids, logits) or (1 if wrong else 0)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
