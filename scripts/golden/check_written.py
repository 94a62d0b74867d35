"""check_written.py DIR

Loads every adapter folder that write-adapters.mjs wrote into DIR with PEFT and compares logits and tensor names (see check_with_peft.py).
Exit code 1 when any of them differs.
"""
import json
import os
import sys
from pathlib import Path

from check_with_peft import main as check
from common import GOLDEN

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder, failed = Path(sys.argv[1]).resolve(), []
    os.chdir(GOLDEN)
    records = sorted(folder.glob("*.json"))
    for record in records:
        print(record.stem)
        written = json.loads(record.read_text())
        if check(written["base"], written["adapter"], str(record), str(record)):
            failed.append(record.stem)
    print(f"{len(records) - len(failed)} of {len(records)} load in PEFT with the same logits" + (f"; not: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed or not records else 0)
