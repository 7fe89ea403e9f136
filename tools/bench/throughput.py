"""tamis against the ceiling: the same graph in ONNX Runtime alone, on batches that are full and never padded.

    python tools/bench/throughput.py MODEL_DIR [--threads 2] [--rounds 3] [--seconds 5] [--build target/release]

In turn, and the median of the rounds: tamis (examples/head, through its queue and its batches) with the hoisted head and with full
logits, and ONNX Runtime from Python on the rewritten graph (examples/rewrite) and on the file's own. Rows of 130 tokens, batches of
2,048 tokens. Row tokens count every row; scored targets are the content tokens that got a score. A second is one of processor time,
all threads together, because that hardly changes with the neighbours' work. With full logits the ceiling ends at the logits, while
tamis goes on to the targets' log-softmax. Needs numpy and onnxruntime; both examples must be built.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime

TOKENS, BUDGET, STRIDE = 130, 2048, 7


def raw(path, folder, threads, seconds, masking):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    rows = BUDGET // TOKENS
    ids = np.array([[5 + position * 7 % 300 for position in range(TOKENS)]] * rows, dtype=np.int64)
    scored = [1] if masking == "single" else range(1, TOKENS - 1, STRIDE)
    index = np.array([[row, position] for row in range(rows) for position in scored], dtype=np.int64)
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids),
             "mask_index": index, "target_ids": np.full(len(index), 5, dtype=np.int64)}
    feed = {value.name: known[value.name] for value in session.get_inputs()}
    session.run(None, feed)
    start, spent, runs = time.monotonic(), time.process_time(), 0
    while time.monotonic() - start < seconds:
        session.run(None, feed)
        runs += 1
    return runs * rows * TOKENS / (time.process_time() - spent)


def tamis(build, model, head, masking, threads, seconds):
    words = [f"{build}/examples/head", str(model), head, masking, str(threads), str(seconds)]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"(\d+) a second of processor time", out).group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--build", default="target/release")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rewritten = pathlib.Path(folder, "hoisted.onnx")
        subprocess.run([f"{args.build}/examples/rewrite", str(args.model / "model.onnx"), str(rewritten)], check=True)
        for masking, scored in (("single", 1), ("strided", (TOKENS - 2) / STRIDE)):
            runs = {name: [] for name in ("tamis hoisted", "ceiling hoisted", "tamis full", "ceiling full")}
            for _ in range(args.rounds):
                for name, found in runs.items():
                    who, head = name.split()
                    path = rewritten if head == "hoisted" else args.model / "model.onnx"
                    found.append(tamis(args.build, args.model, head, masking, args.threads, args.seconds) if who == "tamis"
                                 else raw(path, args.model.resolve(), args.threads, args.seconds, masking))
            middle = {name: statistics.median(found) for name, found in runs.items()}
            for name, speed in middle.items():
                ceiling = middle["ceiling " + name.split()[1]]
                print(f"{masking} {name}: {speed:.0f} row tokens and {speed / TOKENS * scored:.1f} scored targets a "
                      f"processor second, {speed / ceiling:.2f} of the ceiling; rounds {[round(s) for s in runs[name]]}")


if __name__ == "__main__":
    main()
