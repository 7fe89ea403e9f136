"""The bundled pipelines' thresholds: owns the rule by which they follow from scores of clean text, and their place in the pipeline files.

The rule. Clean modern text is web documents (English Web Treebank), news (XSum), encyclopaedia (SQuAD) and stories (WritingPrompts), each
source weighing the same. Half of the texts, chosen by a hash of their ids, are for choosing. Two levels: `web` lets 1% of them fail and asks for
review of 5%; `strict`, for edited prose, lets 5% fail and asks for review of 10%. Values are rounded up to 0.05. The other half, and all bad text, is for
saying what comes of it. Nothing bad is looked at in choosing: the thresholds say what clean text costs, and the tables what bad text they find.

usage: thresholds.py [--write] [--figures FIGURES.json]    compares the pipeline files with the figures; --write puts them there
"""
import argparse
import hashlib
import json
import math
import re
import sys

import numpy as np

import sets

CLEAN = ("web", "xsum", "squad", "writing")
STEP = 0.05
LEVELS = {"web": {"review_above": 0.05, "max": 0.01}, "strict": {"review_above": 0.10, "max": 0.05}}
# Rule: its signal in the card's scores. The pipelines call the strided table `pll`.
RULES = {"fluent": "strided.bpb", "word-order": "strided.nll_token", "no-bad-stretch": "strided.worst_decile"}
# Which level, and which keys of which rules, stand in which files. A document is never failed by its worst stretch alone.
BOTH, MAX, REVIEW = ("max", "review_above"), ("max",), ("review_above",)
STRICT = ("strict", {"fluent": BOTH, "word-order": MAX})
FILES = {
    "pipelines/english-web.toml": ("web", {"fluent": BOTH, "word-order": BOTH, "no-bad-stretch": REVIEW}),
    "pipelines/annotate.toml": ("web", {"fluent": BOTH, "word-order": BOTH}),
    "pipelines/files.toml": STRICT,
    "pipelines/stdin.toml": STRICT,
    "pipelines/demo/demo.toml": STRICT,
    "README.md": ("strict", {"fluent": BOTH}),
}


def for_choosing(text_id):
    return hashlib.sha256(f"{sets.SEED}/{text_id}".encode()).digest()[0] % 2 == 0


def upper_quantile(groups, share):
    """The value above which `share` of the groups' values lie, each group weighing the same."""
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(g), 1 / len(g) / len(groups)) for g in groups])
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, 1 - share)])


def verdict_shares(scores, ids, cuts):
    """Shares of the texts that each rule, and all together, would fail and at least review."""
    out, any_fail, any_review = {}, np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    for rule, signal in RULES.items():
        values = np.array([scores[i][signal] for i in ids])
        fail = values > cuts[rule]["max"] if rule != "no-bad-stretch" else np.zeros(len(ids), bool)
        review = values > cuts[rule]["review_above"]
        out[rule] = {"fail": round(float(fail.mean()), 4), "fail_or_review": round(float((fail | review).mean()), 4)}
        any_fail, any_review = any_fail | fail, any_review | fail | review
    out["together"] = {"fail": round(float(any_fail.mean()), 4), "fail_or_review": round(float(any_review.mean()), 4), "texts": len(ids)}
    return out


def derived(web_scores, web_by_genre, machine_scores, human, bad):
    """The thresholds, and what they do to text that they were not chosen on."""
    clean = {"web": (web_scores, [i for ids in web_by_genre.values() for i in ids])}
    clean |= {name: (machine_scores, human[name]) for name in CLEAN[1:]}
    choosing = {name: [i for i in ids if for_choosing(i)] for name, (_, ids) in clean.items()}
    checking = {name: [i for i in ids if not for_choosing(i)] for name, (_, ids) in clean.items()}
    chosen = {}
    for level, shares in LEVELS.items():
        chosen[level] = {}
        for rule, signal in RULES.items():
            groups = [np.array([clean[name][0][i][signal] for i in ids]) for name, ids in choosing.items()]
            exact = {key: upper_quantile(groups, share) for key, share in shares.items()}
            chosen[level][rule] = {key: round(math.ceil(value / STEP - 1e-9) * STEP, 2) for key, value in exact.items()}
            chosen[level][rule]["before_rounding"] = {key: round(value, 4) for key, value in exact.items()}
    return {
        "chosen": chosen,
        "chosen_on": {name: len(ids) for name, ids in choosing.items()},
        "clean_not_chosen_on": {l: {name: verdict_shares(clean[name][0], ids, chosen[l]) for name, ids in checking.items()} for l in LEVELS},
        "bad": {l: {name: verdict_shares(scores, ids, chosen[l]) for name, (scores, ids) in bad.items()} for l in LEVELS},
    }


def rule_span(text, rule):
    """Where the rule's table stands in a pipeline file."""
    begin = re.search(rf'^\[\[rules\]\]\nname = "{re.escape(rule)}"\n', text, re.M)
    assert begin, f"no rule {rule}"
    end = re.search(r"^(\[|$)", text[begin.end():], re.M)
    return begin.end(), begin.end() + (end.start() if end else len(text))


def with_thresholds(text, wanted, chosen):
    """The file's text with the chosen numbers in place; what stands behind a number on its line stays."""
    for rule, keys in wanted.items():
        begin, end = rule_span(text, rule)
        table = text[begin:end]
        for key in keys:
            table, found = re.subn(rf"^({key} = )[0-9.]+", rf"\g<1>{chosen[rule][key]:g}", table, flags=re.M)
            assert found == 1, f"{rule} has no {key}"
        text = text[:begin] + table + text[end:]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--figures", default=sets.ROOT / "models/tamis-en.report/figures.json")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    chosen = json.loads(open(args.figures, encoding="utf-8").read())["thresholds"]["chosen"]
    differing = 0
    for name, (level, wanted) in FILES.items():
        path = sets.ROOT / name
        old = path.read_text(encoding="utf-8")
        new = with_thresholds(old, wanted, chosen[level])
        if new != old:
            differing += 1
            print(f"{name}: {'written' if args.write else 'differs from the figures; --write puts them there'}")
        if args.write:
            path.write_text(new, encoding="utf-8")
    sys.exit(1 if differing and not args.write else 0)


if __name__ == "__main__":
    main()
