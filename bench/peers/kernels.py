"""Peer of the suites of single kernels: the same work in PyTorch. Reads a JSON list of cases on standard input and prints one JSON line: [median,
fastest] milliseconds of each, null where there is no counterpart."""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def make(shape, dtype, grad=False, std=1.0):
    return (torch.randn(shape) * std).to(dtype).requires_grad_(grad)


def with_backward(forward, dy, leaves):
    def run():
        forward().backward(dy)
        for leaf in leaves:
            leaf.grad = None
    return run


def norm(case, dtype):
    x = make((case["rows"], case["width"]), dtype, case["backward"])
    weight = make((case["width"],), dtype, std=0.1)
    if case["op"] == "rmsNorm":
        forward = lambda: F.rms_norm(x, (case["width"],), weight, 1e-6)
    else:
        forward = lambda: F.layer_norm(x, (case["width"],), weight)
    return with_backward(forward, make(x.shape, dtype), [x]) if case["backward"] else forward


def swiglu(case, dtype):
    gate, up = (make((case["rows"], case["width"]), dtype, case["backward"]) for _ in range(2))
    forward = lambda: F.silu(gate) * up
    return with_backward(forward, make(gate.shape, dtype), [gate, up]) if case["backward"] else forward


def add(case, dtype):
    a, b = (make((case["rows"], case["width"]), dtype) for _ in range(2))
    return lambda: a + b


def attention(case, dtype):
    shape = lambda heads: (1, heads, case["length"], case["width"])
    q, k, v = (make(shape(case[heads]), dtype, case["backward"]) for heads in ("heads", "keyHeads", "keyHeads"))
    forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=case["heads"] != case["keyHeads"])
    return with_backward(forward, make(q.shape, dtype), [q, k, v]) if case["backward"] else forward


def low_rank(case, dtype):
    m, n, k, rank, backward = (case[key] for key in ("m", "n", "k", "rank", "backward"))
    x, w = make((m, k), dtype, backward), make((n, k), dtype, std=0.05)
    a, b = make((rank, k), torch.float32, backward, 0.05), make((n, rank), torch.float32, backward, 0.05)
    forward = lambda: F.linear(x, w) + (2 * F.linear(F.linear(x.float(), a), b)).to(dtype)
    return with_backward(forward, make((m, n), dtype), [x, a, b]) if backward else forward


def conv2d(case, dtype):
    x, weight = (make(tuple(map(int, case[key].split(","))), dtype, case["backward"]) for key in ("x", "weight"))
    forward = lambda: F.conv2d(x, weight, stride=case["stride"], padding="same" if case["same"] else 0, groups=case["groups"])
    return with_backward(forward, make(forward().shape, dtype), [x, weight]) if case["backward"] else forward


def cross_entropy(case, dtype):
    hidden = make((case["rows"], case["width"]), dtype, True)
    head = make((case["vocabulary"], case["width"]), dtype, std=0.05)
    targets = torch.randint(0, case["vocabulary"], (case["rows"],))
    return with_backward(lambda: F.cross_entropy(F.linear(hidden, head).float(), targets), None, [hidden])


def optimizer(case, _):
    parameters = [make((case["each"],), torch.float32, True, 0.1) for _ in range(case["count"])]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 0.01
    if case["kind"] == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-6, fused=True).step
    return torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, fused=True).step


def svd_lowrank(case, dtype):
    x = make((case["m"], case["n"]), dtype)
    return lambda: torch.svd_lowrank(x.float(), q=case["q"], niter=case["niter"])


def decomposition(case, dtype):
    root = make((case["count"], case["n"], case["n"]), dtype)
    x = root @ root.mT + case["n"] * torch.eye(case["n"])
    if case["op"] == "svd":
        return lambda: torch.linalg.svd(x, full_matrices=False)
    return lambda: (torch.linalg.eigh if case["op"] == "symmetricEigen" else torch.linalg.cholesky)(x)


OPS = {"rmsNorm": norm, "layerNorm": norm, "swiGlu": swiglu, "add": add, "attention": attention, "conv2d": conv2d, "lowRank": low_rank,
       "crossEntropy": cross_entropy, "optimizer": optimizer, "svdLowrank": svd_lowrank, "svd": decomposition, "symmetricEigen": decomposition,
       "cholesky": decomposition}


def milliseconds(run):
    for _ in range(2):
        run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 0.4:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return [statistics.median(times), min(times)]


parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, required=True)
torch.set_num_threads(parser.parse_args().threads)
torch.manual_seed(1)
print(json.dumps([milliseconds(OPS[case["op"]](case, DTYPES[case["dtype"]])) if case.get("op") in OPS else None for case in json.load(sys.stdin)]))
