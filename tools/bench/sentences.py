"""Sentences for measurements, of words that the tokenizer of make_model.py knows whole: their tokens are their words."""

import json
import pathlib
import random

SAMPLE = pathlib.Path(__file__).resolve().parents[2] / "pipelines" / "demo" / "sample.jsonl"


def drawn(model, count, shortest, longest, seed=1):
    """`count` sentences of `shortest` to `longest` tokens, the same for the same arguments."""
    vocab = json.loads(pathlib.Path(model, "tokenizer.json").read_text())["model"]["vocab"]
    words = [word for word in vocab if word[0] not in "[#<" and word.isalnum()]
    dice = random.Random(seed)
    return [" ".join(dice.choices(words, k=dice.randint(shortest, longest))) for _ in range(count)]


def sample(count, words=24):
    """The first `count` texts of the demo's sample that are plain English, of books and offices, cut to so many words."""
    lines = [line for line in SAMPLE.read_bytes().splitlines() if line.startswith((b'{"id": "book', b'{"id": "gov'))]
    return [" ".join(json.loads(line)["text"].split()[:words]) for line in lines[:count]]
