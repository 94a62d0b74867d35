"""Records tiny random BERT models, one per task, as transformers writes them, with their outputs; and LoRA adapters of PEFT on two of them."""
import json

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification,
                          BertForTokenClassification, BertModel)

from adapters import perturb, save
from common import GOLDEN, exact, fresh, generator, normal, token_ids, write_json

VOCABULARY = 61
SHAPE = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
             max_position_embeddings=24, architectures=None)
LENGTHS = (9, 14)

# name -> (class, config options)
MODELS = {
    "bert-base": (BertModel, {}),
    "bert-classification": (BertForSequenceClassification, dict(num_labels=3, classifier_dropout=0.2)),
    "bert-regression": (BertForSequenceClassification, dict(num_labels=2, problem_type="regression", hidden_act="gelu_new")),
    "bert-token-classification": (BertForTokenClassification, dict(num_labels=5, hidden_act="relu")),
    "bert-masked-lm": (BertForMaskedLM, dict(layer_norm_eps=1e-5)),
    "bert-untied": (BertForMaskedLM, dict(tie_word_embeddings=False)),
    # As early checkpoints were published: see `to_old_names`.
    "bert-old-names": (BertForPreTraining, {}),
}

# name -> (base, PEFT options)
ADAPTERS = {
    "bert-base-lora": ("bert-base", dict(task_type="FEATURE_EXTRACTION", r=3, lora_alpha=6, target_modules=["query", "value"])),
    "bert-classification-lora": ("bert-classification", dict(task_type="SEQ_CLS", r=2, lora_alpha=5, target_modules=["query", "value"])),
}


def randomise(model, seed):
    """Every parameter away from its neutral value: norms around 1, biases around 0, matrices of deviation 0.3."""
    gen = generator(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = normal(parameter.shape, gen)
        if name.endswith("LayerNorm.weight"):
            value = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        else:
            value = (0.5 if "embeddings" in name else 0.3) * noise
        parameter.data.copy_(value)


def to_old_names(folder, model):
    """Renames the norms' parameters to `gamma` and `beta`, and adds the buffer and the second copies that early files carry."""
    path = folder / "model.safetensors"
    tensors = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for name, value in load_file(path).items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(model.config.max_position_embeddings).unsqueeze(0)
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(tensors, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["position_embedding_type"] = "absolute"
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def rows_of():
    """Two rows of unequal length whose second part has token type 1."""
    return [{"ids": token_ids(length, seed=300 + index, vocab=VOCABULARY),
             "tokenTypes": [int(place >= length - 5) for place in range(length)]} for index, length in enumerate(LENGTHS)]


def as_batch(rows):
    width = max(len(row["ids"]) for row in rows)

    def padded(values):
        return torch.tensor([list(value) + [0] * (width - len(value)) for value in values])

    return dict(input_ids=padded([row["ids"] for row in rows]), token_type_ids=padded([row["tokenTypes"] for row in rows]),
                attention_mask=padded([[1] * len(row["ids"]) for row in rows]))


@torch.no_grad()
def outputs_of(model, rows):
    """What each row gives alone; checked against the same rows padded in one batch."""
    batch = model(**as_batch(rows))
    results = []
    for index, row in enumerate(rows):
        alone = model(**as_batch([row]))
        if "last_hidden_state" in alone:
            result = {"hidden": alone.last_hidden_state[0], "pooler": alone.pooler_output[0]}
            again = {"hidden": batch.last_hidden_state[index], "pooler": batch.pooler_output[index]}
        else:
            key = "logits" if "logits" in alone else "prediction_logits"
            result, again = {"output": alone[key][0]}, {"output": batch[key][index]}
        for key, value in result.items():
            other = again[key][:len(row["ids"])] if value.shape != again[key].shape else again[key]
            assert float((value - other).abs().max()) < 1e-5
        results.append(result)
    return results


def pooled(hidden):
    """The pooling modes of sentence-transformers over the hidden states of one row."""
    places = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype).unsqueeze(1)
    return {"cls": hidden[0], "lasttoken": hidden[-1], "max": hidden.max(0).values, "mean": hidden.mean(0),
            "mean_sqrt_len_tokens": hidden.sum(0) / len(hidden) ** 0.5, "weightedmean": (hidden * places).sum(0) / places.sum()}


def record(name, kind, options):
    folder = fresh(GOLDEN / "encoders" / name)
    model = kind(BertConfig(**{**SHAPE, **options})).eval()
    randomise(model, seed=sum(map(ord, name)))
    model.save_pretrained(folder)
    if name.endswith("old-names"):
        to_old_names(folder, model)
    rows = rows_of()
    results = outputs_of(model, rows)
    noise = max(float((a[key].double() - b[key]).abs().max())
                for a, b in zip(results, outputs_of(model.double(), rows)) for key in a)
    for row, result in zip(rows, results):
        row.update({key: exact(value) for key, value in result.items()})
        if "hidden" in result:
            row["pooled"] = {mode: exact(value) for mode, value in pooled(result["hidden"]).items()}
    write_json(folder / "reference.json", {"noise": noise, "rows": rows})
    return noise


def load_base(name):
    return MODELS[name][0].from_pretrained(GOLDEN / "encoders" / name, dtype=torch.float32).eval()


def record_adapter(name, base, options):
    folder = fresh(GOLDEN / "encoders" / name)
    seed = sum(map(ord, name))
    torch.manual_seed(seed)
    model = get_peft_model(load_base(base), LoraConfig(**options))
    # The folder the adapter is for is a name, not a path of the machine that recorded it.
    model.peft_config["default"].base_model_name_or_path = base
    perturb(model, seed)
    save(model.eval(), folder)
    rows = rows_of()
    loaded = outputs_of(PeftModel.from_pretrained(load_base(base), folder).eval(), rows)
    plain = outputs_of(load_base(base), rows)
    effect = max(float((a[key] - b[key]).abs().max()) for a, b in zip(loaded, plain) for key in a)
    assert effect > 0.05, "the adapter hardly changes the outputs"
    for row, result in zip(rows, loaded):
        row.update({key: exact(value) for key, value in result.items()})
    write_json(folder / "reference.json", {"base": base, "effect": effect, "rows": rows})
    return effect


if __name__ == "__main__":
    for name, (kind, options) in MODELS.items():
        print(f"{name}: noise {record(name, kind, options):.2e}")
    for name, (base, options) in ADAPTERS.items():
        print(f"{name}: effect {record_adapter(name, base, options):.2e}")
