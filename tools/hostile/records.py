"""What a hostile producer writes: records of every bad kind, reproducible by seed. Nothing here is random beyond `random.Random(seed)`.

A record is a dictionary: `key`, `value` (bytes or None) and `headers` (pairs of text and bytes or None).
"""

import json
import random

MIB = 1024 * 1024
WORDS = "the committee met on tuesday to discuss annual budget river was high after three days of rain she opened window".split()
# Right-to-left letters and overrides, isolates, marks without width, variation selectors, combining marks, tags.
STRANGE = [
    "\u202e", "\u202d", "\u2066", "\u2067", "\u2069", "\u200f", "\u061c", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f",
    "\ufe0f", "\u0301", "\u0335", "\u20dd", "\U000e0041", "\U000e007f", "שלום", "مرحبا", "ก็็็็", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "𝓗", "ﬃ", "Å", "ǆ",
    "\ufffd", "\uffff", "\U0010ffff", "\u0000", "\u001b[2J", "\u2028", "\u0085", "İ", "ß",
]
SPECIALS = ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "##", "▁", "Ġ"]


def sentence(rng, most=12):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, most)))


def plain(rng):
    return json.dumps({"id": str(rng.randrange(10**6)), "text": sentence(rng), "language": rng.choice(["en", "de", "xx", ""])}).encode()


def noise(rng):
    return rng.randbytes(rng.randrange(0, 300))


def noise_in_json(rng):
    return b'{"text": "' + rng.randbytes(rng.randrange(0, 100)) + b'"}'


def any_characters(rng):
    characters = []
    for _ in range(rng.randrange(0, 80)):
        point = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])
        characters.append(chr(point if not 0xD800 <= point < 0xE000 else 0x41))
    return json.dumps({"text": "".join(characters)}, ensure_ascii=rng.random() < 0.5).encode()


def strange(rng):
    parts = [rng.choice(STRANGE) if rng.random() < 0.5 else rng.choice(WORDS) for _ in range(rng.randrange(1, 30))]
    return json.dumps({"text": rng.choice(["", " "]).join(parts), "id": rng.choice(STRANGE)}).encode()


def specials(rng):
    parts = [rng.choice(SPECIALS) if rng.random() < 0.6 else rng.choice(WORDS) for _ in range(rng.randrange(1, 30))]
    return json.dumps({"text": rng.choice(["", " "]).join(parts)}).encode()


