"""Training: owns batches, schedule, checkpoints and the loss curve. One file for a CPU and for a GPU.

The schedule is warm-up, stable, linear decay, all counted in steps, so a run is
reproducible by its numbers. The masking rate stands at its high value until the decay, and
falls with the learning rate to its low one. A run goes in legs: each resumes from the last
checkpoint with the same arguments, and ends by its own limit of seconds, by a signal, or done.

Three ways to the decay: `--stable-steps N` (repeating a run), `touch RUN_DIR/STOP` (looking on),
`--decay-within SECONDS` (a leg that must end in time: the decay begins at once and gets
as many steps as the run's measured pace allows). run.json records what happened.

Writes into RUN_DIR: checkpoint.pt (latest, exact), curve.csv and curve.svg, run.json, DONE
when the decay has finished, and with --portable a directory of small pieces that hold the
run for another machine (weights as they are, moments in bf16: near, not the same bits).

A run may begin with the weights of a model that export.py wrote (`--start MODEL.ONNX`): the optimizer
begins anew, and the shape is that of the model.

usage: train.py DATA_DIR RUN_DIR --preset cpu|gpu --stable-steps N --decay-steps N [--seconds S] ...
"""
import argparse
import csv
import dataclasses
import hashlib
import io
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

# Both must be set before torch loads. Some virtual machines announce AMX and then trap on it, so
# stop at AVX-512 bf16; and idle threads sleep instead of spinning, for machines shared with others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from curve import write_svg
from model import CLS, SEP, SHAPES, UNK, MaskedLM, mask_tokens

SEED = 1
# Batch kinds. A batch never pads: every row of it has the same length.
WINDOW = 128  # content tokens of the usual window: the daemon's default
LONG_WINDOW = 510  # fills all 512 positions
SENTENCE_TOKENS = (6, 64)  # shortest and longest sentence trained on alone
P_SENTENCE = 0.33  # single sentences of one length
P_FRAGMENT = 0.05  # windows of a random shorter length: the tail ends of documents
P_LONG = 0.10  # only from --long-from on
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
CLIP = 1.0
DEV_WINDOWS = 200
# Curly quotes are three bytes in UTF-8, each of which a byte-level piece shows as a character of its own.
CURLY = {"âĢľ": "“", "âĢĿ": "”", "âĢĺ": "‘", "âĢĻ": "’"}
CHUNK_BYTES = 15_000_000  # of a portable piece


@dataclass
class Settings:
    """What may differ between runs. Recorded in the checkpoint; `--set KEY=VALUE` changes one for a new run."""

    shape: str = "small"
    tokens_per_batch: int = 2600  # positions of one batch: one length, one kind, one source group
    batches_per_step: int = 1  # their gradients are summed, so that a large step sees several kinds
    modern_share: float = 0.6  # of the batches; the corpus itself has fewer modern tokens than older ones
    mask_rate: float = 0.15  # until the decay
    mask_rate_end: float = 0.15  # at its end
    whole_word: float = 0.0  # share of batches whose targets are whole words
    optimizer: str = "adamw"  # or muon: the layers' matrices by Muon, the rest by AdamW
    peak_lr: float = 1e-3
    warmup_steps: int = 300
    compile: bool = False
    report_steps: int = 50
    checkpoint_seconds: float = 180


# first: the recipe of the first model, which `cpu` began with. cpu: that of the bundled one; see README.md for its trials. gpu: some twenty minutes of one large GPU, see gpu.sh for the reasons.
PRESETS = {
    "first": Settings(),
    "cpu": Settings(optimizer="muon", tokens_per_batch=5200, peak_lr=1.5e-3, warmup_steps=200, report_steps=100),
    "gpu": Settings(shape="better", tokens_per_batch=16_640, batches_per_step=8, modern_share=0.4, mask_rate=0.30, mask_rate_end=0.15,
                    whole_word=0.15, peak_lr=1.5e-3, warmup_steps=1500, report_steps=200, checkpoint_seconds=120),
}


class Vocabulary:
    """What is known of each id without encoding anything, from tokenizer.json. Byte-level BPE: a piece beginning with a space shows it as Ġ, and a newline is Ċ."""

    def __init__(self, path):
        vocab = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
        self.begins_word = np.ones(len(vocab), bool)  # specials stand for themselves
        self.opens, self.closes, self.breaks = (np.zeros(len(vocab), bool) for _ in range(3))
        for piece, i in vocab.items():
            for shown, mark in CURLY.items():
                piece = piece.replace(shown, mark)
            if i > UNK:
                self.begins_word[i] = piece.startswith(("Ġ", "Ċ")) or not piece[0].isalnum()
            bare = piece.removeprefix("Ġ").lstrip("\"'(“‘")
            self.opens[i] = piece.startswith("Ġ") and (bare[:1].isupper() or piece in ('Ġ"', "Ġ“", "Ġ("))
            self.closes[i] = piece.rstrip("\"')]”’").endswith((".", "?", "!"))
            self.breaks[i] = piece.startswith("Ċ")


