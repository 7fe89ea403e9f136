"""The texts that the card's figures rest on: owns reading the evaluation archives, the samples drawn from them, and the damage done to copies.

A text is a `Text`: an id that is unique in its job, and a string. Everything drawn is drawn with a seed made of SEED and a name, so that
one set's sample does not depend on another's, nor on the order of the calls. No text leaves this module's callers but as input to tamis: several
of these sets may be measured with and not passed on (README.md).
"""
import csv
import io
import json
import random
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SEED = 6
ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "pipelines" / "demo"
ARCHIVES = ("blimp-shared20", "zorro", "crows-pairs", "ewt-dev", "fast-detect-half", "ocr-pairs-slice", "sms-half")
NOISE_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,;:'!?-"
NOISE_RATES = (0.05, 0.10, 0.20)
SENTENCE_WORDS = (6, 40)  # of the treebank's sentences: shorter ones say nothing, longer ones are lists
PASSAGE_WORDS = (40, 250)  # of whole web documents, cut at a sentence's end


class Text(NamedTuple):
    id: str
    text: str


def drawn(name):
    """A generator of its own for each purpose."""
    return random.Random(f"{SEED}/{name}")


def sample(items, count, name):
    """`count` of `items` at most, in their order."""
    items = list(items)
    if count >= len(items):
        return items
    return [items[i] for i in sorted(drawn(name).sample(range(len(items)), count))]


class Missing(Exception):
    """An archive of the evaluation folder that is not there."""


class Archives:
    """The folder of `*.tar.xz` that EVAL= names."""

    def __init__(self, folder):
        self.folder = folder
        lost = [name for name in ARCHIVES if not (folder / f"{name}.tar.xz").is_file()]
        if lost:
            raise Missing(f"{folder} lacks {', '.join(f'{name}.tar.xz' for name in lost)}")

    def members(self, archive, wanted=lambda name: True):
        """(name, text) of the archive's files whose name satisfies `wanted`, by name."""
        found = []
        with tarfile.open(self.folder / f"{archive}.tar.xz") as tar:
            for member in tar:
                if member.isfile() and wanted(member.name):
                    found.append((member.name, tar.extractfile(member).read().decode("utf-8")))
        return sorted(found)

    def rows(self, archive):
        """The objects of an archive's one JSONL file."""
        [(_, text)] = self.members(archive, lambda name: name.endswith(".jsonl"))
        return [json.loads(line) for line in text.splitlines()]


def blimp(archives, pairs):
    """{subset: (phenomenon, [(good, bad)])}; at most `pairs` of each subset, the first ones."""
    out = {}
    for name, text in archives.members("blimp-shared20", lambda n: n.endswith(".jsonl")):
        rows = [json.loads(line) for line in text.splitlines()][:pairs]
        out[Path(name).stem] = (rows[0]["linguistics_term"], [(r["sentence_good"], r["sentence_bad"]) for r in rows])
    return out


def zorro(archives, pairs):
    """{paradigm: (phenomenon, [(good, bad)])}. Odd lines are the bad sentences."""
    out = {}
    for name, text in archives.members("zorro", lambda n: n.endswith(".txt")):
        lines = text.splitlines()
        stem = Path(name).stem
        out[stem] = (stem.split("-")[0], list(zip(lines[1::2], lines[0::2]))[:pairs])
    return out


def crows(archives, count):
    """[(bias type, the more stereotyping sentence, the less)], at most `count`."""
    [(_, text)] = archives.members("crows-pairs", lambda n: n.endswith(".csv"))
    rows = csv.DictReader(io.StringIO(text))
    return sample([(r["bias_type"], r["sent_more"], r["sent_less"]) for r in rows], count, "crows")