def deep(rng):
    depth = rng.choice([10, 100, 126, 127, 128, 129, 1_000, 20_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"text":', b"}")])
    nest = opening * depth + b"1" + (closing * depth if rng.random() < 0.8 else b"")
    return rng.choice([nest, b'{"other":' + nest + b',"text":"the river was high"}', b'{"text":' + nest + b"}"])


def numbers(rng):
    number = rng.choice([b"1e999999999", b"-1e400", b"1" * 400, b"0." + b"0" * 400 + b"1", b"9223372036854775808", b"-0", b"1E+", b"0x10", b"NaN", b"Infinity", b"01"])
    return rng.choice([b'{"id":' + number + b',"text":"three days of rain"}', b'{"text":' + number + b"}", number])


def surrogates(rng):
    escape = rng.choice([b"\\ud800", b"\\udfff", b"\\ud800\\ud800", b"\\udc00\\ud800", b"\\ud83d\\ude00", b"\\u00", b"\\ud83d x", b"\\uD8\xff"])
    return b'{"text": "a letter ' + escape + b' arrived"}'


def nuls(rng):
    return rng.choice([b'{"text": "the\x00river"}', b'{"text": "the\\u0000river"}', b"\x00" * rng.randrange(1, 200), b'\x00{"text":"x"}', b'{"text":"x"}\x00'])


def shapes(rng):
    return rng.choice(
        [
            b"", b" ", b"null", b"true", b"[]", b"{}", b'""', b'{"text":null}', b'{"text":[]}', b'{"text":true}', b'{"text":""}', b'{"text":" \\n\\t "}',
            b'\xef\xbb\xbf{"text":"a mark before it"}', b'\xef\xbb\xbf\xef\xbb\xbf{"text":"two"}', b'{"text":"one","text":"two"}', b'{"text":"one","text":null}',
            b'{"text":"a"}{"text":"b"}', b'{"text":"a"},', b'{"text":"a"', b'{"text":"a', b"{'text':'a'}", b'{"text":"a\\x"}', b'{"TEXT":"a"}', b'[{"text":"a"}]',
            b'{"text":"line\nbreak"}', b'{"text":"tab\there"}', b'{"id":{},"language":[],"source":1,"text":"odd labels"}', b'{"text":"\xc0\xaf overlong"}',
            b'{"text":"\xed\xa0\x80 surrogate in UTF-8"}', b'{"text":"\xf4\x90\x80\x80 beyond"}', b'{"id":"' + b"x" * 5000 + b'","text":"a long id"}',
        ]
    )


def long_word(rng):
    letter = rng.choice(["a", "é", "字", "\u0301", "𝓗", "ab", "a\u200b", "#"])
    return json.dumps({"text": letter * rng.randrange(500, 8_000)}).encode()


def full_stops(rng):
    """Full stops before long runs of what sentences may end with, and before what leaves open whether they do (UAX #29, rule SB8)."""
    tail = rng.choice([" ", ")", "\u3000", "»", ") ", ")\u0301", " \u00ad", " 1", ")1", ",", "+", ". ", ".)", "? "])
    return json.dumps({"text": "the river was high." + tail * rng.randrange(500, 8_000) + rng.choice(["", "a", "A", "1"])}).encode()


def many_members(rng):
    return json.dumps({f"k{n}": n for n in range(rng.randrange(500, 3_000))} | {"text": sentence(rng)}).encode()


KINDS = [
    (plain, 30), (noise, 9), (noise_in_json, 6), (any_characters, 9), (strange, 10), (specials, 6), (deep, 3), (numbers, 6), (surrogates, 6), (nuls, 5),
    (shapes, 9), (long_word, 0.6), (many_members, 0.4), (full_stops, 0.4),
]


def headers(rng):
    """Mostly none; else repeated, empty, huge, null, and those that pretend to be ours."""
    if rng.random() < 0.8:
        return []
    kinds = [
        lambda: ("", b"no name"), lambda: ("null", None), lambda: ("tamis-verdict", b"pass"), lambda: ("tamis-source", b"forged/0/0"),
        lambda: ("tamis-error", b"\xff\xfe"), lambda: ("x" * rng.randrange(1, 2_000), rng.randbytes(20)), lambda: ("bytes", rng.randbytes(rng.randrange(0, 400))),
        lambda: ("שלום\u202e", b"v"), lambda: ("line\nbreak\r", b"v"),
    ]
    found = [rng.choice(kinds)() for _ in range(rng.choice([1, 1, 2, 5]))]
    return found * rng.choice([1, 1, 1, 60])


def key(rng):
    return rng.choice([None, b"", b"k%d" % rng.randrange(1000), rng.randbytes(rng.randrange(1, 40))])


def monsters(mib):
    """Documents of one word of about `mib` MiB (10 is the most that a pipeline takes by default): letters, a letter with marks, wide characters; one
    of a hundred thousand long words; a full stop before nothing but spaces, and before brackets; and one too large."""
    largest = mib * MIB - 64
    pieces = [("a", largest), ("\u0301", largest // 2), ("字", largest // 3), ("a" * 99 + " ", largest // 100)]
    pieces += [(" ", largest - 2), (")", largest - 2), ("x", 10 * MIB + 64)]
    for piece, count in pieces:
        text = ("a." if piece in " )" else "") + piece * count
        yield {"key": b"monster", "headers": [], "value": json.dumps({"text": text}, ensure_ascii=False).encode()}


def stream(count, seed):
    """`count` records, of which one in 300 is a deletion, with or without a key."""
    rng = random.Random(seed)
    makers, weights = zip(*KINDS)
    for made in range(count):
        if made % 300 == 299:
            yield {"key": key(rng), "value": None, "headers": headers(rng)}
        else:
            maker = rng.choices(makers, weights)[0]
            yield {"key": key(rng), "value": maker(rng), "headers": headers(rng)}


def wire(count, seed):
    """Records whose headers no client library would write, as `tests/it/referee.py wire` takes them: names of any bytes, now and then very long ones; and
    tens of thousands of headers without a byte in them (those pass, if nothing else is wrong; more than 100,000 no librdkafka reads)."""
    rng = random.Random(seed)
    for made in range(count):
        headers = [[rng.choice([b"\xff\xfe", b"nul\x00led", b"\x00", rng.randbytes(rng.randrange(1, 30))]).hex(), rng.choice(["", "00ff", None])]]
        if made % 20 == 7:
            headers = [["ff" * rng.randrange(1_000, 250_000), None]]
        elif made % 20 == 13:
            headers = [["", None]] * rng.randrange(10_000, 90_000) + headers * rng.choice([0, 1])
        yield {"key": b"wire".hex(), "value": plain(rng).hex(), "headers": headers}