class Stream:
    """A packed token stream with document boundaries, as written by prepare.py."""

    def __init__(self, stem):
        self.tokens = np.fromfile(f"{stem}.u16", dtype=np.uint16)
        self.offsets = np.fromfile(f"{stem}.off", dtype=np.int64)

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

    def sentences(self, vocabulary):
        """{length: starts} of the sentences: from an opening piece behind a closing one (or a document's first) to the next closing piece."""
        opens, closes = vocabulary.opens[self.tokens], vocabulary.closes[self.tokens]
        begins = np.zeros(len(self.tokens), bool)
        begins[1:] = opens[1:] & closes[:-1]
        begins[self.offsets[:-1]] = opens[self.offsets[:-1]]
        last = np.zeros(len(self.tokens), bool)
        last[:-1] = closes[:-1] & (begins[1:] | vocabulary.breaks[self.tokens[1:]])
        last[self.offsets[1:] - 1] = closes[self.offsets[1:] - 1]
        starts, ends = np.flatnonzero(begins), np.flatnonzero(last)
        at = np.searchsorted(ends, starts)
        starts, at = starts[at < len(ends)], at[at < len(ends)]
        lengths = ends[at] + 1 - starts
        return {n: starts[lengths == n] for n in range(SENTENCE_TOKENS[0], SENTENCE_TOKENS[1] + 1) if (lengths == n).any()}


class Deck:
    """Deals a fixed list in random order, anew when it runs out. The order follows from its name and its round, so its state is two numbers."""

    def __init__(self, name, items):
        self.name, self.items = name, items
        self.round = self.next = 0
        self.shuffle()

    def shuffle(self):
        self.order = np.random.default_rng([SEED, *self.name.encode(), self.round]).permutation(len(self.items))

    def take(self, count):
        if self.next + count > len(self.items):
            self.round, self.next = self.round + 1, 0
            self.shuffle()
        picked = self.items[self.order[self.next : self.next + count]]
        self.next += count
        return picked