def web_sentences(archives, count):
    """Sentences of the English Web Treebank, [(genre, text)]."""
    rows = [r for r in archives.rows("ewt-dev") if SENTENCE_WORDS[0] <= len(r["text"].split()) <= SENTENCE_WORDS[1]]
    return [(r["genre"], r["text"]) for r in sample(rows, count, "web sentences")]


def web_passages(archives, count):
    """Whole documents of the treebank, [(genre, text)]: sentences joined by spaces, up to the longest length, if at least the shortest; at most `count`."""
    documents = defaultdict(list)
    for r in archives.rows("ewt-dev"):
        documents[r["genre"], r["id"].rsplit("-", 1)[0]].append(r["text"])
    out = []
    for (genre, _), sentences in documents.items():
        taken, words = [], 0
        for sentence in sentences:
            size = len(sentence.split())
            if words + size > PASSAGE_WORDS[1]:
                break
            taken.append(sentence)
            words += size
        if words >= PASSAGE_WORDS[0]:
            out.append((genre, " ".join(taken)))
    return sample(out, count, "web passages")


def machine(archives, count):
    """{(data set, generator): [(human passage, machine passage)]}, at most `count` each."""
    out = {}
    for name, text in archives.members("fast-detect-half", lambda n: n.endswith(".raw_data.json")):
        data = json.loads(text)
        source, generator = Path(name).name.removesuffix(".raw_data.json").split("_", 1)
        out[source, generator] = sample(zip(data["original"], data["sampled"]), count, f"machine {source} {generator}")
    return out


def human(archives, count):
    """[(data set, passage)]: human passages of the machine-text sets but the short medical ones, at most `count` different ones of each."""
    passages = defaultdict(dict)
    for (source, _), pairs in machine(archives, 1 << 30).items():
        if source != "pubmed":
            passages[source] |= {text: None for text, _ in pairs}
    return [(source, text) for source, texts in sorted(passages.items()) for text in sample(texts, count, f"human {source}")]


def ocr(archives, count):
    """[(set, OCR's reading, ground truth)], the first `count`."""
    return [(r["set"], r["ocr"], r["gt"]) for r in archives.rows("ocr-pairs-slice")][:count]


def messages(archives, count):
    """{"ham": texts, "spam": texts} of the SMS set, at most `count` each."""
    rows = archives.rows("sms-half")
    return {label: sample((r["text"] for r in rows if r["label"] == label), count, f"sms {label}") for label in ("ham", "spam")}


def demo(count):
    """[(kind, expected verdict, text)] of the demo's sample, at most `count` of each kind, without what can't be decoded or holds no text."""
    labels = [line.split("\t") for line in (DEMO / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    out = []
    for line, (_, _, expected, kind, _) in zip((DEMO / "sample.jsonl").read_bytes().splitlines(), labels, strict=True):
        try:
            text = json.loads(line.decode("utf-8"))["text"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(text, str) and text.strip() and sum(k == kind for k, *_ in out) < count:
            out.append((kind, expected, text))
    return out


def shuffle_words(text, rng):
    """The same words in another order."""
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def noise_characters(text, rng, rate):
    """Each character with chance `rate` replaced by a random lower-case letter, digit or sign."""
    return "".join(rng.choice(NOISE_ALPHABET) if rng.random() < rate else c for c in text)


def damages():
    """{name: function(text, rng)} of the damage done to clean text."""
    out = {"words shuffled": shuffle_words}
    for rate in NOISE_RATES:
        out[f"{rate:.0%} of characters replaced"] = lambda text, rng, rate=rate: noise_characters(text, rng, rate)
    return out


def say_missing(reason):
    """What a machine without the data is told; ends the program with 65, as tamis does for input it can't open."""
    print(
        f"model-card: {reason}\n"
        "The evaluation sets are not part of this repository: some of them may be measured with and not passed on. Put the archives into one folder\n"
        "and say which: make model-card EVAL=FOLDER. tools/card/README.md says what each must hold and where it is from.",
        file=sys.stderr,
    )
    sys.exit(65)
