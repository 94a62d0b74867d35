"""Records prefix tuning, prompt tuning and P-tuning of PEFT over the tiny models: folders as PEFT saves them, logits, greedy tokens, and what PEFT's encoders make."""
import os

import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from peft.tuners import PromptEncoder
from safetensors.torch import save_file

import encoders
from adapters import load_base, perturb, save
from common import GOLDEN, exact, fresh, token_ids, write_json

TIED = "models/llama-gqa-tied"
WIDE = "models/qwen3-head-dim"
WINDOW = "models/mistral-sliding"

# name -> (base model, PEFT config)
CASES = {
    "prefix": (TIED, PrefixTuningConfig(num_virtual_tokens=5)),
    "prefix-projection": (TIED, PrefixTuningConfig(num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=12)),
    "prefix-zero": (TIED, PrefixTuningConfig(num_virtual_tokens=3, init_weights="zero")),
    "prefix-window": (WINDOW, PrefixTuningConfig(num_virtual_tokens=3)),
    "prefix-biases": ("models/llama-biases-untied", PrefixTuningConfig(num_virtual_tokens=6)),
    "prompt": (TIED, PromptTuningConfig(num_virtual_tokens=5)),
    "prompt-vocabulary": (WIDE, PromptTuningConfig(num_virtual_tokens=3, prompt_tuning_init="SAMPLE_VOCAB")),
    "prompt-window": (WINDOW, PromptTuningConfig(num_virtual_tokens=4)),
    "p-tuning-mlp": (TIED, PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=24)),
    "p-tuning-lstm": (TIED, PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, encoder_reparameterization_type="LSTM")),
}
# BERT takes no keys and values in front: PEFT has no prefix tuning for it.
ON_ENCODERS = {
    "classification": ("bert-classification", PromptTuningConfig(num_virtual_tokens=4, task_type="SEQ_CLS")),
    "token-classification": ("bert-token-classification", PromptTuningConfig(num_virtual_tokens=3, task_type="TOKEN_CLS")),
    "classification-p-tuning": ("bert-classification", PromptEncoderConfig(num_virtual_tokens=4, task_type="SEQ_CLS")),
}
LENGTHS = (12, 15)
PROMPT, NEW = 7, 8


@torch.no_grad()
def logits_of(model, ids):
    """Logits [T, V] of the tokens of one sequence, those of virtual tokens left out."""
    return model(input_ids=torch.tensor([ids])).logits[0, -len(ids):]


@torch.no_grad()
def loss_of(model, ids):
    """Of the tokens after the first one, which with soft tokens PEFT would let the last of them predict."""
    return float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([[-100] + ids[1:]])).loss)


def greedy(model, ids):
    """Token by token, each by a pass over the whole sequence; and the smallest gap between the two best logits on the way."""
    row, gap = list(ids), float("inf")
    for _ in range(NEW):
        best = logits_of(model, row)[-1].topk(2).values
        gap = min(gap, float(best[0] - best[1]))
        row.append(int(logits_of(model, row)[-1].argmax()))
    return row[len(ids):], gap


def record(name, base, config):
    folder, seed = fresh(GOLDEN / "prompts" / name), sum(map(ord, name))
    config.task_type = "CAUSAL_LM"
    torch.manual_seed(seed)
    trained = get_peft_model(load_base(base), config)
    perturb(trained, seed)
    save(trained.eval(), folder)
    loaded, plain = PeftModel.from_pretrained(load_base(base), folder).eval(), load_base(base)
    sequences, effect = [], 0.0
    for index, length in enumerate(LENGTHS):
        ids = token_ids(length, seed=300 + index)
        logits = logits_of(loaded, ids)
        assert float((logits - logits_of(trained, ids)).abs().max()) < 1e-4, "saved and loaded adapters differ"
        effect = max(effect, float((logits - plain(input_ids=torch.tensor([ids])).logits[0]).abs().max()))
        sequences.append({"ids": ids, "logits": exact(logits), "loss": loss_of(loaded, ids)})
    assert effect > 0.05, "the adapter hardly changes the logits"
    prompt = token_ids(PROMPT, seed=310)
    tokens, gap = greedy(loaded, prompt)
    write_json(folder / "reference.json", {"base": base, "effect": effect, "sequences": sequences,
                                           "greedy": {"prompt": prompt, "tokens": tokens, "gap": gap}})
    return effect


def record_on_encoder(name, base, config):
    folder, seed = fresh(GOLDEN / "prompts-on-encoders" / name), sum(map(ord, name))
    torch.manual_seed(seed)
    trained = get_peft_model(encoders.load_base(base), config)
    trained.peft_config["default"].base_model_name_or_path = base
    perturb(trained, seed)
    save(trained.eval(), folder)
    loaded, rows = PeftModel.from_pretrained(encoders.load_base(base), folder).eval(), encoders.rows_of()
    for row in rows:
        with torch.no_grad():
            output = loaded(**encoders.as_batch([row])).logits[0]
        # Of classes of tokens without those of virtual ones.
        row["output"] = exact(output[-len(row["ids"]):] if output.dim() == 2 else output)
    write_json(folder / "reference.json", {"base": base, "rows": rows})


def record_encoders():
    """Weights of PEFT's prompt encoders in float64, and the table that they make."""
    tensors = {}
    for kind, layers in (("MLP", 2), ("LSTM", 2), ("LSTM", 1)):
        config = PromptEncoderConfig(num_virtual_tokens=5, token_dim=6, num_transformer_submodules=1, encoder_hidden_size=4,
                                     encoder_reparameterization_type=kind, encoder_num_layers=layers)
        torch.manual_seed(len(tensors))
        encoder = PromptEncoder(config).double().eval()
        name = f"{kind.lower()}{layers}"
        tensors.update({f"{name}.{key}": value.detach().clone() for key, value in encoder.state_dict().items()})
        tensors[f"{name}.output"] = encoder(torch.arange(5)).detach().clone()
    save_file(tensors, GOLDEN / "prompts" / "encoders.safetensors")


if __name__ == "__main__":
    os.chdir(GOLDEN)  # so that base_model_name_or_path is a relative path
    fresh(GOLDEN / "prompts")
    for case, (model, options) in CASES.items():
        print(f"{case}: changes the logits by up to {record(case, model, options):.2f}")
    fresh(GOLDEN / "prompts-on-encoders")
    for case, (model, options) in ON_ENCODERS.items():
        record_on_encoder(case, model, options)
    record_encoders()
