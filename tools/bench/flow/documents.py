"""The documents of `make bench-flow`, out of the demo's sample and reproducible by seed."""

import json
import pathlib
import random

import tokenizers
from confluent_kafka import Producer

ROOT = pathlib.Path(__file__).resolve().parents[3]


def texts():
    """The words of the demo's English texts."""
    found = []
    for line in (ROOT / "pipelines/demo/sample.jsonl").read_bytes().splitlines():
        try:
            found.append(json.loads(line).get("text"))
        except (ValueError, AttributeError):  # the sample has bad records, too
            pass
    return [text.split() for text in found if isinstance(text, str) and text.isascii() and len(text.split()) > 60]


def large(count, size, seed, distinct=None):
    """`count` JSON documents of about `size` bytes, of `distinct` different texts (as many as documents if not said)."""
    rng, sources, known = random.Random(seed), texts(), []
    for number in range(count):
        if distinct is None or len(known) < distinct:
            text = f"{rng.randrange(10**9)}"
            while len(text) < size - 40:
                words = rng.choice(sources)
                at = rng.randrange(len(words) - 50)
                text += " " + " ".join(words[at : at + 50])
            text = text[: size - 40]
            if distinct is not None:
                known.append(text)
        else:
            text = known[number % distinct]
        yield f"doc-{number:08}", json.dumps({"id": f"doc-{number:08}", "text": text}).encode()


def small(count, seed, tokens, model):
    """`count` different documents, each of which fits one window of `tokens`."""
    rng, sources, seen, made = random.Random(seed), texts(), set(), 0
    tokenizer = tokenizers.Tokenizer.from_file(str(ROOT / model / "tokenizer.json"))
    tokenizer.no_truncation()
    while made < count:
        words = rng.choice(sources)
        length = rng.randrange(25, 60)
        if len(words) <= length:
            continue
        at = rng.randrange(len(words) - length)
        text = " ".join(words[at : at + length])
        if rng.random() < 0.2:
            shuffled = text.split()
            rng.shuffle(shuffled)
            text = " ".join(shuffled)
        if text in seen or len(tokenizer.encode(text).ids) > tokens:
            continue
        seen.add(text)
        yield f"doc-{made:08}", json.dumps({"id": f"doc-{made:08}", "text": text}).encode()
        made += 1


def fill(brokers, topic, documents, partitions):
    """Produces them, dealt out over the partitions; how many."""
    producer = Producer(
        {"bootstrap.servers": brokers, "compression.type": "zstd", "linger.ms": 50, "queue.buffering.max.messages": 1000000, "acks": "all"}
    )
    count, failed = 0, []
    report = lambda error, _: error and failed.append(error)
    for key, value in documents:
        while True:
            try:
                producer.produce(topic, key=key, value=value, partition=count % partitions, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if count % 1000 == 0:
            producer.poll(0)
    producer.flush()
    if failed:
        raise SystemExit(f"the input could not be produced: {failed[0]}")
    return count
