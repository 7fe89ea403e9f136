"""Everything that the engine reads at a position, by brute force: the reference for ranks, entropies and odds.

    python tools/reference/readings.py        (rewrites tests/goldens/readings.json; half a minute)

Written from the definitions, in float64 over the logits of onnx's NumPy evaluator, one row at a time, no padding:
logprob = z_x - LSE(z); rank = 1 + #{v: z_v > z_x}; entropy = -sum p log p; max_logprob = max log p;
log_odds = z_x - LSE of all other logits. Natural logarithms.

Passes: one masked token; several; a token and the pieces behind it with only the token scored; nothing masked and everything
scored; everything masked; a masked token with only its neighbours scored. Needs tools/fixtures/requirements.txt.
"""

import json
import random

import numpy as np
from pll import ROOT, Tokens, evaluator

MODELS = "tiny-bert-wordpiece", "tiny-unigram-mask-piece", "tiny-bpe"


def log_sum_exp(values):
    peak = values.max()
    return peak + np.log(np.exp(values - peak).sum())


def reading(logits, x):
    z = logits.astype(np.float64)
    logprobs = z - log_sum_exp(z)
    p = np.exp(logprobs)
    rank = 1 + int((z > z[x]).sum())
    numbers = logprobs[x], -(p * logprobs).sum(), logprobs.max(), z[x] - log_sum_exp(np.delete(z, x))
    logprob, entropy, greatest, odds = (round(float(number), 6) for number in numbers)
    return [logprob, rank, entropy, greatest, odds]


def passes(tokens, drawn):
    content = list(range(1, tokens - 1))
    one, other = drawn.sample(content, 2)
    yield [one], [one]
    yield content[::7], content[::7]
    yield list(range(one, min(one + 4, tokens - 1))), [one]
    yield [], content
    yield content, content
    yield [one], [place for place in (one - 1, one + 1, other) if place in content]


def main():
    cases = []
    for name in MODELS:
        folder = ROOT / "tests" / "fixtures" / "models" / name
        tokens, logits = Tokens(folder), evaluator(folder, "numpy")
        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        drawn = random.Random(name)
        for length in (6, 23):
            ids = tokens.before + [drawn.randrange(5, size) for _ in range(length)] + tokens.after
            for masked, scored in passes(len(ids), drawn):
                row = [tokens.mask if place in masked else index for place, index in enumerate(ids)]
                out = logits(row)
                readings = [reading(out[place], ids[place]) for place in scored]
                cases.append({"model": name, "mask_id": tokens.mask, "ids": ids, "masked": masked, "scored": scored, "readings": readings})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (ROOT / "tests" / "goldens" / "readings.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
