"""Exact and strided scoring on one device: tamis against PyTorch, at equal scores, and against the device's own matrix products. One call.

    python tools/bench/gpu/gpu.py --tamis TAMIS [--library FOLDER] [--device cuda:0] [--precision fp16] [--out var/bench-gpu]
                                  [--models base,xlm,en] [--tokens 128,64,256,512] [--maskings single,strided] [--attentions auto,plain]
                                  [--minutes 25] [--quick]
    python tools/bench/gpu/gpu.py --plan FOLDER        only writes the graphs, for a machine that has no onnx package; give it as --planned there

It installs nothing. It takes a built tamis, the folder with libonnxruntime.so and its CUDA provider (docs/gpu.md says where it comes from), and runs by a Python with torch
and numpy; onnx too, unless --planned brings the graphs. Writes report.json and report.md. Fails if the scores don't agree. `--device cpu --precision
fp32 --quick` tries all of it on small models; its figures are about nothing.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import random
import re
import subprocess
import sys
import time

# Some virtual machines announce matrix tiles that a process may not use, and PyTorch would die of them.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

try:
    import numpy as np
    import shapes

    # Graphs are written without PyTorch.
    if not any(word.split("=")[0] == "--plan" for word in sys.argv):
        import daemon
        import naive
        import torch
except ImportError as error:
    sys.exit(f"gpu.py: {error}: run it by a Python that has torch and numpy (make bench-gpu PYTHON=…)")

ROOT = pathlib.Path(__file__).resolve().parents[3]
STRIDE = 7
# Nats a token that one document's score may differ from PyTorch's: in single precision, and in half, where both round.
SAME, SAME_HALF = 1e-3, 1e-2
AIMS = [
    ("row tokens/s of base, T = 128, single", 2e6, lambda one: one["row_tokens_per_second"], ("base", 128, "single")),
    ("of the measured matrix product, base, T = 128, single", 0.45, lambda one: one["of_ceiling"], ("base", 128, "single")),
    ("x PyTorch's targets/s, base, T = 128, single", 3.0, lambda one: one["times_naive"], ("base", 128, "single")),
    ("x PyTorch's targets/s, xlm, T = 128, single", 6.0, lambda one: one["times_naive"], ("xlm", 128, "single")),
]
IDLE_MOST = 0.02


def words(folder):
    """Words that are one token each, and their ids."""
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    known = {re.sub("^\u0120", "", piece): index for piece, index in vocab.items() if re.fullmatch("\u0120[a-z]{3,}|w[0-9]+", piece)}
    special = {name: vocab[name] for name in ("[CLS]", "[SEP]", "[MASK]")}
    return list(known.items()), special


def documents(folder, count, content, seed=3):
    """Texts of exactly so many tokens, and their rows of ids."""
    known, special = words(folder)
    draw = random.Random(seed)
    chosen = [draw.choices(known, k=content) for _ in range(count)]
    ids = [[special["[CLS]"], *(index for _, index in text), special["[SEP]"]] for text in chosen]
    return [" ".join(word for word, _ in text) for text in chosen], np.array(ids, dtype=np.int64), special["[MASK]"]


def flops(config, tokens, stride, row_tokens, targets):
    """What the passes need: the last layer after its attention, and the head, at the scored positions only."""
    hidden, layers, vocab = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    attention = 8 * hidden**2 + 4 * tokens * hidden
    a_token = (layers - 1) * (attention + 16 * hidden**2) + 6 * hidden**2 + 4 * tokens * hidden
    a_target = 2 * hidden**2 + 16 * hidden**2 + 2 * hidden**2 + 2 * hidden * vocab
    return a_token * row_tokens + a_target * targets


def versions(args):
    def said(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    cuda = args.device.startswith("cuda")
    library = args.library and next((file.name for file in sorted(args.library.glob("libonnxruntime.so*"), reverse=True)), "none found")
    model = [line for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(args.device) if cuda else "none",
        "driver": said("nvidia-smi", "--query-gpu=driver_version,memory.total,clocks.max.sm", "--format=csv,noheader") if cuda else "",
        "cpu": f"{model[0].split(':')[1].strip() if model else platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "tamis": said(args.tamis, "--version"),
        "onnxruntime": library or "tamis's own",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "command": " ".join(sys.argv),
    }


def ready(args):
    """The folders of the models that are asked for."""
    found = {}
    for name in args.models.split(","):
        folder = ROOT / "models" / "tamis-en" if name == "en" else (args.planned or args.out / "models") / name
        if name != "en":
            if not (folder / "plan.json").exists():
                shapes.plan(folder, **(shapes.QUICK if args.quick else shapes.SIZES)[name])
            shapes.fill(folder)
        found[name] = folder.resolve()
    return found


def library(args):
    """The file in the folder that tamis is to load."""
    if not args.library:
        return None
    files = sorted(args.library.glob("libonnxruntime.so*"))
    if not files:
        sys.exit(f"{args.library}: no libonnxruntime.so in it")
    return files[-1].resolve()


def one(args, name, folder, tokens, masking, attention, model, most, before):
    """Measures one model at one length with one attention; a row of the report. PyTorch is measured with the first attention, whose row is `before` for the others."""
    config, content = json.loads((folder / "config.json").read_text()), tokens - 2
    stride = None if masking == "single" else STRIDE
    a_document = tokens * (content if stride is None else STRIDE)
    count = max(24, math.ceil(args.guess * (args.seconds + 3) / a_document))
    texts, ids, mask_id = documents(folder, count, content)
    settings = dict(model=folder, device=json.dumps(args.device), attention=attention, threads=args.threads, budget=args.budget, masking=masking, content=content, passes=content if stride is None else STRIDE,
                    stride=f"stride = {STRIDE}" if stride else "",
                    more=f'precision = "{args.precision}"' if args.precision != "fp32" else "")
    place = args.out / "runs" / f"{name}-{tokens}-{masking}-{attention}"
    subprocess.run(["rm", "-rf", str(place)], check=True)
    found, ours = daemon.measure(args.tamis, library(args), place, texts, settings, args.seconds, 120)
    some = sorted(ours)[:args.compared]
    theirs = naive.scores(model, ids[some], stride, mask_id, args.budgets[0]) if some else []
    apart = max((abs(ours[number] - score) for number, score in zip(some, theirs)), default=None)
    if before is None:
        row_tokens, targets, batch = naive.pace(model, ids[:64], stride, mask_id, args.budgets, args.seconds / 2, args.device)
    else:
        row_tokens, targets, batch = (before[key] for key in ("naive_row_tokens", "naive_targets", "naive_batch"))
    times_first = None if before is None else found["row_tokens_per_second"] / before["row_tokens_per_second"]
    reached = flops(config, tokens, stride, found["row_tokens_per_second"], found["targets_per_second"])
    return dict(found, model=name, tokens=tokens, masking=masking, attention=attention, times_first=times_first, flops=reached, of_ceiling=reached / most, naive_row_tokens=row_tokens,
                naive_targets=targets, naive_batch=batch, times_naive=found["targets_per_second"] / targets, nats_apart=apart, compared=len(some))


def page(report):
    """The report for people."""
    lines = [f"* {key}: {value}" for key, value in report["versions"].items() if value]
    lines += [f"* {key}: {report[key]}" for key in ("device", "precision", "budget_tokens")]
    lines += [f"* matrix product: {report['ceiling'] / 1e12:.3g} TFLOP/s", "",
              "| model | T | masking | attention (fused) | x the first | row tokens/s | targets/s | TFLOP/s | of the product | idle | PyTorch targets/s (batch) | x PyTorch | nats a token apart |",
              "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        apart = "none delivered" if row["nats_apart"] is None else f"{row['nats_apart']:.1e} ({row['compared']} documents)"
        first = "" if row["times_first"] is None else f"{row['times_first']:.2f}"
        lines.append(f"| {row['model']} | {row['tokens']} | {row['masking']} | {row['attention']} ({row['fused_attentions']}) | {first} | {row['row_tokens_per_second']:,.0f} | {row['targets_per_second']:,.0f} | "
                     f"{row['flops'] / 1e12:.3g} | {row['of_ceiling']:.2f} | {100 * row['idle']:.1f} % | {row['naive_targets']:,.0f} ({row['naive_batch']}) | "
                     f"{row['times_naive']:.2f} | {apart} |")
    lines += ["", "| aim | wanted | reached | |", "|---|---|---|---|"]
    lines += [f"| {aim['what']} | {aim['wanted']:,g} | {aim['reached']} | {aim['verdict']} |" for aim in report["aims"]]
    why = sorted({row["why_plain"] for row in report["rows"] if row["why_plain"]})
    lines += [""] + [f"* {what}" for what in why] + [f"* not run: {what}" for what in report["left_out"]]
    return "\n".join(lines) + "\n"


def aims(rows, counts):
    """What was aimed at, and what came of it. Aims are for full sizes on a large GPU."""
    found = []
    for what, wanted, reach, key in AIMS:
        row = next((row for row in rows if (row["model"], row["tokens"], row["masking"]) == key), None)
        reached = reach(row) if row else None
        verdict = "not run" if row is None else "does not count here" if not counts else "met" if reached >= wanted else "missed"
        found.append(dict(what=what, wanted=wanted, reached="" if row is None else f"{reached:,.4g}", verdict=verdict))
    worst = max((row["idle"] for row in rows), default=None)
    verdict = "not run" if worst is None else "does not count here" if not counts else "met" if worst <= IDLE_MOST else "missed"
    found.append(dict(what="idle share with a backlog, at most", wanted=IDLE_MOST, reached="" if worst is None else f"{worst:.4f}", verdict=verdict))
    return found


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("tamis", "target/release/tamis"), ("device", "cuda:0"), ("precision", ""), ("models", "base,xlm,en"),
                          ("tokens", ""), ("maskings", "single,strided"), ("attentions", "")):
        parser.add_argument(f"--{name}", default=default)
    for name, default in (("library", None), ("planned", None), ("plan", None), ("out", "var/bench-gpu")):
        parser.add_argument(f"--{name}", type=pathlib.Path, default=default)
    for name, default in (("budget", 0), ("threads", 0), ("compared", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("minutes", 25.0), ("seconds", 0.0), ("guess", 0.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.plan:
        for name, size in (shapes.QUICK if args.quick else shapes.SIZES).items():
            shapes.plan(args.plan / name, **size)
        return
    cuda = args.device.startswith("cuda")
    args.precision = args.precision or ("fp16" if cuda else "fp32")
    # Row tokens a second that the input is made for, at least; tokens of a batch; and what PyTorch may choose from.
    args.guess = args.guess or (4e6 if cuda else 3e4)
    args.budget = args.budget or (32_768 if cuda else 2_048)
    args.budgets = [8_192, 32_768, 131_072] if cuda else [2_048, 8_192]
    args.seconds = args.seconds or (2.0 if args.quick else 8.0)
    args.attentions = (args.attentions or ("auto,plain" if cuda else "auto,fused")).split(",")
    args.tokens = args.tokens or ("128,64" if args.quick else "128,64,256,512")
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[args.precision]
    start = time.monotonic()
    report = dict(versions=versions(args), device=args.device, precision=args.precision, budget_tokens=args.budget, rows=[], left_out=[],
                  ceiling=naive.ceiling(args.device, dtype, not cuda))
    wrong = []
    for name, folder in ready(args).items():
        config = json.loads((folder / "config.json").read_text())
        model = naive.Naive(shapes.weights(folder), config["num_attention_heads"], config["layer_norm_eps"], args.device, dtype)
        for tokens in map(int, args.tokens.split(",")):
            for masking, attention in ((masking, attention) for masking in args.maskings.split(",") for attention in args.attentions):
                what = f"{name}, T = {tokens}, {masking}, {attention}"
                if time.monotonic() - start > 60 * args.minutes:
                    report["left_out"].append(f"{what}: the {args.minutes:g} minutes were over")
                    continue
                key = (name, tokens, masking)
                before = next((row for row in report["rows"] if (row["model"], row["tokens"], row["masking"]) == key), None)
                try:
                    row = one(args, name, folder, tokens, masking, attention, model, report["ceiling"], before)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    # The others are worth their figures all the same.
                    print(f"{what}: {error}", flush=True)
                    report["left_out"].append(f"{what}: {str(error).splitlines()[0]}")
                    wrong.append(what)
                    continue
                report["rows"].append(row)
                print(f"{what} ({row['fused_attentions']} fused): {row['row_tokens_per_second']:,.0f} row tokens/s, {row['times_naive']:.2f} x PyTorch, "
                      f"idle {100 * row['idle']:.1f} %, apart {row['nats_apart']}", flush=True)
                if row["nats_apart"] is None or row["nats_apart"] > (SAME if dtype == torch.float32 else SAME_HALF):
                    wrong.append(what)
                report["aims"] = aims(report["rows"], cuda and not args.quick)
                (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
                (args.out / "report.md").write_text(page(report))
        del model
        if cuda:
            torch.cuda.empty_cache()
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "report.md").write_text(page(report))
    print((args.out / "report.md").read_text())
    sys.exit(f"scores differ or are missing: {'; '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
