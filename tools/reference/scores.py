"""Every masked score by brute force: the reference that tamis is held to.

    python tools/reference/scores.py MODEL_DIR [--kind pll|nelbo] [--masking single|word-l2r|whole-word|strided|sampled|unmasked]
        [--words unicode|tokenizer] [--stride 7] [--sample-tokens 32] [--seed 0] [--draws 16] [--keep-rate 0.1]
        [--random-rate 0.1] [--window-tokens 128] [--evaluator ort|numpy] [--input FILE|-]
    python tools/reference/scores.py --goldens [MODEL_DIR ...]
        (rewrites the cases of these models in tests/goldens/scores.json; of all models that there are, if none is named; minutes)

Input: one JSON object a line with "text" and optionally "id". Output: one JSON object a line with each token's surprisal (nats; null
where a sample leaves it out; the mean where several passes score it) and the signals, named as in docs/scores.md.

One row at a time: no batch, no padding. Written from the definitions in docs/scores.md, not from tamis: words and sentences by
`uniseg`, log-softmax, ranks and odds in float64, plain loops, special tokens known by their place. Windows are those of pll.py.
A rank is an integer, and float32 logits nearly tie now and then: ranks are given as a range, counted with logits 1e-4 apart held
equal once in the token's favour and once against it. Needs tools/fixtures/requirements.txt.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np
from blake3 import blake3
from pll import LONG, ROOT, TEXTS, Tokens, evaluator, windows
from uniseg.wordbreak import words as word_segments

GOLDENS = ROOT / "tests" / "goldens" / "scores.json"
TIE = 1e-4
PIECES = 8


class Draws:
    """BLAKE3's output over "tamis draws", a zero byte, the seed and the window's content ids, as little-endian u64."""

    def __init__(self, seed, ids):
        content = b"".join(index.to_bytes(4, "little") for index in ids)
        self.hash, self.at = blake3(b"tamis draws\0" + seed.to_bytes(8, "little") + content), 0

    def word(self):
        self.at += 8
        return int.from_bytes(self.hash.digest(length=8, seek=self.at - 8), "little")

    def unit(self):
        return ((self.word() >> 11) + 1) / 2**53

    def subset(self, n, of):
        """The first n places of a Fisher-Yates shuffle of 0..of."""
        ranks = list(range(of))
        for place in range(min(n, of)):
            other = place + self.word() % (of - place)
            ranks[place], ranks[other] = ranks[other], ranks[place]
        return sorted(ranks[:n])


def word_numbers(tokens, text, how):
    """For each token of the text, the number of its word."""
    found = tokens.plain.encode(text, add_special_tokens=False)
    if how == "tokenizer":
        return found.word_ids
    segment_of = [number for number, segment in enumerate(word_segments(text)) for _ in segment]
    starts = tokens.encode(text)[1]
    return [segment_of[start] for start in np.maximum.accumulate(np.array(starts, dtype=int))]


def groups(numbers, how):
    """Runs of one word, cut after every eighth piece in production."""
    made = []
    for rank, number in enumerate(numbers):
        if made and numbers[made[-1][0]] == number and (how == "tokenizer" or len(made[-1]) < PIECES):
            made[-1].append(rank)
        else:
            made.append([rank])
    return made


def passes(recipe, ids, numbers):
    """Pairs of masked and scored ranks, and the weight of a score in the window's sum."""
    n, kind = len(ids), recipe["masking"] if recipe["kind"] == "pll" else "nelbo"
    if kind == "single":
        return [([i], [i], 1) for i in range(n)]
    if kind == "strided":
        return [(list(range(g, n, recipe["stride"])),) * 2 + (1,) for g in range(min(n, recipe["stride"]))]
    if kind == "word-l2r":
        return [(word[at:], [word[at]], 1) for word in groups(numbers, recipe["words"]) for at in range(len(word))]
    if kind == "whole-word":
        return [(word, word, 1) for word in groups(numbers, recipe["words"])]
    if kind == "unmasked":
        return [([], list(range(n)), 1)]
    draws = Draws(recipe["seed"], ids)
    if kind == "sampled":
        drawn = draws.subset(recipe["sample_tokens"], n)
        return [([i], [i], n / len(drawn)) for i in drawn]
    made, pairs, u = {}, recipe["draws"] // 2, draws.unit()
    for j in range(pairs):
        mask = draws.subset(max(1, min(n, math.ceil(n * (j + u) / pairs))), n)
        rest = [i for i in range(n) if i not in mask]
        for part in filter(None, (mask, rest)):
            made[tuple(part)] = made.get(tuple(part), 0.0) + n / pairs * (0.5 if rest else 1.0) / len(part)
    return [(part, part, weight) for part, weight in made.items()]


