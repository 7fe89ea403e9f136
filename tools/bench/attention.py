"""Fused attention against plain, on the CPU or any other provider: the two graphs that tamis would run, in ONNX Runtime, in turn.

    python tools/bench/attention.py MODEL_DIR [--tokens 128 512] [--budget 2048] [--threads 1] [--rounds 5] [--seconds 10] [--build target/release]

Both graphs have the hoisted head and one scored position a row; they differ in attention only (examples/rewrite). Batches of --budget tokens, one row
in four padded by a quarter. A second is one of processor time, all threads together, because that hardly changes with the neighbours' work. Also says how far the
scores lie apart. Needs numpy and onnxruntime; the example must be built.
"""

import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime


def session(path, folder, threads, provider):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=[provider])


def feed(made, tokens, budget):
    rows = max(budget // tokens, 1)
    ids = np.random.default_rng(1).integers(5, 300, (rows, tokens), dtype=np.int64)
    attention = np.ones_like(ids)
    attention[::4, tokens - tokens // 4:] = 0 if rows > 1 else 1
    known = {"input_ids": ids, "attention_mask": attention, "token_type_ids": np.zeros_like(ids),
             "mask_index": np.array([[row, 1] for row in range(rows)]), "target_ids": np.full(rows, 7, dtype=np.int64)}
    return {value.name: known[value.name] for value in made.get_inputs()}, rows * tokens


def pace(made, fed, tokens, seconds):
    start, spent, runs = time.monotonic(), time.process_time(), 0
    while time.monotonic() - start < seconds:
        made.run(None, fed)
        runs += 1
    return runs * tokens / (time.process_time() - spent)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--build", default="target/release")
    parser.add_argument("--provider", default="CPUExecutionProvider")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for kind, more in (("plain", []), ("fused", ["fused"])):
            path = pathlib.Path(folder) / f"{kind}.onnx"
            subprocess.run([f"{args.build}/examples/rewrite", str(args.model / "model.onnx"), str(path), *more], check=True)
            made[kind] = session(path, args.model, args.threads, args.provider)
            path.unlink()
        for tokens in args.tokens:
            fed, count = feed(made["plain"], tokens, args.budget)
            one, two = (made[kind].run(["logprob"], fed)[0] for kind in made)
            paces = {kind: [] for kind in made}
            for _ in range(args.rounds):
                for kind in made:
                    paces[kind].append(pace(made[kind], fed, count, args.seconds))
            ratios = [fused / plain for plain, fused in zip(paces["plain"], paces["fused"])]
            told = ", ".join(f"{kind} {statistics.median(each):.0f}" for kind, each in paces.items())
            print(f"{tokens} tokens: row tokens a second of processor time: {told}; fused / plain {statistics.median(ratios):.3f} "
                  f"({min(ratios):.3f} to {max(ratios):.3f}); scores {np.abs(one - two).max():.1e} nats apart", flush=True)


if __name__ == "__main__":
    main()
