"""PEFT on TREC-6: LoRA r=16 on all linears of a chat model, loss on the label, 200 steps of 16. Prints one JSON line a seed.

  python trec6.py --model FOLDER --data FOLDER_WITH_TREC6 --seeds 1,2,3 [--dtype bfloat16]
FOLDER is a Hugging Face folder; accuracy is the share of dev rows whose own label has the highest likelihood of the six.
"""
import argparse, json, os, resource, time
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

LABELS = ["description", "entity", "abbreviation", "human", "location", "number"]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def batch_of(examples, tokenizer):
    sequences, starts = [], []
    for row in examples:
        prompt = f"Question: {row['text']}\nType:"
        start = len(tokenizer(prompt)["input_ids"])
        sequences.append(tokenizer(f"{prompt} {LABELS[row['label']]}")["input_ids"] + [tokenizer.eos_token_id])
        starts.append(start)
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), tokenizer.eos_token_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (sequence, start) in enumerate(zip(sequences, starts)):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
        labels[i, start : len(sequence)] = torch.tensor(sequence[start:])
    return dict(input_ids=ids, attention_mask=mask, labels=labels), sum(map(len, sequences))


@torch.no_grad()
def accuracy(model, tokenizer, examples):
    model.eval()
    first = [tokenizer(f"x: {label}")["input_ids"][len(tokenizer("x:")["input_ids"]) :] for label in LABELS]
    assert all(len(ids) == 1 for ids in first) and len({ids[0] for ids in first}) == len(LABELS), first
    choices, right = torch.tensor([ids[0] for ids in first]), 0
    for begin in range(0, len(examples), 16):
        part = examples[begin : begin + 16]
        sequences = [tokenizer(f"Question: {row['text']}\nType:")["input_ids"] for row in part]
        width = max(map(len, sequences))
        ids = torch.full((len(part), width), tokenizer.eos_token_id)
        mask = torch.zeros_like(ids)
        for i, sequence in enumerate(sequences):
            ids[i, : len(sequence)] = torch.tensor(sequence)
            mask[i, : len(sequence)] = 1
        logits = model(input_ids=ids, attention_mask=mask).logits
        last = logits[torch.arange(len(part)), mask.sum(1) - 1].float()[:, choices]
        right += sum(int(guess) == row["label"] for guess, row in zip(last.argmax(1), part))
    model.train()
    return right / len(examples)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--steps", type=int, default=200)
    a = p.parse_args()
    train, dev = (rows(os.path.join(a.data, f"trec6.{part}.jsonl")) for part in ("train", "dev"))
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    for seed in map(int, a.seeds.split(",")):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype))
        zero_shot = accuracy(base, tokenizer, dev)
        model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=LINEARS, lora_dropout=0.0, task_type="CAUSAL_LM"))
        parameters = [q for q in model.parameters() if q.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.0)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, a.steps)
        model.train()
        order = torch.randperm(len(train)).tolist()
        tokens, begin = 0, time.perf_counter()
        for step in range(a.steps):
            batch, count = batch_of([train[order[(step * 16 + i) % len(train)]] for i in range(16)], tokenizer)
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step(); schedule.step(); optimizer.zero_grad(set_to_none=True)
            tokens += count
        seconds = time.perf_counter() - begin
        print(json.dumps(dict(seed=seed, zeroShot=round(zero_shot, 4), accuracy=round(accuracy(model, tokenizer, dev), 4), loss=round(float(loss.detach()), 4),
              seconds=round(seconds, 1), tokensPerSecond=round(tokens / seconds, 1),
              peakMb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))), flush=True)


if __name__ == "__main__":
    main()