def log_sum_exp(values):
    peak = values.max()
    return float(peak + np.log(np.exp(values - peak).sum()))


def read(z, x, shift):
    """Everything about the token x under the logits z."""
    z = z.astype(np.float64)
    log_p = z - log_sum_exp(z)
    odds = float(z[x]) - log_sum_exp(np.delete(z, x))
    gap = shift - odds
    return {
        "nll": -float(log_p[x]),
        "log_rank_low": math.log(1 + int((z > z[x] + TIE).sum())),
        "log_rank_high": math.log(1 + int((np.delete(z, x) > z[x] - TIE).sum())),
        "entropy": -float((np.exp(log_p) * log_p).sum()),
        "argmax_gap": float(log_p.max() - log_p[x]),
        "aul_b": max(gap, 0.0) + math.log1p(math.exp(-abs(gap))),
    }


def score_window(logits, tokens, recipe, ids, numbers, shift):
    """Surprisals in token order, and the window's weighted sums."""
    row, offset = tokens.before + ids + tokens.after, len(tokens.before)
    sums, seen = {}, [[] for _ in ids]
    for masked, scored, weight in passes(recipe, ids, numbers):
        corrupt = [tokens.mask if place - offset in masked else index for place, index in enumerate(row)]
        out = logits(corrupt)
        for rank in scored:
            found = read(out[offset + rank], ids[rank], shift)
            seen[rank].append(found["nll"])
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + weight * value
    scored = [value for values in seen for value in values]
    n, drawn = len(ids), len(scored)
    if recipe["masking"] == "sampled":
        sums["variance"] = 0.0 if drawn == n else n * n * (1 - drawn / n) * float(np.var(scored, ddof=1)) / drawn if drawn > 1 else math.nan
    return [sum(values) / len(values) if values else None for values in seen], sums


def score(logits, tokens, vocabulary, text, recipe):
    ids, starts = tokens.encode(text)
    numbers = word_numbers(tokens, text, recipe["words"])
    shift = math.log(vocabulary * recipe["keep_rate"] / recipe["random_rate"] + 1)
    nll, sums, cuts = [], [], windows(text, starts, recipe["window_tokens"])
    for start, end in cuts:
        made = score_window(logits, tokens, recipe, ids[start:end], numbers[start:end], shift)
        nll += made[0]
        sums.append(made[1])
    total = {name: math.fsum(window[name] for window in sums) for name in (sums[0] if sums else ())}
    signals = {"tokens": len(ids), "windows": len(cuts)}
    if not ids:
        return {"nll": nll, "signals": signals}
    signals["bpb"] = total["nll"] / len(text.encode()) / math.log(2)
    if recipe["kind"] == "nelbo":
        return {"nll": nll, "signals": signals | {"nelbo_token": total["nll"] / len(ids)}}
    signals["nll_token"] = total["nll"] / len(ids)
    count = sum(any(char.isalnum() for char in segment) for segment in word_segments(text))
    if count:
        signals["nll_word"] = total["nll"] / count
    for name in ("entropy", "argmax_gap", "log_rank_low", "log_rank_high"):
        signals[name] = total[name] / len(ids)
    if recipe["masking"] == "unmasked":
        signals["aul_b"] = total["aul_b"] / len(ids)
    if recipe["masking"] == "sampled" and not math.isnan(total["variance"]):
        signals["stderr"] = math.sqrt(total["variance"]) / len(ids)
    return {"nll": nll, "signals": signals}


