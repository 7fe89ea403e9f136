#!/usr/bin/env python3
"""How well do a model's scores agree with the labels of the demo sample?

usage: agreement.py [--model DIR] [--scores FILE] [--windows N] [--report-only]

Scores every document by exact pseudo-log-likelihood: each token is masked in turn,
in windows of at most 128 tokens, and the negative log-probabilities are averaged
over the tokens (nats a token), or over what --unit says. Then looks for the maximum, and the review band, that
agree best with the labels, and for the cheap text signals that would mend most of
what is left. Needs onnxruntime, tokenizers and numpy. One thread, and slow: a few
minutes for the whole sample. --scores keeps the scores; --report-only reads them.
"""
import argparse
import hashlib
import json
import math
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "pipelines" / "demo" / "sample.jsonl"
LABELS = ROOT / "pipelines" / "demo" / "labels.tsv"
WINDOW = 128
ROWS = 32
ORDER = ["pass", "review", "fail"]
COMMON = set("""the of and to a in is was that it he she i you they we for on with as at by be his her had
not are but from or have an this which were so all their there been one my me him what when if no would who
will them out up more into its your has do can our could than then did about only now some any said""".split())


def load():
    """[(line number, label row, text or None)]"""
    lines = SAMPLE.read_bytes().split(b"\n")[:-1]
    rows = []
    for row in LABELS.read_text(encoding="utf-8").splitlines()[1:]:
        n, key, expected, kind, note = row.split("\t")
        try:
            text = json.loads(lines[int(n) - 1].decode("utf-8"))["text"]
            text = text if isinstance(text, str) else None
        except (ValueError, KeyError, TypeError):
            text = None
        rows.append(dict(line=int(n), id=key, expected=expected, kind=kind, note=note, text=text))
    assert len(rows) == len(lines)
    return rows


