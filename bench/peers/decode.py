"""Peer of bench/decode.bench.ts: llama-cpp-python on the same GGUF. Prints one JSON line {prefill, decode} in tokens a second."""
import argparse
import json
import statistics
import time

from llama_cpp import Llama

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
for name in ("prompt", "tokens", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
options = parser.parse_args()
model = Llama(options.model, n_ctx=options.prompt + options.tokens + 8, n_threads=options.threads, n_threads_batch=options.threads,
              n_batch=options.prompt, verbose=False)
prompt = [100 + (i * 7919) % (model.n_vocab() - 200) for i in range(options.prompt)]
prefill, decode = [], []
for _ in range(4):
    model.reset()
    start = time.perf_counter()
    model.eval(prompt)
    token = model.sample(temp=0)
    prefill.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(options.tokens):
        model.eval([token])
        token = model.sample(temp=0)
    decode.append(time.perf_counter() - start)
print(json.dumps({"prefill": options.prompt / statistics.median(prefill[1:]), "decode": options.tokens / statistics.median(decode[1:])}))
