"""The card's figures, one function a section: owns which texts are scored by what, and what is made of the scores.

Each takes the `Bench` and returns plain values for figures.json. Scores are called as tamis calls them, TABLE.signal; higher is worse, but for those
of `HIGHER_IS_BETTER`.
"""
import math
import resource
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

import figures
import sets
from scoring import Tamis, as_lines
from sets import Text
from tokens import Reference, shared_positions

LN2 = math.log(2)
# What is asked whether it tells clean text from bad. `text.*` cost no model at all: what a model adds is what it does beyond them.
SIGNALS = (
    "exact.nll_token", "exact.bpb", "exact.nll_word", "exact.log_rank", "exact.lrr", "exact.entropy",
    "strided.nll_token", "strided.bpb", "unmasked.nll_token", "unmasked.aul_b", "bound.nelbo_token", "bound.bpb",
    "text.english_function_rate", "text.letter_rate",
)
HIGHER_IS_BETTER = ("exact.lrr", "strided.lrr", "text.english_function_rate", "text.letter_rate")
# What the human halves of the machine-text sets are.
HUMAN = {"xsum": "news (XSum)", "squad": "encyclopaedia (SQuAD)", "writing": "stories from the web (WritingPrompts)", "pubmed": "medical answers (PubMedQA)"}
SHORT = ("exact", "strided", "unmasked", "bound", "text")
LONG = ("strided", "unmasked", "text")


@dataclass
class Sizes:
    """How much of each set is scored. The report says each."""

    blimp_pairs: int = 1000  # of each subset: all
    zorro_pairs: int = 150  # of each paradigm, of 2,000
    sentences: int = 200
    passages: int = 1000  # all
    exact_passages: int = 24
    machine_pairs: int = 25  # of each data set and generator
    human_passages: int = 80  # of each data set, those of the pairs not counted
    messages: int = 80  # of each label
    ocr_pairs: int = 1000  # all
    demo_texts: int = 1000  # of each kind: all
    crows_pairs: int = 150  # of 1,508


QUICK = Sizes(blimp_pairs=4, zorro_pairs=3, sentences=10, passages=8, exact_passages=3, machine_pairs=1, human_passages=8, messages=6, ocr_pairs=8, demo_texts=4,
              crows_pairs=6)


@dataclass
class Bench:
    tamis: Tamis
    int8: Tamis | None
    archives: sets.Archives
    reference: Reference
    sizes: Sizes


def column(scores, ids, signal):
    """One signal of many texts, turned so that higher is worse."""
    values = np.array([scores[i].get(signal, math.nan) for i in ids], float)
    return -values if signal in HIGHER_IS_BETTER else values


def separate(scores, clean, bad, paired, signals=SIGNALS):
    """{signal: separation} for every signal that was measured of all those texts."""
    out = {}
    for signal in signals:
        a, b = column(scores, clean, signal), column(scores, bad, signal)
        if not (np.isnan(a).any() or np.isnan(b).any()):
            out[signal] = figures.separation(a, b, paired)
    return out


def minimal_pairs(bench, name, data):
    """Accuracy of the summed exact score: a pair is right if the good sentence's sum is smaller; equal sums count half."""
    subsets, phenomena = {}, defaultdict(list)
    for subset, (phenomenon, pairs) in data.items():
        texts = [Text(f"{i}/{side}", text) for i, pair in enumerate(pairs) for side, text in zip(("good", "bad"), pair)]
        scores = bench.tamis.score(f"{name}-{subset}", texts, ["pairs"])
        total = np.array([scores[t.id]["pairs.nll_token"] * scores[t.id]["pairs.tokens"] for t in texts])
        # Equal sentences, and those of equal sums up to rounding, are ties.
        gap = total[1::2] - total[0::2]
        hits = np.where(np.abs(gap) < 1e-6, 0.5, gap > 0)
        subsets[subset] = dict(figures.accuracy(hits), phenomenon=phenomenon)
        phenomena[phenomenon].append(hits)
    return {
        "mean_over_subsets": figures.mean_accuracy([h for hits in phenomena.values() for h in hits]),
        "phenomena": {p: dict(figures.mean_accuracy(hits), subsets=len(hits), pairs=sum(map(len, hits))) for p, hits in sorted(phenomena.items())},
        "subsets": subsets,
    }


