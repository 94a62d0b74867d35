#!/bin/sh
# Records every golden again: sh scripts/golden/record.sh [PYTHON]
set -e
python="$(command -v "${1:-python3}")"
case "$python" in /*) ;; *) python="$PWD/$python" ;; esac
cd "$(dirname "$0")"
for script in models adapters encoders prompt_learning inits_peft matching merges combine layer_gradients curves beams optimizers optimizers_8bit schedules gguf_blocks gguf_models gguf_tokenizer chat_templates parquet quantize linalg lora_ga inits eva corda conv poly adafactor torch_file; do
  PYTHONHASHSEED=0 "$python" "$script.py"
done
