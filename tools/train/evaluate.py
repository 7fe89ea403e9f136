"""Figures for a checkpoint: owns every number in the model card.

Scores are exact pseudo-log-likelihoods: one copy of the text per token with that
token masked, the head run only at the masked position. Weights are rounded to fp16
first, as exported. Texts are never padded; equal lengths share a batch.

This is the quick look during training, on the CPU or the GPU that trains; what is published about a model
is measured by tamis itself (`make model-card`).

usage: evaluate.py CORPUS_DIR DATA_DIR CHECKPOINT EVAL_DIR OUT.json [--blimp-pairs N] [--device cuda] ...
"""
import argparse
import json
import math
import os
import random
import tarfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model import MASK, MaskedLM, Shape
from prepare import group_of, join_paragraphs, read_documents
from train import DevSet

SEED = 2
WINDOW = 128
POSITIONS_PER_FORWARD = 4096
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def load_model(checkpoint, fp16=True):
    """The model of a train.py checkpoint, its matrices rounded to fp16 as export.py stores them."""
    saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
    model = MaskedLM(Shape(**saved.get("shape", {}))).eval()
    model.load_state_dict(saved["model"])
    if fp16:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.data.half().float()
    return model


@torch.no_grad()
def token_losses(model, sequences, stride=1):
    """Nats of every content token of each id sequence ([CLS] ... [SEP]).

    stride 1 is the exact score (one masked token per copy); a larger stride masks
    every stride-th token in one copy, which needs 1/length * stride of the work.
    """
    losses = [np.zeros(len(s) - 2) for s in sequences]
    device = model.words.weight.device
    positions = POSITIONS_PER_FORWARD * (64 if device.type == "cuda" else 1)
    jobs = defaultdict(list)  # length -> (sequence, masked positions)
    for index, sequence in enumerate(sequences):
        content = len(sequence) - 2
        step = min(stride, content) if stride > 1 else content
        for first in range(step):
            jobs[len(sequence)].append((index, np.arange(1 + first, 1 + content, step)))
    for length, copies in jobs.items():
        per_forward = max(1, positions // length)
        for start in range(0, len(copies), per_forward):
            chunk = copies[start : start + per_forward]
            ids = torch.tensor([sequences[index] for index, _ in chunk])
            rows = np.concatenate([np.full(len(at), row) for row, (_, at) in enumerate(chunk)])
            columns = np.concatenate([at for _, at in chunk])
            targets = ids[rows, columns]
            ids[rows, columns] = MASK
            logits = model.head(model.encode(ids.to(device))[rows, columns])
            nats = F.cross_entropy(logits, targets.to(device), reduction="none").cpu().numpy()
            done = 0
            for index, at in chunk:
                losses[index][at - 1] = nats[done : done + len(at)]
                done += len(at)
    return losses


def archive_lines(eval_dir, archive, wanted):
    """(member name, text) of the files of a .tar.xz whose name satisfies `wanted`."""
    with tarfile.open(eval_dir / f"{archive}.tar.xz") as tar:
        for member in tar:
            if member.isfile() and wanted(member.name):
                yield member.name, tar.extractfile(member).read().decode("utf-8")


def shuffle_words(text, rng):
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def noise_characters(text, rng, rate=0.10):
    """Replaces `rate` of the characters by random lower-case letters, digits or signs."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789.,;:'!?-"
    return "".join(rng.choice(alphabet) if rng.random() < rate else c for c in text)


def auroc(clean, bad):
    """Chance that a bad text scores above (less likely than) a clean one."""
    values = np.concatenate([clean, bad])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share their mean rank
    n, m = len(clean), len(bad)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def percentiles(values):
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES))}


def sentence_figures(model, tokenizer, sentences, rng):
    """EWT sentences, clean and damaged: mean score, bits per byte, AUROC per token and per byte."""
    variants = {
        "clean": sentences,
        "shuffled": [shuffle_words(s, rng) for s in sentences],
        "noised": [noise_characters(s, rng) for s in sentences],
    }
    per_token, per_byte, out = {}, {}, {}
    for name, texts in variants.items():
        losses = token_losses(model, [tokenizer.encode(t).ids for t in texts])
        sizes = np.array([len(t.encode("utf-8")) for t in texts])
        total = np.array([l.sum() for l in losses])
        tokens = np.array([len(l) for l in losses])
        per_token[name], per_byte[name] = total / tokens, total / sizes
        out[name] = {
            "nats_per_token": round(float(total.sum() / tokens.sum()), 4),
            "bits_per_byte": round(float(total.sum() / math.log(2) / sizes.sum()), 4),
            "sentence_nats_per_token": percentiles(per_token[name]),
        }
    for name in ("shuffled", "noised"):
        out[name]["auroc_per_token"] = round(auroc(per_token["clean"], per_token[name]), 4)
        out[name]["auroc_per_byte"] = round(auroc(per_byte["clean"], per_byte[name]), 4)
    return out


def blimp_figures(model, tokenizer, eval_dir, pairs_per_subset, rng):
    """Accuracy by summed score, per subset and averaged over subsets."""
    subsets = {}
    for name, text in archive_lines(eval_dir, "blimp-shared20", lambda n: n.endswith(".jsonl")):
        pairs = [json.loads(line) for line in text.splitlines()]
        pairs = rng.sample(pairs, min(pairs_per_subset, len(pairs)))
        ids = [tokenizer.encode(p[key]).ids for p in pairs for key in ("sentence_good", "sentence_bad")]
        scores = np.array([l.sum() for l in token_losses(model, ids)])
        subsets[Path(name).stem] = round(float((scores[0::2] < scores[1::2]).mean()), 3)
    return {"pairs_per_subset": pairs_per_subset, "mean": round(float(np.mean(list(subsets.values()))), 4), "subsets": subsets}


def windows_of(tokenizer, texts, count, rng):
    """At most `count` full windows of 128 content tokens, at most two from one text."""
    windows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        starts = list(range(0, len(ids) - WINDOW + 1, WINDOW))
        windows += [[1, *ids[s : s + WINDOW], 2] for s in rng.sample(starts, min(2, len(starts)))]
    return rng.sample(windows, min(count, len(windows)))


def window_figures(model, tokenizer, sources, count, rng):
    """Mean nats per token of 128-token windows: clean sources, and damaged copies of the first one."""
    first = next(iter(sources))
    texts = dict(sources)
    texts[f"{first}, words shuffled"] = [shuffle_words(t, rng) for t in sources[first]]
    texts[f"{first}, 10% character noise"] = [noise_characters(t, rng) for t in sources[first]]
    texts["random letters"] = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz     ") for _ in range(900)) for _ in range(count)]
    out = {}
    for name, documents in texts.items():
        windows = windows_of(tokenizer, documents, count, rng)
        losses = token_losses(model, windows)
        exact = np.array([l.mean() for l in losses])
        # In byte-level BPE each character of a piece stands for one byte.
        sizes = np.array([sum(len(tokenizer.id_to_token(i)) for i in w[1:-1]) for w in windows])
        strided = np.array([l.mean() for l in token_losses(model, windows, stride=8)])
        out[name] = {
            "windows": len(windows),
            "mean": round(float(exact.mean()), 3),
            "exact": percentiles(exact),
            "bits_per_byte": percentiles(np.array([l.sum() for l in losses]) / math.log(2) / sizes),
            "every_8th_masked": percentiles(strided),
        }
        print(name, out[name]["exact"], flush=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus_dir", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("eval_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--blimp-pairs", type=int, default=100)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    started = time.time()
    torch.set_num_threads(2)
    rng = random.Random(SEED)
    tokenizer = Tokenizer.from_file(str(args.data_dir / "tokenizer.json"))
    model = load_model(args.checkpoint).to(args.device)
    figures = {}

    def record(name, value):
        figures[name] = value
        figures["seconds"] = round(time.time() - started)
        args.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{figures['seconds']}s {name} {json.dumps(value)[:400]}", flush=True)

    record("dev_loss", round(DevSet(args.data_dir, model.shape.vocab, device=args.device).loss(model), 4))

    ewt = [json.loads(l) for _, t in archive_lines(args.eval_dir, "ewt-dev", lambda n: n.endswith(".jsonl")) for l in t.splitlines()]
    sentences = [r["text"] for r in ewt if 6 <= len(r["text"].split()) <= 40]
    record("ewt", sentence_figures(model, tokenizer, rng.sample(sentences, min(args.sentences, len(sentences))), rng))

    ewt_documents = defaultdict(list)
    for r in ewt:
        ewt_documents[r["id"].rsplit("-", 1)[0]].append(r["text"])
    news = [json.loads(t) for _, t in archive_lines(args.eval_dir, "fast-detect-half", lambda n: n.endswith("xsum_gpt-4.raw_data.json"))]
    held_out = defaultdict(list)
    held_out_shard = args.corpus_dir / "dev.jsonl.zst"  # absent where only packed tokens were carried
    for text, source in read_documents(held_out_shard) if held_out_shard.exists() else []:
        held_out[group_of(source)].append(join_paragraphs(text, rng))
    sources = {
        "held-out modern prose": held_out["modern"],
        "news (XSum)": news[0]["original"] if news else [],
        "web (EWT)": [" ".join(s) for s in ewt_documents.values()],
        "held-out books": held_out["books"],
    }
    record("windows", window_figures(model, tokenizer, {k: v for k, v in sources.items() if v}, args.windows, rng))
    record("blimp", blimp_figures(model, tokenizer, args.eval_dir, args.blimp_pairs, rng))


if __name__ == "__main__":
    main()