DEFAULTS = {"kind": "pll", "masking": "single", "words": "unicode", "stride": 7, "sample_tokens": 32, "seed": 0, "draws": 16,
            "keep_rate": 0.1, "random_rate": 0.1, "window_tokens": 128}
RECIPES = [
    {"masking": "single"}, {"masking": "strided", "stride": 5}, {"masking": "word-l2r"}, {"masking": "word-l2r", "words": "tokenizer"},
    {"masking": "whole-word"}, {"masking": "whole-word", "words": "tokenizer"}, {"masking": "sampled", "sample_tokens": 5},
    {"masking": "sampled", "sample_tokens": 5, "seed": 9}, {"masking": "unmasked"},
    {"masking": "unmasked", "keep_rate": 0.05, "random_rate": 0.15}, {"kind": "nelbo", "draws": 8}, {"kind": "nelbo", "draws": 4, "seed": 9},
]
MORE = ["Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz", "snake_case camelCase e-mail o'clock 12:30",
        "the.of and,to 3.5kg ...", "word" * 12 + " " + "ab" * 20, "ภาษาไทยไม่มีช่องว่าง 日本語のテキスト", "a\u0308 \u0301 naïve ☃️☃"]


def folders():
    found = [folder for folder in sorted((ROOT / "tests/fixtures/models").iterdir()) if (folder / "model.onnx").exists()]
    return found + [ROOT / "models" / "tamis-en"]


def goldens(wanted):
    """All texts and recipes in windows of 24; fewer texts for a model that is not tiny."""
    kept = [case for case in json.loads(GOLDENS.read_text()) if wanted] if GOLDENS.exists() else []
    wanted = wanted or folders()
    out = [case for case in kept if case["model"] not in {folder.name for folder in wanted}]
    for folder in wanted:
        tiny = (folder / "model.onnx").stat().st_size < 2_000_000
        texts = [text for text in TEXTS if len(text) <= 300 or text == LONG] + MORE
        texts = texts if tiny else [text for text in TEXTS + MORE if len(text) < 60][::2]
        tokens, logits, check = Tokens(folder), evaluator(folder, "numpy"), evaluator(folder, "ort")
        vocabulary = tokens.plain.get_vocab_size()
        for text in texts:
            for changed in RECIPES:
                recipe = DEFAULTS | {"window_tokens": 24} | changed
                made = score(logits, tokens, vocabulary, text, recipe)
                again = score(check, tokens, vocabulary, text, recipe)
                apart = [abs(one - two) for one, two in zip(made["nll"], again["nll"]) if one is not None]
                assert max(apart, default=0.0) < 1e-4, (folder.name, text, recipe)
                made["nll"] = [value and round(value, 6) for value in made["nll"]] if recipe["kind"] == "pll" else []
                made["signals"] = {name: round(value, 7) for name, value in made["signals"].items()}
                out.append({"model": folder.name, "text": text, "settings": changed | {"window_tokens": 24}} | made)
        print(folder.name, len(out), file=sys.stderr)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in out)
    GOLDENS.write_text(f"[\n{lines}\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--goldens", action="store_true")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--evaluator", choices=["ort", "numpy"], default="ort")
    parser.add_argument("--input", default="-")
    options = parser.parse_args()
    if options.goldens:
        return goldens([folder.resolve() for folder in options.models])
    if len(options.models) != 1:
        parser.error("one MODEL_DIR is needed")
    tokens, logits = Tokens(options.models[0]), evaluator(options.models[0], options.evaluator)
    recipe = {name: getattr(options, name) for name in DEFAULTS}
    stream = sys.stdin if options.input == "-" else open(options.input, encoding="utf-8")
    for number, line in enumerate(stream):
        document = json.loads(line)
        made = score(logits, tokens, tokens.plain.get_vocab_size(), document["text"], recipe)
        print(json.dumps({"id": document.get("id", str(number)), "text": document["text"]} | made, ensure_ascii=False))


if __name__ == "__main__":
    main()
