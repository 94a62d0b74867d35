"""Records beam search of transformers 5.24.0 on the shipped stories260k: token ids and scores of all beams (see `_beam_search` of its generation)."""
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import GOLDEN, exact, write_json

assert transformers.__version__ == "5.24.0", transformers.__version__

MODEL = GOLDEN.parents[1] / "examples" / "stories260k"
PROMPTS = {"short": "Once upon a time", "long": "Lily and Tom went to the park. They saw a big"}

# name -> (prompt, texts of the tokens that end a sequence, options of generate)
CASES = {
    "plain": ("short", [], dict(num_beams=4, max_new_tokens=16)),
    "two beams": ("long", [], dict(num_beams=2, max_new_tokens=24)),
    "one end token": ("short", ["."], dict(num_beams=4, max_new_tokens=40)),
    "two end tokens": ("long", [".", "!"], dict(num_beams=3, max_new_tokens=40)),
    "end at once": ("long", [".", "y", "s", "t"], dict(num_beams=4, max_new_tokens=12)),
    "stop when all have ended": ("short", ["."], dict(num_beams=4, max_new_tokens=40, early_stopping=True)),
    "never stop early": ("long", [".", "!"], dict(num_beams=4, max_new_tokens=40, early_stopping="never")),
    "short sequences": ("long", [".", "y"], dict(num_beams=4, max_new_tokens=30, length_penalty=0.0)),
    "long sequences": ("short", [".", ","], dict(num_beams=4, max_new_tokens=30, length_penalty=2.0)),
    "longest sequences": ("short", [".", ","], dict(num_beams=4, max_new_tokens=30, length_penalty=2.0, early_stopping="never")),
    "negative penalty": ("long", [".", ","], dict(num_beams=3, max_new_tokens=30, length_penalty=-1.0)),
    "repetition": ("short", ["."], dict(num_beams=4, max_new_tokens=30, repetition_penalty=1.5)),
}


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    model.generation_config = transformers.GenerationConfig(bos_token_id=1, pad_token_id=0)
    cases = {}
    for name, (prompt, ends, options) in CASES.items():
        inputs = tokenizer(PROMPTS[prompt], return_tensors="pt")
        end_ids = [tokenizer.convert_tokens_to_ids(text) for text in ends] or [2]
        assert None not in end_ids and tokenizer.unk_token_id not in end_ids, (name, end_ids)
        beams = options["num_beams"]
        with torch.no_grad():
            out = model.generate(**inputs, **options, do_sample=False, num_return_sequences=beams, eos_token_id=end_ids,
                                 return_dict_in_generate=True, output_scores=True, output_logits=True)
        start = inputs["input_ids"].shape[1]
        lengths = (out.beam_indices >= 0).sum(dim=1).tolist()
        sequences = [row[start:start + length].tolist() for row, length in zip(out.sequences, lengths)]
        cases[name] = {"prompt": inputs["input_ids"][0].tolist(), "endTokens": end_ids,
                       "options": {k: v for k, v in options.items()}, "sequences": sequences, "scores": exact(out.sequences_scores)}
    write_json(GOLDEN / "beams.json", cases)
    for name, case in cases.items():
        print(name, [len(s) for s in case["sequences"]], case["scores"])


main()
