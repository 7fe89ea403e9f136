"""Peak memory of `tamis score` over documents of growing length.

    python tools/bench/memory.py MODEL_DIR [--tamis target/release/tamis] [--masking strided] [--window 450] [--words 100 450 10000]

One process a length; the peak is the kernel's (ru_maxrss). Fails if it exceeds 2 x the model's files + 512 MiB, or if the head is
not hoisted.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

WORDS = "the work of the people was long and they had to find water".split()
PIPELINE = """
name = "memory"
[models.default]
path = "{model}"
device = "cpu"
head_check = "warn"
threads = {threads}
[signals.pll]
kind = "pll"
model = "default"
masking = "{masking}"
window_tokens = {window}
[cache]
enabled = false
path = "{folder}/cache"
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--tamis", default="target/release/tamis")
    parser.add_argument("--masking", default="strided")
    parser.add_argument("--window", type=int, default=450)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--words", type=int, nargs="+", default=[100, 450, 10_000])
    args = parser.parse_args()
    size = sum(file.stat().st_size for file in args.model.glob("model.onnx*"))
    bound, wrong = (2 * size >> 20) + 512, []
    print(f"model {size >> 20} MiB, bound {bound} MiB, {args.masking}, windows of {args.window}")
    for count in args.words:
        with tempfile.TemporaryDirectory() as folder:
            text = " ".join(WORDS[place % len(WORDS)] for place in range(count))
            pathlib.Path(folder, "in.jsonl").write_text(json.dumps({"id": "a", "text": text}) + "\n")
            known = dict(model=args.model.resolve(), masking=args.masking, window=args.window, folder=folder, threads=args.threads)
            pathlib.Path(folder, "p.toml").write_text(PIPELINE.format(**known))
            start = time.monotonic()
            words = [args.tamis, "score", f"{folder}/p.toml", "--input", f"{folder}/in.jsonl", "--log", "info"]
            child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            out = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, child.stderr.read()
            log = child.stderr.read()
            head = "hoisted" if "hoisted" in log else "full"
            signals, peak = json.loads(out)["signals"], usage.ru_maxrss >> 10
            print(f"{count} words, {signals['pll.tokens']} tokens: peak {peak} MiB, {time.monotonic() - start:.0f} s, {head}")
            wrong += [count] if peak > bound or head == "full" else []
    sys.exit(f"over the bound, or with full logits: {wrong}" if wrong else 0)


if __name__ == "__main__":
    main()
