"""Training: owns batches, schedule, checkpoints and the loss curve.

The schedule is warm-up, stable, linear decay, all counted in steps, so a run is
reproducible by its numbers. `touch RUN_DIR/STOP` ends the stable phase at the next
step (the actual numbers are in run.json); kill and restart with the same arguments
to resume from the last checkpoint.

Writes into RUN_DIR: checkpoint.pt (latest, resumable), curve.csv, run.json, and
DONE when the decay has finished.

usage: train.py DATA_DIR RUN_DIR --stable-steps N --decay-steps N --long-from N
"""
import argparse
import csv
import json
import os
import time
from pathlib import Path

# Both must be set before torch loads. Some virtual machines announce AMX and then trap on it, so
# stop at AVX-512 bf16; and idle threads sleep instead of spinning, for machines shared with others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import numpy as np
import torch
import torch.nn.functional as F

from model import CLS, SEP, MaskedLM, Shape, mask_tokens

SEED = 1
TOKENS_PER_STEP = 2600
MODERN_SHARE = 0.6
# Batch kinds. A batch never pads: every row of it has the same length.
WINDOW = 128  # content tokens of the usual window: the daemon's default
LONG_WINDOW = 510  # fills all 512 positions
P_SENTENCE = 0.33  # single sentences of one length
P_FRAGMENT = 0.05  # windows of a random shorter length: the tail ends of documents
P_LONG = 0.10  # only from --long-from on
PEAK_LR = 1e-3
WARMUP_STEPS = 300
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
CLIP = 1.0
DEV_WINDOWS = 200
REPORT_SECONDS = 60
CHECKPOINT_SECONDS = 180


class Stream:
    """A packed token stream with item boundaries, as written by prepare.py."""

    def __init__(self, stem):
        self.tokens = np.fromfile(f"{stem}.u16", dtype=np.uint16)
        self.offsets = np.fromfile(f"{stem}.off", dtype=np.int64)
        self.lengths = np.diff(self.offsets)

    def rows(self, starts, length):
        """[CLS] tokens[start : start + length] [SEP] for each start."""
        out = np.empty((len(starts), length + 2), np.int64)
        out[:, 0], out[:, -1] = CLS, SEP
        out[:, 1:-1] = self.tokens[np.asarray(starts)[:, None] + np.arange(length)]
        return out

    def window_starts(self, length):
        """Starts of consecutive windows inside each document; the last one ends with the document."""
        starts = []
        for begin, end in zip(self.offsets[:-1], self.offsets[1:]):
            if end - begin >= length:
                starts.append(np.append(np.arange(begin, end - length, length), end - length))
        return np.concatenate(starts)


class Shuffled:
    """Deals indices of a fixed list in random order, reshuffling when it runs out."""

    def __init__(self, items, rng):
        self.items, self.rng = items, rng
        self.order, self.next = rng.permutation(len(items)), 0

    def take(self, count):
        if self.next + count > len(self.items):
            self.order, self.next = self.rng.permutation(len(self.items)), 0
        picked = self.items[self.order[self.next : self.next + count]]
        self.next += count
        return picked


