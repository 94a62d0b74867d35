"""Peer of bench/gemm.bench.ts: torch.nn.functional.linear on the same shapes. Prints one JSON line: a list of {shape, dtype, ms} with the median."""
import argparse
import json
import statistics
import time

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--shapes", required=True)
parser.add_argument("--dtype", required=True)
parser.add_argument("--threads", type=int, required=True)
options = parser.parse_args()
torch.set_num_threads(options.threads)
dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}

rows = []
with torch.no_grad():
    for name in options.dtype.split(","):
        for shape in options.shapes.split(","):
            m, n, k = map(int, shape.split("x"))
            x, w = torch.randn(m, k).to(dtypes[name]), torch.randn(n, k).to(dtypes[name])
            times = []
            start = time.perf_counter()
            while len(times) < 13 or time.perf_counter() - start < 0.4:
                before = time.perf_counter()
                torch.nn.functional.linear(x, w)
                times.append((time.perf_counter() - before) * 1e3)
            rows.append({"shape": shape, "dtype": name, "ms": statistics.median(times[3:])})
print(json.dumps(rows))
