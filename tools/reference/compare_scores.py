"""How far the cheap scores are from the exact one, on the sentences of the demo's prose.

    cargo build && python tools/reference/compare_scores.py [--tamis target/debug/tamis] [--model models/tamis-en] [--sentences 400]

Prints the table of docs/scores.md: correlation over sentences with `single` per token, how much higher a score is, and how many of
the sentences land on the other side of the median, by the exact median and by the score's own. Passes are counted by the
reference's own plans (scores.py). Needs tools/fixtures/requirements.txt.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from pll import ROOT, Tokens, windows
from scores import DEFAULTS, passes, word_numbers
from uniseg.sentencebreak import sentences

# Title, keys of the signal's table, the signal that is compared.
SCORES = [
    ("`single`", {}, "nll_token"),
    *[(f"`strided`, stride {k}", {"masking": "strided", "stride": k}, "nll_token") for k in (3, 5, 7, 10, 16)],
    ("`word-l2r`", {"masking": "word-l2r"}, "nll_token"),
    ("`whole-word`", {"masking": "whole-word"}, "nll_token"),
    *[(f"`sampled`, {n} tokens", {"masking": "sampled", "sample_tokens": n}, "nll_token") for n in (4, 8, 16)],
    ("`unmasked`", {"masking": "unmasked"}, "nll_token"),
    ("`unmasked`, `.aul_b`", {"masking": "unmasked", "corrected": True}, "aul_b"),
    *[(f"`nelbo`, {n} draws", {"kind": "nelbo", "draws": n}, "nelbo_token") for n in (8, 16, 32)],
    ("`.log_rank` of `single`", {"extra": ["log_rank"]}, "log_rank"),
]


def texts(wanted):
    lines = (ROOT / "pipelines/demo/sample.jsonl").read_bytes().split(b"\n")
    labels = [line.split("\t") for line in (ROOT / "pipelines/demo/labels.tsv").read_text().splitlines() if line[0] != "#"]
    prose = [json.loads(lines[int(label[0]) - 1])["text"] for label in labels if label[3] == "prose"]
    found = [sentence.strip() for text in prose for sentence in sentences(text)]
    found = [sentence for sentence in found if 8 <= len(sentence.split()) <= 80]
    return [found[at] for at in np.linspace(0, len(found) - 1, min(wanted, len(found))).astype(int)]


def by_tamis(options, found):
    tables = [f"[models.default]\npath = {json.dumps(str(options.model))}\nthreads = {options.threads}"]
    for number, (_, keys, _) in enumerate(SCORES):
        keys = {"kind": "pll"} | keys
        tables.append(f"[signals.s{number}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items()))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "p.toml").write_text("\n".join(tables) + f"\n[cache]\nenabled = false\npath = {json.dumps(str(folder / 'cache'))}\n")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in found)
        done = subprocess.run([options.tamis, "score", folder / "p.toml"], input=lines, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    signals = [json.loads(line)["signals"] for line in done.stdout.splitlines()]
    return [np.array([signal[f"s{number}.{tail}"] for signal in signals]) for number, (_, _, tail) in enumerate(SCORES)]


def counted(tokens, found, keys):
    """Passes a sentence, on average."""
    recipe, count = DEFAULTS | keys, 0
    for text in found:
        ids, starts = tokens.encode(text)
        numbers = word_numbers(tokens, text, recipe["words"])
        for start, end in windows(text, starts, recipe["window_tokens"]):
            count += len({tuple(masked) for masked, _, _ in passes(recipe, ids[start:end], numbers[start:end])})
    return count / len(found)


def ranks(values):
    return np.array([(values < value).sum() + (values == value).sum() / 2 for value in values])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tamis", default=str(ROOT / "target" / "debug" / "tamis"))
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models" / "tamis-en")
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tokens, found = Tokens(options.model), texts(options.sentences)
    scores = by_tamis(options, found)
    exact = scores[0]
    length = np.mean([len(tokens.encode(text)[0]) for text in found])
    print(f"{len(found)} sentences, {length:.1f} tokens each, exact mean {exact.mean():.3f} nats a token (sd {exact.std():.3f})\n")
    print("| score | passes a sentence | Pearson | Spearman | higher by, nats a token (sd) | other side of the exact median | of its own median |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for (title, keys, tail), score in zip(SCORES, scores):
        shift = score - exact
        flips = [100 * np.mean((score > cut) != (exact > np.median(exact))) for cut in (np.median(exact), np.median(score))]
        moved = f"{shift.mean():+.3f} ({shift.std():.3f})" if tail != "log_rank" else "–"
        flipped = f"{flips[0]:.1f}%" if tail != "log_rank" else "–"
        print(f"| {title} | {counted(tokens, found, keys):.1f} | {np.corrcoef(score, exact)[0, 1]:.4f} | "
              f"{np.corrcoef(ranks(score), ranks(exact))[0, 1]:.4f} | {moved} | {flipped} | {flips[1]:.1f}% |")


if __name__ == "__main__":
    main()