class Batches:
    """Draws batches; its whole state is `rng` and the decks, saved with each checkpoint."""

    def __init__(self, data_dir, rng):
        self.rng = rng
        self.documents = {g: Stream(data_dir / g) for g in ("modern", "books")}
        self.sentences = {g: Stream(data_dir / f"sents_{g}") for g in ("modern", "books")}
        self.decks = {
            (group, length): Shuffled(stream.window_starts(length), rng)
            for group, stream in self.documents.items()
            for length in (WINDOW, LONG_WINDOW)
        }
        # Sentence lengths are drawn by the tokens they hold, so each sentence is equally likely.
        self.by_length = {}
        for group, stream in self.sentences.items():
            table = {n: np.flatnonzero(stream.lengths == n) for n in np.unique(stream.lengths)}
            weights = np.array([n * len(ids) for n, ids in table.items()], float)
            self.by_length[group] = (table, np.array(list(table)), weights / weights.sum())

    def draw(self, long_windows):
        """One batch [B, T] of about TOKENS_PER_STEP positions."""
        group = "modern" if self.rng.random() < MODERN_SHARE else "books"
        kind = self.rng.random()
        documents = self.documents[group]
        if kind < P_SENTENCE:
            table, lengths, weights = self.by_length[group]
            length = int(self.rng.choice(lengths, p=weights))
            picked = self.rng.choice(table[length], TOKENS_PER_STEP // (length + 2))
            return self.sentences[group].rows(self.sentences[group].offsets[picked], length)
        if kind < P_SENTENCE + P_FRAGMENT:
            length = int(self.rng.integers(16, WINDOW))
            starts = self.decks[group, WINDOW].take(TOKENS_PER_STEP // (length + 2))
            return documents.rows(starts + self.rng.integers(0, WINDOW - length + 1, len(starts)), length)
        length = LONG_WINDOW if long_windows and kind >= 1 - P_LONG else WINDOW
        return documents.rows(self.decks[group, length].take(TOKENS_PER_STEP // (length + 2)), length)

    def state(self):
        decks = {key: (deck.order, deck.next) for key, deck in self.decks.items()}
        return {"rng": self.rng.bit_generator.state, "decks": decks}

    def restore(self, state):
        self.rng.bit_generator.state = state["rng"]
        for key, (order, position) in state["decks"].items():
            self.decks[key].order, self.decks[key].next = order, position


def learning_rate(step, decay_start, decay_steps):
    """Rate for 0-based `step`; decay_start is None while the run is still stable."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    left = 1.0 if decay_start is None else max(0.0, 1 - (step - decay_start + 0.5) / decay_steps)
    return PEAK_LR * warm * left


def make_optimizer(model):
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=BETAS, eps=1e-6, fused=True)


def masked_loss(model, corrupted, original, target):
    """Mean cross-entropy at the target positions; the head runs only there."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.head(model.encode(corrupted)[target])
    return F.cross_entropy(logits.float(), original[target])


class DevSet:
    """Fixed windows of the held-out documents, masked once with a fixed seed."""

    def __init__(self, data_dir, vocab):
        stream = Stream(data_dir / "dev")
        starts = np.random.default_rng(SEED).permutation(stream.window_starts(WINDOW))[:DEV_WINDOWS]
        self.ids = torch.from_numpy(stream.rows(starts, WINDOW))
        self.corrupted, self.target = mask_tokens(self.ids, vocab, torch.Generator().manual_seed(7))

    @torch.no_grad()
    def loss(self, model):
        return masked_loss(model, self.corrupted, self.ids, self.target).item()


def save_atomically(value, path):
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--stable-steps", type=int, required=True, help="warm-up included; a STOP file ends it sooner")
    parser.add_argument("--decay-steps", type=int, required=True)
    parser.add_argument("--long-from", type=int, required=True, help="first step with 512-position batches")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.run_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)

    shape = Shape()
    model = MaskedLM(shape)
    optimizer = make_optimizer(model)
    batches = Batches(args.data_dir, np.random.default_rng(SEED))
    dev = DevSet(args.data_dir, shape.vocab)
    run = {"step": 0, "tokens": 0, "seconds": 0.0, "train": None, "decay_start": None}

    checkpoint = args.run_dir / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        batches.restore(saved["batches"])
        torch.set_rng_state(saved["torch_rng"])
        run = saved["run"]
    run["long_from"] = args.long_from
    # The decay's length may be changed on resuming (a shared machine's speed changes): keep a record.
    run.setdefault("decay_plan", []).append([run["step"], args.decay_steps])

    seconds_before, started = run["seconds"], time.time()

    def save():
        run["seconds"] = seconds_before + time.time() - started
        save_atomically(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "batches": batches.state(),
                "torch_rng": torch.get_rng_state(),
                "run": run,
            },
            checkpoint,
        )
        stable = run["step"] if run["decay_start"] is None else run["decay_start"]
        summary = dict(run, stable_steps=stable, decayed_steps=run["step"] - stable)
        (args.run_dir / "run.json").write_text(json.dumps(summary, indent=1) + "\n")

    curve_path = args.run_dir / "curve.csv"
    with open(curve_path, "a", newline="") as curve_file:
        curve = csv.writer(curve_file)
        if curve_path.stat().st_size == 0:
            curve.writerow(["step", "tokens", "wall_s", "lr", "train", "dev"])

        def report(rate):
            seconds = seconds_before + time.time() - started
            row = [run["step"], run["tokens"], round(seconds), f"{rate:.6f}", f"{run['train']:.4f}", f"{dev.loss(model):.4f}"]
            curve.writerow(row)
            curve_file.flush()
            print(*row, flush=True)

        last_report = last_save = time.time()
        while True:
            step = run["step"]
            if run["decay_start"] is None and (step >= args.stable_steps or (args.run_dir / "STOP").exists()):
                run["decay_start"] = step
            if run["decay_start"] is not None and step >= run["decay_start"] + args.decay_steps:
                break
            rate = learning_rate(step, run["decay_start"], args.decay_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate

            ids = torch.from_numpy(batches.draw(long_windows=step >= args.long_from))
            corrupted, target = mask_tokens(ids, shape.vocab)
            loss = masked_loss(model, corrupted, ids, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=True)
            optimizer.step()

            run["step"] += 1
            run["tokens"] += ids.numel()
            value = loss.item()
            run["train"] = value if run["train"] is None else 0.98 * run["train"] + 0.02 * value
            if time.time() - last_report > REPORT_SECONDS or run["step"] in (20, 100):
                last_report = time.time()
                report(rate)
            if time.time() - last_save > CHECKPOINT_SECONDS:
                last_save = time.time()
                save()
        save()
        report(0.0)
    (args.run_dir / "DONE").touch()


if __name__ == "__main__":
    main()