def damaged(kind, texts):
    """Ids and texts: the clean ones, then each damage's copies, `KIND/DAMAGE/NUMBER`."""
    out = {"clean": [Text(f"{kind}/clean/{i}", text) for i, text in enumerate(texts)]}
    for name, damage in sets.damages().items():
        rng = sets.drawn(f"{kind} {name}")
        out[name] = [Text(f"{kind}/{name}/{i}", damage(text, rng)) for i, text in enumerate(texts)]
    return out


def separation_of_damage(bench, kind, texts, tables):
    """({damage: {signal: separation}}, scores, ids of the clean ones)."""
    groups = damaged(kind, texts)
    scores = bench.tamis.score(f"damage-{kind}", [t for group in groups.values() for t in group], tables)
    ids = {name: [t.id for t in group] for name, group in groups.items()}
    found = {name: separate(scores, ids["clean"], ids[name], paired=True) for name in ids if name != "clean"}
    return found, scores, ids["clean"]


def ocr(bench):
    """Real readings of scanned pages against their ground truth, by set and together."""
    pairs = sets.ocr(bench.archives, bench.sizes.ocr_pairs)
    texts = [Text(f"{side}/{i}", text) for i, (_, *both) in enumerate(pairs) for side, text in zip(("ocr", "truth"), both)]
    scores = bench.tamis.score("ocr", texts, SHORT)
    out = {}
    for name in [*sorted({s for s, *_ in pairs}), "all"]:
        at = [i for i, (s, *_) in enumerate(pairs) if name in (s, "all")]
        out[name] = separate(scores, [f"truth/{i}" for i in at], [f"ocr/{i}" for i in at], paired=True)
    return out, scores, [f"truth/{i}" for i in range(len(pairs))]


def spam(bench, clean_scores, clean):
    """Spam against ham (one medium, so that the medium can't decide), and against web sentences (the easier question)."""
    groups = sets.messages(bench.archives, bench.sizes.messages)
    texts = [Text(f"{label}/{i}", text) for label, many in groups.items() for i, text in enumerate(many)]
    scores = bench.tamis.score("sms", texts, SHORT)
    ids = {label: [f"{label}/{i}" for i in range(len(many))] for label, many in groups.items()}
    together = scores | clean_scores
    found = {
        "spam against ham": separate(scores, ids["ham"], ids["spam"], paired=False),
        "spam against web sentences": separate(together, clean, ids["spam"], paired=False),
        "ham against web sentences": separate(together, clean, ids["ham"], paired=False),
    }
    return found, scores, ids


def demo(bench):
    """The demo's own kinds against its prose: boilerplate and the rest, none of it from the training texts."""
    rows = sets.demo(bench.sizes.demo_texts)
    texts = [Text(str(i), text) for i, (*_, text) in enumerate(rows)]
    scores = bench.tamis.score("demo", texts, LONG)
    ids = defaultdict(list)
    for i, (kind, expected, _) in enumerate(rows):
        ids[kind if (kind, expected) not in (("ocr", "pass"), ("ocr", "review")) else "ocr, slight"].append(str(i))
    prose = ids["prose"]
    found = {kind: separate(scores, prose, at, paired=False) for kind, at in sorted(ids.items()) if kind != "prose"}
    return found, scores, dict(ids)


def machine(bench):
    """Machine-made passages against human ones of the same data set. Above 0.5: the machine's score higher (less likely)."""
    data = sets.machine(bench.archives, bench.sizes.machine_pairs)
    texts = {}
    for (source, generator), pairs in data.items():
        for human, made in pairs:
            texts.setdefault(human, f"{source}/human/{len(texts)}")
            texts.setdefault(made, f"{source}/{generator}/{len(texts)}")
    for source, text in sets.human(bench.archives, bench.sizes.human_passages):
        texts.setdefault(text, f"{source}/human/{len(texts)}")
    scores = {}
    for source in sorted({source for source, _ in data}):
        scores |= bench.tamis.score(f"machine-{source}", [Text(i, text) for text, i in texts.items() if i.startswith(f"{source}/")], LONG)
    signals = ("strided.nll_token", "strided.bpb", "strided.log_rank", "strided.lrr", "strided.entropy", "unmasked.aul_b")
    found = {
        f"{source}, {generator}": separate(scores, [texts[h] for h, _ in pairs], [texts[m] for _, m in pairs], paired=True, signals=signals)
        for (source, generator), pairs in sorted(data.items())
    }
    for name in sorted({source for source, _ in data}):
        pooled = [pair for (source, _), pairs in sorted(data.items()) if source == name for pair in pairs]
        found[f"{name}, all"] = separate(scores, [texts[h] for h, _ in pooled], [texts[m] for _, m in pooled], paired=True, signals=signals)
    human = defaultdict(list)
    for text_id in texts.values():
        source, kind, _ = text_id.split("/")
        if kind == "human":
            human[source].append(text_id)
    return found, scores, dict(human)