class Batches:
    """Draws batches from the groups of DATA_DIR. Its whole state is `rng` and the decks' places."""

    def __init__(self, data_dir, settings):
        self.settings, self.rng = settings, np.random.default_rng(SEED)
        self.vocabulary = Vocabulary(data_dir / "tokenizer.json")
        self.documents = {g: Stream(data_dir / g) for g in ("modern", "books")}
        self.decks, self.lengths = {}, {}
        for group, stream in self.documents.items():
            for length in (WINDOW, LONG_WINDOW):
                self.decks[f"{group} {length}"] = Deck(f"{group} {length}", stream.window_starts(length))
            sentences = stream.sentences(self.vocabulary)
            # Sentence lengths are drawn by the tokens they hold, so each sentence is equally likely.
            weights = np.array([n * len(starts) for n, starts in sentences.items()], float)
            self.lengths[group] = np.array(list(sentences)), weights / weights.sum()
            for n, starts in sentences.items():
                self.decks[f"{group} sentence {n}"] = Deck(f"{group} sentence {n}", starts)

    def tokens(self):
        return {group: len(stream.tokens) for group, stream in self.documents.items()}

    def draw(self, long_windows):
        """One batch [B, T] of about tokens_per_batch positions."""
        size = self.settings.tokens_per_batch
        group = "modern" if self.rng.random() < self.settings.modern_share else "books"
        kind, documents = self.rng.random(), self.documents[group]
        if kind < P_SENTENCE:
            lengths, weights = self.lengths[group]
            length = int(self.rng.choice(lengths, p=weights))
            deck = self.decks[f"{group} sentence {length}"]
            return documents.rows(deck.take(min(size // (length + 2), len(deck.items))), length)
        if kind < P_SENTENCE + P_FRAGMENT:
            length = int(self.rng.integers(16, WINDOW))
            starts = self.decks[f"{group} {WINDOW}"].take(size // (length + 2))
            return documents.rows(starts + self.rng.integers(0, WINDOW - length + 1, len(starts)), length)
        length = LONG_WINDOW if long_windows and kind >= 1 - P_LONG else WINDOW
        return documents.rows(self.decks[f"{group} {length}"].take(size // (length + 2)), length)

    def state(self):
        return {"rng": self.rng.bit_generator.state, "decks": {k: (len(d.items), d.round, d.next) for k, d in self.decks.items()}}

    def restore(self, state):
        """Goes on where `state` was. A deck of another size (pieces were added meanwhile) begins its round anew."""
        self.rng.bit_generator.state = state["rng"]
        for key, deck in self.decks.items():
            items, deck.round, place = state["decks"].get(key, (0, 0, 0))
            deck.next = place if items == len(deck.items) else 0
            deck.shuffle()


class DevSet:
    """Fixed windows of the held-out documents, masked once with a fixed seed at 15%."""

    def __init__(self, data_dir, vocab, name="dev", device="cpu"):
        stream = Stream(data_dir / name)
        starts = np.random.default_rng(SEED).permutation(stream.window_starts(WINDOW))[:DEV_WINDOWS]
        ids = torch.from_numpy(stream.rows(starts, WINDOW))
        corrupted, target = mask_tokens(ids, vocab, torch.Generator().manual_seed(7))
        self.ids, self.corrupted, self.target = ids.to(device), corrupted.to(device), target.to(device)

    @torch.no_grad()
    def loss(self, model):
        was = model.training
        model.eval()
        value = masked_loss(model, self.corrupted, self.ids, self.target).item()
        model.train(was)
        return value


def learning_rate(settings, step, decay_start, decay_steps):
    """(rate, share of the decay that is left) for 0-based `step`; decay_start is None while the run is still stable."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    left = 1.0 if decay_start is None else max(0.0, 1 - (step - decay_start + 0.5) / decay_steps)
    return settings.peak_lr * warm * left, left


def make_optimizers(model, settings):
    """One AdamW; or, with `muon`, that for embeddings and vectors, and Muon (Jordan et al. 2024) for the layers' matrices.

    Muon's updates are scaled to AdamW's size (Liu et al. 2025), so one learning rate serves both.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    inner = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear)} if settings.optimizer == "muon" else set()
    groups = [{"params": [p for p in matrices if id(p) not in inner], "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizers = [torch.optim.AdamW(groups, lr=settings.peak_lr, betas=BETAS, eps=1e-6, fused=True)]
    if inner:
        optimizers.append(torch.optim.Muon([p for p in matrices if id(p) in inner], lr=settings.peak_lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def masked_loss(model, corrupted, original, target, encode=None):
    """Mean cross-entropy at the target positions; the head runs only there."""
    with torch.autocast(corrupted.device.type, dtype=torch.bfloat16):
        logits = model.head((encode or model.encode)(corrupted)[target])
    return F.cross_entropy(logits.float(), original[target])


class Run:
    """One training run: model, optimizer, data and their randomness, saved and restored together."""

    def __init__(self, args):
        self.dir, self.args = args.run_dir, args
        self.dir.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(args.device)
        self.checkpoint = self.dir / "checkpoint.pt"
        saved = self.found(args.from_portable)
        self.settings = Settings(**saved["settings"]) if saved else overridden(PRESETS[args.preset], args.set)
        torch.manual_seed(SEED)
        self.shape = SHAPES[self.settings.shape]
        self.model = MaskedLM(self.shape).to(self.device)
        if args.start and not saved:
            self.model.load_state_dict(weights_of(args.start, self.shape))
        self.optimizers = make_optimizers(self.model, self.settings)
        self.batches = Batches(args.data_dir, self.settings)
        self.generator = torch.Generator(self.device).manual_seed(SEED)
        self.begins_word = torch.from_numpy(self.batches.vocabulary.begins_word).to(self.device)
        self.state = {"step": 0, "tokens": 0, "seconds": 0.0, "train": None, "decay_start": None, "decay_steps": None, "steps_per_second": None, "legs": []}
        if saved:
            self.restore(saved)
        self.state.setdefault("start", hashlib.sha256(args.start.read_bytes()).hexdigest() if args.start else None)
        self.encode = torch.compile(self.model.encode, dynamic=True) if self.settings.compile else self.model.encode
        self.dev = {name: DevSet(args.data_dir, self.shape.vocab, name, self.device) for name in ("dev", "dev_modern") if (args.data_dir / f"{name}.u16").exists()}

    def found(self, portable):
        if self.checkpoint.exists():
            return torch.load(self.checkpoint, weights_only=False, map_location="cpu")
        if portable:
            return torch.load(io.BytesIO(b"".join(p.read_bytes() for p in sorted(portable.glob("portable-*.bin")))), weights_only=False, map_location="cpu")
        return None

    def restore(self, saved):
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"] or []):
            optimizer.load_state_dict(state)
        self.batches.restore(saved["batches"])
        self.state = saved["run"]
        torch.set_rng_state(saved["torch_rng"])
        if saved["device"] == self.device.type:  # another kind of device draws other numbers anyway
            self.generator.set_state(saved["generator"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(saved["cuda_rng"])

    def everything(self):
        return {
            "model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers], "batches": self.batches.state(), "run": self.state,
            "settings": asdict(self.settings), "shape": asdict(self.shape), "device": self.device.type, "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }

    def save(self):
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(self.everything(), temporary)
        os.replace(temporary, self.checkpoint)
        summary = dict(self.state, settings=asdict(self.settings), shape=asdict(self.shape), corpus_tokens=self.batches.tokens(),
                       parameters=sum(p.numel() for p in self.model.parameters()), device=device_name(self.device), seed=SEED)
        (self.dir / "run.json").write_text(json.dumps(summary, indent=1) + "\n")

    def save_portable(self, folder):
        """The run in pieces of CHUNK_BYTES. A finished run carries no moments."""
        everything = self.everything()
        finished = (self.dir / "DONE").exists()
        everything["optimizers"] = None if finished else [narrowed(o) for o in everything["optimizers"]]
        everything["model"] = {k: v.cpu() for k, v in everything["model"].items()}
        buffer = io.BytesIO()
        torch.save(everything, buffer)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("portable-*.bin"):
            old.unlink()
        data = buffer.getvalue()
        for i, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            (folder / f"portable-{i}.bin").write_bytes(data[start : start + CHUNK_BYTES])

    def step(self, rate, left):
        """One update; returns the batches' mean loss, still on the device."""
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = rate
        settings, total = self.settings, 0.0
        mask_rate = settings.mask_rate_end + (settings.mask_rate - settings.mask_rate_end) * left
        for _ in range(settings.batches_per_step):
            ids = torch.from_numpy(self.batches.draw(self.state["step"] >= self.args.long_from)).to(self.device, non_blocking=True)
            words = self.begins_word if self.batches.rng.random() < settings.whole_word else None
            corrupted, target = mask_tokens(ids, self.shape.vocab, self.generator, mask_rate, words)
            loss = masked_loss(self.model, corrupted, ids, target, self.encode) / settings.batches_per_step
            loss.backward()
            total = total + loss.detach()
            self.state["tokens"] += ids.numel()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP, foreach=True)
        # One step of nonsense must not cost the run: its gradient is dropped (multiplying by 0 would keep a NaN).
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.state["step"] += 1
        return total

    def begin_decay(self, steps_per_second):
        """The first step of the decay, and its length, if it is time."""
        state, args = self.state, self.args
        if state["decay_start"] is not None:
            return
        if args.decay_within is not None and steps_per_second:
            state["decay_start"], state["decay_steps"] = state["step"], max(1, int(0.97 * steps_per_second * args.decay_within))
        elif state["step"] >= args.stable_steps or (self.dir / "STOP").exists():
            state["decay_start"], state["decay_steps"] = state["step"], args.decay_steps

    def train(self):
        """Trains until the decay is over or this leg's time is up; True when the run is done."""
        state, args, began = self.state, self.args, time.time()
        before = state["seconds"]
        first_step, last_save = state["step"], began
        state["legs"].append({"from_step": first_step, "corpus_tokens": self.batches.tokens()})
        recent = []
        curve_path = self.dir / "curve.csv"
        with open(curve_path, "a", newline="") as file:
            curve = csv.writer(file)
            if curve_path.stat().st_size == 0:
                curve.writerow(["step", "tokens", "wall_s", "lr", "mask_rate", "train", *self.dev])
            self.model.train()
            while True:
                # The decay's length rests on the pace of the steps before it, the first ones not counted.
                measured = state["steps_per_second"]
                self.begin_decay(measured)
                if state["decay_start"] is not None and state["step"] >= state["decay_start"] + state["decay_steps"]:
                    break
                if args.seconds is not None and time.time() - began >= args.seconds or state["step"] - first_step >= args.leg_steps:
                    break
                rate, left = learning_rate(self.settings, state["step"], state["decay_start"], state["decay_steps"])
                recent.append(self.step(rate, left))
                if state["step"] in (1, 20, 100) or state["step"] % self.settings.report_steps == 0:
                    value = torch.stack(recent).mean().item()
                    recent.clear()
                    state["train"] = value
                    state["seconds"] = before + time.time() - began
                    if state["step"] - first_step > 20 and time.time() - began > 5:
                        state["steps_per_second"] = (state["step"] - first_step) / (time.time() - began)
                    mask = self.settings.mask_rate_end + (self.settings.mask_rate - self.settings.mask_rate_end) * left
                    row = [state["step"], state["tokens"], round(state["seconds"]), f"{rate:.6f}", f"{mask:.3f}", f"{value:.4f}", *(f"{d.loss(self.model):.4f}" for d in self.dev.values())]
                    curve.writerow(row)
                    file.flush()
                    print(*row, flush=True)
                if time.time() - last_save > self.settings.checkpoint_seconds:
                    last_save = time.time()
                    self.save()
        state["seconds"] = before + time.time() - began
        state["legs"][-1] |= {"to_step": state["step"], "seconds": round(time.time() - began, 1)}
        done = state["decay_start"] is not None and state["step"] >= state["decay_start"] + state["decay_steps"]
        if done:
            (self.dir / "DONE").touch()
        self.save()
        write_svg(curve_path, self.dir / "curve.svg")
        return done


def weights_of(path, shape):
    """The state of a MaskedLM of `shape` from a model.onnx that export.py wrote: its matrices as fp16 rounded them."""
    import onnx  # here, so that a run from nothing can do without
    from onnx import numpy_helper

    stored = {i.name: torch.from_numpy(numpy_helper.to_array(i).astype(np.float32)) for i in onnx.load(path).graph.initializer}

    def linear(name):
        return {"weight": stored[f"{name}.weight.fp16"].T.contiguous(), "bias": stored[f"{name}.bias"]}

    def norm(name):
        return {"weight": stored[f"{name}.weight"], "bias": stored[f"{name}.bias"]}

    parts = {"words": {"weight": stored["embeddings.word.fp16"]}, "positions": {"weight": stored["embeddings.position.fp16"]},
             "embedding_norm": norm("embeddings.norm"), "transform": linear("head.transform"), "transform_norm": norm("head.norm")}
    for i in range(shape.layers):
        thirds = [linear(f"layer.{i}.attention.{part}") for part in ("query", "key", "value")]
        parts |= {
            f"layers.{i}.qkv": {key: torch.cat([third[key] for third in thirds]) for key in ("weight", "bias")},
            f"layers.{i}.attention_out": linear(f"layer.{i}.attention.output"), f"layers.{i}.attention_norm": norm(f"layer.{i}.attention.norm"),
            f"layers.{i}.feed_in": linear(f"layer.{i}.feed.in"), f"layers.{i}.feed_out": linear(f"layer.{i}.feed.out"),
            f"layers.{i}.feed_norm": norm(f"layer.{i}.feed.norm"),
        }
    state = {f"{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}
    return state | {"decoder_bias": stored["head.bias"]}


def narrowed(optimizer):
    """The optimizer's state with its moments in bf16, on the CPU: half of the bytes."""
    state = {key: {k: v.cpu().bfloat16() if v.ndim else v.cpu() for k, v in moments.items()} for key, moments in optimizer["state"].items()}
    return {"state": state, "param_groups": optimizer["param_groups"]}


def overridden(settings, changes):
    """Settings with `KEY=VALUE` changes, each read as its field's type."""
    out = dataclasses.replace(settings)
    for change in changes:
        key, _, value = change.partition("=")
        kind = type(getattr(out, key))
        setattr(out, key, value in ("1", "true") if kind is bool else kind(value))
    return out


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes a setting of a new run; a resumed one keeps its own")
    parser.add_argument("--start", type=Path, metavar="MODEL.ONNX", help="begin a new run from these weights, of the same shape, not from random ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stable-steps", type=int, default=1 << 60, help="warm-up included; a STOP file ends it sooner")
    parser.add_argument("--decay-steps", type=int, default=1000, help="with --stable-steps or STOP")
    parser.add_argument("--decay-within", type=float, help="begin the decay now, with as many steps as fit into so many seconds")
    parser.add_argument("--long-from", type=int, default=1 << 60, help="first step with 512-position batches")
    parser.add_argument("--seconds", type=float, help="end this leg after so long, resumable")
    parser.add_argument("--leg-steps", type=int, default=1 << 60, help="end this leg after so many steps, resumable")
    parser.add_argument("--portable", type=Path, help="write the run in small pieces there when the leg ends")
    parser.add_argument("--from-portable", type=Path, help="begin with such pieces where there is no checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    run = Run(args)
    done = run.train()
    if args.portable:
        run.save_portable(args.portable)
    print("done" if done else "to be resumed", "at step", run.state["step"], "tokens", run.state["tokens"], flush=True)


if __name__ == "__main__":
    main()