def score(rows, model_dir, max_windows, keep, seconds):
    import onnxruntime
    import tokenizers
    tok = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tok.no_truncation()
    tok.no_padding()
    cls, sep, mask = (tok.token_to_id(t) for t in ("[CLS]", "[SEP]", "[MASK]"))
    path = next(iter(sorted(model_dir.rglob("*.onnx"))))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    stamp = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    if keep.get("model") != stamp or keep.get("windows") != max_windows:
        keep.clear()
        keep.update(model=stamp, windows=max_windows, scores={})
    began = time.time()
    for r in rows:
        if r["text"] is None:
            continue
        key = hashlib.sha256(r["text"].encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if key in keep["scores"]:
            continue
        if seconds and time.time() - began > seconds:
            return False
        ids = tok.encode(r["text"], add_special_tokens=False).ids
        total = count = 0
        size = math.ceil(len(ids) / max(1, math.ceil(len(ids) / WINDOW)))
        starts = range(0, len(ids), size or 1)
        for start in list(starts)[:max_windows]:
            content = ids[start:start + size]
            window = np.array([cls, *content, sep], dtype=np.int64)
            for first in range(1, len(content) + 1, ROWS):
                at = np.arange(first, min(first + ROWS, len(content) + 1))
                batch = np.repeat(window[None], len(at), axis=0)
                batch[np.arange(len(at)), at] = mask
                feeds = {"input_ids": batch, "attention_mask": np.ones_like(batch), "token_type_ids": np.zeros_like(batch)}
                logits = session.run(None, {n: feeds[n] for n in names})[0][np.arange(len(at)), at].astype(np.float64)
                top = logits.max(axis=1)
                log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
                total += float((log_sum - logits[np.arange(len(at)), window[at]]).sum())
                count += len(at)
        keep["scores"][key] = dict(nll=total, scored=count, tokens=len(ids))
    return True


def signals(text, s, unit="token"):
    solid = [c for c in text if not c.isspace()]
    letters = [c for c in solid if c.isalpha()]
    lines = [x.strip() for x in text.splitlines() if x.strip()]
    words = text.split()
    plain = [w for w in re.findall(r"[a-z']+", text.lower().replace("’", "'"))]
    return {
        "nll": s["nll"] / s["scored"] * dict(token=1, word=s["tokens"] / len(words), character=s["tokens"] / len(solid),
                                             byte=s["tokens"] / len(text.encode("utf-8", "surrogatepass")) / math.log(2))[unit],
        "tokens_per_word": s["tokens"] / len(words),
        "letter_share": len(letters) / len(solid),
        "ascii_letter_share": sum(c.isascii() for c in letters) / len(solid),
        "upper_share": sum(c.isupper() for c in letters) / max(1, len(letters)),
        "digit_share": sum(c.isdigit() for c in solid) / len(solid),
        "duplicate_lines": 1 - len(set(lines)) / len(lines),
        "words_per_line": len(words) / len(lines),
        "mean_word_length": len(solid) / len(words),
        "common_word_share": sum(w in COMMON for w in plain) / max(1, len(words)),
        "sentence_ends_per_word": len(re.findall(r"[.!?][\"'”’)]*(\s|$)", text)) / len(words),
        "distinct_words": len(set(plain)) / max(1, len(plain)),
        "words": len(words),
    }


def best_split(pairs, review=True):
    """Thresholds (a, b): pass up to a, fail above b, review between. Most exact agreements."""
    xs = sorted({x for x, _ in pairs})
    cuts = [-math.inf] + [(a + b) / 2 for a, b in zip(xs, xs[1:])] + [math.inf]
    gain = {e: [0] * (len(xs) + 1) for e in ORDER}
    at = Counter((x, e) for x, e in pairs)
    for i, x in enumerate(xs):
        for e in ORDER:
            gain[e][i + 1] = gain[e][i] + at[x, e]
    best = (-1, 0, 0)
    for i in range(len(cuts)):
        for j in range(i, len(cuts) if review else i + 1):
            good = gain["pass"][i] + gain["review"][j] - gain["review"][i] + gain["fail"][-1] - gain["fail"][j]
            # of equal ones the widest review band: it costs nothing here and spares hard decisions
            if (good, cuts[j] - cuts[i] if math.isfinite(cuts[j] - cuts[i]) else -1) > best[:2]:
                best = (good, cuts[j] - cuts[i], (cuts[i], cuts[j]))
    return best[0], best[2]


def decide(x, a, b):
    return "pass" if x <= a else "review" if x <= b else "fail"


def report(title, docs, verdict):
    table = defaultdict(Counter)
    for d in docs:
        table[d["kind"]][d["expected"], verdict(d)] += 1
    good = sum(n for c in table.values() for (e, v), n in c.items() if e == v)
    print(f"\n{title}: {good} of {len(docs)} = {good / len(docs):.1%}")
    for kind, c in sorted(table.items()):
        n = sum(c.values())
        ok = sum(k for (e, v), k in c.items() if e == v)
        rest = ", ".join(f"{k} {e}->{v}" for (e, v), k in sorted(c.items()) if e != v)
        print(f"  {kind:12} {ok:4}/{n:<4} {ok / n:6.1%}  {rest}")
    return good


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, default=ROOT / "models" / "tamis-en")
    p.add_argument("--scores", type=Path)
    p.add_argument("--windows", type=int, default=1 << 30, help="score only the first N windows of a document")
    p.add_argument("--seconds", type=float, default=0, help="stop scoring after so long (go on with --scores)")
    p.add_argument("--report-only", action="store_true")
    p.add_argument("--unit", choices=["token", "word", "character", "byte"], default="token",
                   help="average over these; byte: in bits, the others in nats")
    p.add_argument("--thresholds", type=float, nargs=2, metavar=("PASS", "FAIL"))
    args = p.parse_args()
    rows = load()
    keep = json.loads(args.scores.read_text()) if args.scores and args.scores.exists() else {}
    done = True
    if not args.report_only:
        done = score(rows, args.model, args.windows, keep, args.seconds)
        if args.scores:
            args.scores.write_text(json.dumps(keep))
    if not done:
        print(f"{len(keep['scores'])} documents scored so far; run again")
        sys.exit(3)

    scored, fixed = [], []
    for r in rows:
        if r["text"] is None:
            r["fixed"] = "dead-letter"
            fixed.append(r)
        elif not r["text"].strip():
            r["fixed"] = "fail"
            fixed.append(r)
        else:
            key = hashlib.sha256(r["text"].encode("utf-8", "surrogatepass")).hexdigest()[:16]
            r.update(signals(r["text"], keep["scores"][key], args.unit))
            scored.append(r)
    print(f"model {keep['model']}; {len(scored)} documents with a score, {len(fixed)} without")
    assert all(r["fixed"] == r["expected"] for r in fixed)

    name = "bits a byte" if args.unit == "byte" else f"nats a {args.unit}"
    print(f"\n{name}: 5%, median, 95% of each kind")
    groups = defaultdict(list)
    for r in scored:
        groups[f"{r['kind']}/{r['expected']}"].append(r["nll"])
    for name, xs in sorted(groups.items(), key=lambda kv: np.median(kv[1])):
        print(f"  {name:18} {len(xs):4}  {np.percentile(xs, 5):6.3f} {np.median(xs):6.3f} {np.percentile(xs, 95):6.3f}")

    pairs = [(r["nll"], r["expected"]) for r in scored]
    _, (one, _) = best_split(pairs, review=False)
    report(f"single maximum {one:.3f}", rows, lambda r: r.get("fixed") or decide(r["nll"], one, one))
    _, (a, b) = best_split(pairs)
    if args.thresholds:
        a, b = args.thresholds

    def base(r):
        return r.get("fixed") or decide(r["nll"], a, b)
    report(f"pass to {a:.3f}, review to {b:.3f}, fail above", rows, base)
    plain = [r for r in rows if "hard: fluent" not in r["note"]]
    good = sum(base(r) == r["expected"] for r in plain)
    print(f"  without the fluent boilerplate: {good} of {len(plain)} = {good / len(plain):.1%}")
    print("\ndisagreements, the furthest from the bound first")
    wrong = [r for r in scored if base(r) != r["expected"]]
    wrong.sort(key=lambda r: -abs(r["nll"] - (a + b) / 2))
    for r in wrong:
        print(f"  {r['nll']:6.3f} {r['expected']:>6} -> {base(r):6} {r['id']:16} {r['note'][:44]:44} | {' '.join(r['text'].split())[:70]}")

    print("\nthe best that other review bands do")
    for width in [x * one for x in (0, .02, .04, .06, .08, .12)]:
        best = max((sum(decide(x, m - width / 2, m + width / 2) == e for x, e in pairs), m)
                   for m in {x + shift * width / 2 for x, _ in pairs for shift in (-1, 0, 1)})
        m = best[1]
        asked = sum(m - width / 2 < x <= m + width / 2 for x, _ in pairs)
        print(f"  band of {width:.2f}: {best[0] + len(fixed)} agree, pass to {m - width / 2:.2f}, fail above {m + width / 2:.2f}, {asked} to review")

    print("\none more rule each (fail beyond it, at most two of the prose lost), the maximum chosen anew")
    directions = dict(tokens_per_word=False, letter_share=True, ascii_letter_share=True, upper_share=False,
                      digit_share=False, duplicate_lines=False, words_per_line=True, mean_word_length=False,
                      common_word_share=True, sentence_ends_per_word=True, distinct_words=True)
    taken = [False] * len(scored)
    for step in range(4):
        tops = []
        for name, below in directions.items():
            xs = sorted({r[name] for r in scored})
            found = (-1,)
            for cut in [(x + y) / 2 for x, y in zip(xs, xs[1:])]:
                beyond = [t or ((r[name] < cut) if below else (r[name] > cut)) for t, r in zip(taken, scored)]
                if sum(x and r["expected"] == "pass" for x, r in zip(beyond, scored)) > 2:
                    continue
                good, (m, _) = best_split([(r["nll"], r["expected"]) for x, r in zip(beyond, scored) if not x], review=False)
                good += sum(x and r["expected"] == "fail" for x, r in zip(beyond, scored))
                if good > found[0]:
                    found = (good, name, below, cut, m, beyond)
            if found[0] > 0:
                tops.append(found)
        tops.sort(key=lambda t: -t[0])
        for good, name, below, cut, m, _ in tops[:7 if not step else 3]:
            print(f"  {good + len(fixed)} agree with {name} {'<' if below else '>'} {cut:.3f} and maximum {m:.3f}")
        taken = tops[0][5]
        m = tops[0][4]
        for r, x in zip(scored, taken):
            r["beyond"] = x
        report(f"with {tops[0][1]}", rows, lambda r: r.get("fixed") or ("fail" if r["beyond"] else decide(r["nll"], m, m)))


if __name__ == "__main__":
    main()
