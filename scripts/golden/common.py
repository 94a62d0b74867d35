"""What every recorder shares: where goldens go, seeded noise, exact float32 JSON, and one way to run a causal model."""
import json
import logging
import os
import shutil
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
import transformers

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
DATA = Path(os.environ.get("LORIKEET_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def exact(values):
    """Nested lists whose decimals are the shortest that give back the same float32 (float64 input stays float64)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy() if values.dtype in (torch.bfloat16, torch.float16) else values.detach().cpu().numpy()
    if isinstance(values, np.ndarray):
        if values.dtype != np.float32:
            return values.tolist()
        return [exact(row) for row in values] if values.ndim > 1 else [float(str(v)) for v in values]
    if isinstance(values, np.float32):
        return float(str(values))
    return values


def write_json(path, value):
    """Writes JSON with one top-level key a line, so that diffs stay readable and numbers stay compact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{json.dumps(key)}: {json.dumps(item, separators=(',', ':'))}" for key, item in value.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def fresh(path):
    """An empty folder at `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(shape, gen, std=1.0):
    return torch.randn(shape, generator=gen) * std


def token_ids(length, seed, vocab=97):
    return torch.randint(3, vocab, (length,), generator=generator(seed)).tolist()


@torch.no_grad()
def logits_of(model, ids):
    """Logits [T, V] of one sequence run alone, without a cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def mean_nll(logits, ids):
    """Mean negative log-likelihood of ids[1:] under logits[:-1], natural logarithm."""
    rows = torch.log_softmax(logits[:-1].double(), -1)
    return float(-rows[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean())


@torch.no_grad()
def greedy(model, prompt, count):
    """Greedy continuation through the key-value cache, and the smallest gap between the two best logits on the way."""
    ids, cache, out, margin = torch.tensor([prompt]), None, [], float("inf")
    for _ in range(count):
        step = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        best = step.logits[0, -1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        out.append(int(best.indices[0]))
        ids = best.indices[:1].view(1, 1)
    return out, margin


def decaying(rows, columns, fall, seed):
    """A matrix with singular values fall^0, fall^1, ..."""
    gen = generator(seed)
    k = min(rows, columns)
    u = torch.linalg.qr(normal((rows, k), gen).double()).Q
    v = torch.linalg.qr(normal((columns, k), gen).double()).Q
    return ((u * fall ** torch.arange(k, dtype=torch.float64)) @ v.mT).float()
