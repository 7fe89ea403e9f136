#!/usr/bin/env python3
"""Owns the measurement of evasion: what happens to verdicts when the texts of a sample are disguised.

Scores a sample as it is and under each disguise, with the rules of a pipeline file, and prints a table: how far the first rule's signal moves, which
share of the documents that passed pass no more, and which share of those that failed pass now. Everything is seeded: the same sample and the same model
give the same table. Standard library only.

    tools/security/evasion.py --tamis target/release/tamis            the demo's sample and rules, without and with the normaliser
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Letters that look the same in nearly every typeface.
CYRILLIC = dict(zip("aceopxyijshdqwABEKMHOPCTXISJ", "асеорхуіјѕһԁԛԝАВЕКМНОРСТХІЅЈ"))
GREEK = dict(zip("ovaupiABEZHIKMNOPTYX", "οναυριΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"))
FLUENT = (
    "The committee met on Tuesday to discuss the annual budget. Several members asked for more time to read the report. "
    "After a short break the chairman thanked everyone for their patience. It was agreed to meet again in the spring. "
    "The minutes of the meeting will be sent to all members by the end of the week. "
)
KEYWORDS = "cheap flights best hotel deals buy online free shipping discount price reviews insurance loans casino weight loss "


def some(text, share, rng, change):
    return "".join(change(c) if c.isalpha() and rng.random() < share else c for c in text)


def cycle(words, length):
    return (words * (length // len(words) + 1))[:length]


def full_width(c):
    return chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c


def mathematical(c):
    if "a" <= c <= "z":
        return chr(0x1D41A + ord(c) - ord("a"))
    return chr(0x1D400 + ord(c) - ord("A")) if "A" <= c <= "Z" else c


DISGUISES = {
    "none": lambda t, r: t,
    "Cyrillic lookalikes, 1 letter in 10": lambda t, r: some(t, 0.1, r, lambda c: CYRILLIC.get(c, c)),
    "Cyrillic lookalikes, every letter that has one": lambda t, r: some(t, 1, r, lambda c: CYRILLIC.get(c, c)),
    "Greek lookalikes, 1 letter in 10": lambda t, r: some(t, 0.1, r, lambda c: GREEK.get(c, c)),
    "zero-width spaces, behind 1 letter in 10": lambda t, r: some(t, 0.1, r, lambda c: c + "\u200b"),
    "soft hyphens, behind 1 letter in 10": lambda t, r: some(t, 0.1, r, lambda c: c + "\u00ad"),
    "full-width letters, all": lambda t, r: "".join(map(full_width, t)),
    "mathematical bold letters, 1 in 10": lambda t, r: some(t, 0.1, r, mathematical),
    "digits for letters (o→0, l→1, e→3), 1 letter in 10": lambda t, r: some(t, 0.1, r, lambda c: {"o": "0", "l": "1", "e": "3"}.get(c, c)),
    "keywords appended, a quarter of the length": lambda t, r: t + " " + cycle(KEYWORDS, len(t) // 4),
    "fluent boilerplate before and behind, as long as the text": lambda t, r: cycle(FLUENT, len(t) // 2) + " " + t + " " + cycle(FLUENT, len(t) // 2),
    "fluent boilerplate behind, four times as long": lambda t, r: t + " " + cycle(FLUENT, 4 * len(t)),
}


def verdicts(tamis, pipeline, lines, sets):
    """What `tamis score` says of each line."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as sample:
        sample.writelines(lines)
        sample.flush()
        command = [tamis, "score", str(pipeline), "--input", sample.name, *(w for s in sets for w in ("--set", s))]
        out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return [json.loads(line) for line in out.splitlines()]


def document(line):
    """The document of a line, or None: the sample holds lines that are none."""
    try:
        found = json.loads(line)
        return found if isinstance(found["text"], str) and found["text"] else None
    except (ValueError, KeyError, TypeError):
        return None


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--tamis", default=str(ROOT / "target/release/tamis"))
    ask.add_argument("--pipeline", default=ROOT / "pipelines/demo/demo.toml")
    ask.add_argument("--sample", default=ROOT / "pipelines/demo/sample.jsonl")
    ask.add_argument("--signal", default="pll.bpb")
    ask.add_argument("--documents", type=int, default=200, help="the first so many")
    ask.add_argument("--characters", type=int, default=500, help="of each, the first so many")
    ask.add_argument("--normalize", nargs="*", default=["none", "nfkc", "lookalikes"])
    ask.add_argument("--also", nargs="*", default=["rules.word-order.signal=pll.worst_decile"], help="settings of one table more")
    a = ask.parse_args()
    documents = [d for d in map(document, open(a.sample, "rb")) if d][: a.documents]
    lines = []
    for name, disguise in DISGUISES.items():
        rng = random.Random(name)
        lines += [json.dumps({**d, "text": disguise(d["text"][: a.characters], rng)}) + "\n" for d in documents]
    n = len(documents)
    tables = [[f"document.normalize={how}"] for how in a.normalize]
    if a.also:
        tables.append([*tables[-1], *a.also])
    # One cache for all tables: a text that comes out the same is scored once.
    with tempfile.TemporaryDirectory() as cache:
        for sets in tables:
            rows = verdicts(a.tamis, a.pipeline, lines, [f"cache.path={cache}", *sets])
            assert len(rows) == len(lines), (len(rows), len(lines))
            table(", ".join(sets), a.signal, rows, n)


def share(part, whole):
    return f"{part}/{whole} ({100 * part / whole:.0f} %)" if whole else "–"


def table(title, signal, rows, n):
    """Each disguise's rows against those without."""
    plain = rows[:n]
    passed = [i for i in range(n) if plain[i]["verdict"] == "pass"]
    failed = [i for i in range(n) if plain[i]["verdict"] == "fail"]
    print(f"\n{title}: {n} documents, of which {len(passed)} pass and {len(failed)} fail undisguised\n")
    print(f"| disguise | {signal}, mean change | pass → not pass | fail → pass |\n|---|---|---|---|")
    for at, name in enumerate(DISGUISES):
        changed = rows[at * n : (at + 1) * n]
        pairs = [(p["signals"].get(signal), c["signals"].get(signal)) for p, c in zip(plain, changed)]
        moves = [c - p for p, c in pairs if p is not None and c is not None]
        lost = sum(changed[i]["verdict"] != "pass" for i in passed)
        won = sum(changed[i]["verdict"] == "pass" for i in failed)
        print(f"| {name} | {sum(moves) / max(len(moves), 1):+.2f} | {share(lost, len(passed))} | {share(won, len(failed))} |", flush=True)


if __name__ == "__main__":
    main()
