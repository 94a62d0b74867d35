"""check_with_peft.py MODEL_DIR ADAPTER_DIR[,ADAPTER_DIR...] IDS_JSON LOGITS_JSON

Loads adapter folders written by Lorikeet into PEFT, all of them active, and compares logits: ids are rows [[...], ...], logits one [T][V] table a row
(a reference.json serves as either). Exit code 1 above 1e-5 of the range, or where PEFT would leave a tensor of a file unused or untouched.
"""
import sys
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open

from adapters import load_base
from compare import compare


def check_keys(model, name, folder):
    """The tensor names in the file must be those PEFT would write for the same configuration."""
    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
        ours = set(file.keys())
    theirs = set(get_peft_model_state_dict(model, adapter_name=name))
    # The frozen matrix of an adapted embedding or head is a copy that PEFT adds by itself; a file may go without.
    copies = {key for key in theirs if key.endswith(("embed_tokens.base_layer.weight", "lm_head.base_layer.weight"))}
    for key in sorted(ours - theirs):
        print(f"{folder}: PEFT does not know {key}")
    for key in sorted(theirs - ours):
        print(f"{folder}: PEFT would also write {key}")
    return ours | copies == theirs


def main(model_dir, adapter_dirs, ids, logits):
    model, same = None, True
    names = {f"adapter{index}": folder for index, folder in enumerate(adapter_dirs.split(","))}
    for name, folder in names.items():
        if model is None:
            model = PeftModel.from_pretrained(load_base(model_dir), folder, adapter_name=name)
        else:
            model.load_adapter(folder, adapter_name=name)
        same = check_keys(model, name, folder) and same
    if not model.active_peft_config.is_prompt_learning:
        model.base_model.set_adapter(list(names))
    return compare(model.eval(), ids, logits) or (0 if same else 1)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
