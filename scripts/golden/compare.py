"""Compares logits of ours with those of a PyTorch model: shared by the two checkers."""
import json

import torch

from common import logits_of

LIMIT = 1e-5


def read_rows(path, key):
    """A JSON file of rows, or a reference.json, whose sequences hold the rows under `key`."""
    with open(path) as file:
        value = json.load(file)
    return [row[key] for row in value["sequences"]] if isinstance(value, dict) else value


def compare(model, ids_path, logits_path, limit=LIMIT):
    """Prints the largest difference as a share of the range of the reference logits; returns the exit code."""
    ids, ours = read_rows(ids_path, "ids"), read_rows(logits_path, "logits")
    if len(ids) != len(ours):
        raise SystemExit(f"compare: one table of logits per sequence; got {len(ours)}, expected {len(ids)}")
    worst = 0.0
    for index, (row, logits) in enumerate(zip(ids, ours)):
        expected = logits_of(model, row)[-len(row):]  # without those of virtual tokens
        logits = torch.tensor(logits, dtype=torch.float64)
        if logits.shape != expected.shape:
            raise SystemExit(f"compare: sequence {index}: wrong shape; got {list(logits.shape)}, expected {list(expected.shape)}")
        difference = float((logits - expected.double()).abs().max())
        share = difference / float(expected.max() - expected.min())
        share = share if share == share else float("inf")
        print(f"sequence {index}: {len(row)} tokens, max abs difference {difference:.3e}, {share:.3e} of the range")
        worst = max(worst, share)
    print(f"worst {worst:.3e}, limit {limit:.0e}: {'ok' if worst <= limit else 'TOO LARGE'}")
    return 0 if worst <= limit else 1
