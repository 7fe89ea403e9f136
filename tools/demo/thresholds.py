"""Owns the choice of the demo's threshold: reads what `tamis score` printed for the sample, and the labels.

usage: tamis score pipelines/demo/demo.toml --input pipelines/demo/sample.jsonl > scores.jsonl
       tools/demo/thresholds.py scores.jsonl [pipelines/demo/labels.tsv]

For each signal it prints the single maximum that agrees best with the labels, the agreement there by kind of text, and the agreement with
a review band below it. Undecodable lines count as they went. The threshold is fitted on the sample that it is then shown on, so
the agreement is an upper bound of what one maximum can do, not a forecast for other text.
"""

import collections
import json
import sys


def main():
    scores = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    path = sys.argv[2] if len(sys.argv) > 2 else "pipelines/demo/labels.tsv"
    labels = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8") if not line.startswith("#")]
    expected = {int(row[0]): (row[2], row[3]) for row in labels}
    names = sorted({n for s in scores for n in s["signals"] if n.startswith("pll.") and isinstance(s["signals"][n], float)})
    for name in names:
        rows = []
        for number, score in enumerate(scores, 1):
            value = score["signals"].get(name)
            fixed = score["verdict"] if value is None else None
            rows.append((value, fixed, *expected[number]))

        def route(value, fixed, top, review):
            if fixed is not None:
                return fixed
            return "fail" if value > top else "review" if value > review else "pass"

        def agreed(top, review):
            return sum(route(v, f, top, review) == label for v, f, label, _ in rows)

        cuts = sorted({round(v, 3) for v, *_ in rows if v is not None})
        best = max(cuts, key=lambda cut: agreed(cut, cut))
        band = max(((t, r) for t in cuts for r in cuts if r <= t and t - r <= 0.15 * t), key=lambda c: agreed(*c), default=(best, best))
        kinds = collections.Counter(k for *_, k in rows)
        right = collections.Counter(k for v, f, label, k in rows if route(v, f, best, best) == label)
        print(f"{name}: max {best} agrees on {agreed(best, best)} of {len(rows)} ({agreed(best, best) / len(rows):.1%}); "
              f"with review_above {band[1]} and max {band[0]}: {agreed(*band)}")
        print("    " + "  ".join(f"{k} {right[k]}/{n}" for k, n in sorted(kinds.items())))


main()