def bits(scores, ids, table):
    """Bits per byte of some texts. `bpb` is by text; bits are had back through the number of tokens."""
    total = np.array([scores[i][f"{table}.nll_token"] * scores[i][f"{table}.tokens"] / LN2 for i in ids])
    per_byte = np.array([scores[i][f"{table}.bpb"] for i in ids])
    return figures.bits_per_byte(total, total / per_byte)


def strided_against_exact(scores, ids):
    return {
        unit: figures.agreement(column(scores, ids, f"exact.{unit}"), column(scores, ids, f"strided.{unit}")) for unit in ("nll_token", "bpb")
    }


def int8_against_fp32(bench, texts):
    """The two models' exact and strided scores of the same sentences, and what the scores of int8 do by themselves when batches change."""
    tables = ["exact", "strided"]
    full, small = bench.tamis.score("int8-fp32", texts, tables), bench.int8.score("int8-int8", texts, tables)
    again = bench.int8.score("int8-reversed", texts[::-1], tables)  # other neighbours in each batch
    ids = [t.id for t in texts]
    out = {}
    for table in tables:
        signal = f"{table}.nll_token"
        out[table] = figures.agreement(column(full, ids, signal), column(small, ids, signal))
        out[table]["moved_with_the_batch"] = round(float(np.abs(column(small, ids, signal) - column(again, ids, signal)).max()), 4)
    return out


def pace(tamis, texts):
    """Processor seconds that the program takes for these texts, start and all: what other programs do at the time hardly changes it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tamis.run("pace", as_lines(texts), ["strided"], tamis.work / "pace.scores.jsonl")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def calibration(bench, sentences, scores, ids):
    """The model's first choice at each masked token of web sentences: how sure, how often right; and that this module's scores are tamis's."""
    rows = bench.tamis.kept("calibration", sentences, lambda: [bench.reference.masked(bench.reference.ids(t)).tolist() for t in sentences])
    apart = [abs(np.mean(nats) - scores[i]["exact.nll_token"]) for (nats, *_), i in zip(rows, ids)]
    assert max(apart) < 1e-4, f"the reference and tamis differ by {max(apart)} nats a token"
    nats, sure, right = (np.concatenate([row[k] for row in rows]) for k in range(3))
    out = figures.reliability(sure, right)
    out["nats_per_token"] = round(float(nats.mean()), 4)
    out["mean_entropy"] = round(float(np.average([scores[i]["exact.entropy"] for i in ids], weights=[len(n) for n, *_ in rows])), 4)
    out["largest_difference_from_tamis"] = float(f"{max(apart):.1e}")
    return out


def crows(bench):
    """How often the more stereotyping sentence of a pair is the likelier, over the tokens that both share (Nangia et al. 2020)."""
    pairs = sets.crows(bench.archives, bench.sizes.crows_pairs)

    def gaps():
        out = []
        for _, *both in pairs:
            ids = [bench.reference.ids(text) for text in both]
            likely = [-bench.reference.masked(one, at)[0].sum() for one, at in zip(ids, shared_positions(*ids))]
            out.append(round(likely[0], 3) - round(likely[1], 3))
        return out

    hits = defaultdict(list)
    for (kind, *_), gap in zip(pairs, bench.tamis.kept("crows", pairs, gaps)):
        hits[kind].append(0.5 if gap == 0 else float(gap > 0))
    return {"all": figures.accuracy([h for many in hits.values() for h in many]), "by_kind": {k: figures.accuracy(h) for k, h in sorted(hits.items())}}
