"""Peer of bench/decode.bench.ts: llama-cpp-python on the same GGUF, with and without flash attention. Prints one JSON line with the best of
both: {prefill, decode} in tokens a second, and the instruction sets it was built for. Tokens go through the C functions, so that no Python
sampling is in the figures."""
import argparse
import json
import statistics
import time

import llama_cpp
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
for name in ("prompt", "tokens", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
options = parser.parse_args()


def measured(flash_attention):
    model = llama_cpp.Llama(options.model, n_ctx=options.prompt + options.tokens + 8, n_threads=options.threads,
                            n_threads_batch=options.threads, n_batch=options.prompt, n_ubatch=options.prompt,
                            flash_attn=flash_attention, verbose=False)
    context, vocabulary = model.ctx, model.n_vocab()
    prompt = [100 + (i * 7919) % (vocabulary - 200) for i in range(options.prompt)]

    def next_token(ids):
        array = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(ids))) != 0:
            raise RuntimeError("llama_decode failed")
        return int(numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (vocabulary,)).argmax())

    prefill, decode = [], []
    for _ in range(4):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        token = next_token(prompt)
        prefill.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(options.tokens):
            token = next_token([token])
        decode.append(time.perf_counter() - start)
    return options.prompt / statistics.median(prefill[1:]), options.tokens / statistics.median(decode[1:])


speeds = [measured(flash) for flash in (False, True)]
print(json.dumps({"prefill": max(s[0] for s in speeds), "decode": max(s[1] for s in speeds),
                  "built": llama_cpp.llama_print_system_info().decode()}))
