#!/usr/bin/env python3
"""Put the demo sample together from the parts beside this script.

usage: build_sample.py [OUTPUT_DIR]          (default: ../../pipelines/demo)

Reads parts/, writes sample.jsonl and labels.tsv, always the same bytes. Damage that a
program can do (shuffling, wrong decoding, noise) is done here, with a seed for each
document; everything else was chosen or written by hand. Standard library only.
"""
import base64
import codecs
import json
import quopri
import random
import re
import sys
import urllib.parse
import zlib
from pathlib import Path

HERE = Path(__file__).parent
PARTS = HERE / "parts"
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent.parent / "pipelines" / "demo"
MAX_LINE = 4096
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789#%&*+=<>?@^~|{}[]/"


# ---- damage -------------------------------------------------------------------------

def sentences(text):
    return re.findall(r"[^.!?]+[.!?]*[\"'”’]*\s*", text)


def shuffle_all(text, rng):
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def shuffle_in_sentences(text, rng):
    """Words change places inside each sentence; capital and full stop stay where they were."""
    out = []
    for s in sentences(text):
        m = re.match(r"(.*?)([.!?]*[\"'”’]*)\s*$", s.strip(), re.S)
        words = m.group(1).split()
        rng.shuffle(words)
        line = " ".join(words)
        out.append(line[:1].upper() + line[1:] + m.group(2))
    return " ".join(out)


def shuffle_windows(text, rng, size=6):
    words = text.split()
    out = []
    for i in range(0, len(words), size):
        w = words[i:i + size]
        rng.shuffle(w)
        out += w
    return " ".join(out)


def shuffle_chunks(text, rng, size=3):
    words = text.split()
    chunks = [words[i:i + size] for i in range(0, len(words), size)]
    rng.shuffle(chunks)
    return " ".join(" ".join(c) for c in chunks)


def sort_words(text, rng):
    return " ".join(sorted(text.split(), key=str.lower))


def reverse_words(text, rng):
    return " ".join(text.split()[::-1])


def every_other(text, rng, other):
    a, b = text.split(), other.split()
    return " ".join(w for pair in zip(a, b) for w in pair)


def wrong_codec(text, times=1):
    """UTF-8 bytes read as Windows-1252, as many times over as asked."""
    for _ in range(times):
        text = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in text.encode())
    return text


def noise(share):
    def f(text, rng):
        out = []
        for c in text:
            x = rng.random()
            if x < share * .6:
                out.append(rng.choice(ALPHABET))
            elif x < share * .8:
                out.append(c + rng.choice(ALPHABET))
            elif x >= share:
                out.append(c)
        return "".join(out)
    return f


def swap_letters(text, rng):
    def word(m):
        w = list(m.group())
        if len(w) > 3:
            mid = w[1:-1]
            rng.shuffle(mid)
            w[1:-1] = mid
        return "".join(w)
    return re.sub(r"[A-Za-z]+", word, text)


def move_spaces(text, rng):
    letters = text.replace(" ", "").replace("\n", "")
    out, i = [], 0
    while i < len(letters):
        n = rng.randint(2, 8)
        out.append(letters[i:i + n])
        i += n
    return " ".join(out)


def homoglyphs(text, rng):
    return text.translate(str.maketrans("aceopxyABEHKMOPCTX", "асеорхуАВЕНКМОРСТХ"))


def digits_for_letters(text, rng):
    return text.lower().translate(str.maketrans("aeiostlg", "43105719"))


def drop_vowels(text, rng):
    return re.sub(r"[aeiouAEIOU]", "", text)


def half_lines(text, rng, other):
    """The left halves of one page beside the right halves of another."""
    def wrap(t, w=58):
        lines, line = [], ""
        for word in t.split():
            if len(line) + len(word) > w:
                lines.append(line)
                line = ""
            line = (line + " " + word).strip()
        return lines + [line]
    return "\n".join(a[:26] + b[31:] for a, b in zip(wrap(text), wrap(other)))


def utf16_misread(text, rng):
    raw = text.encode("ascii", "ignore")
    return raw[:len(raw) & ~1].decode("utf-16-le", "ignore")


def packed(text, rng):
    """Compressed bytes taken for Latin-1 text."""
    return zlib.compress(text.encode(), 9).decode("latin-1")


def random_unicode(text, rng):
    ranges = [(0x21, 0x7e), (0xa1, 0x24f), (0x370, 0x3ff), (0x2190, 0x23ff), (0x2500, 0x25ff), (0x1f300, 0x1f5ff)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) if rng.random() > .12 else " " for _ in range(260))


def b64(text, rng):
    return "\n".join(re.findall(".{1,76}", base64.b64encode(text.encode()).decode()))


SHUFFLED = [  # (damage, what it is, passages needed)
    *[(shuffle_all, "all words shuffled", 1)] * 10,
    *[(shuffle_in_sentences, "words shuffled inside each sentence", 1)] * 6,
    *[(shuffle_windows, "words shuffled in runs of six", 1)] * 3,
    *[(shuffle_chunks, "runs of three words shuffled", 1)] * 2,
    (sort_words, "words in alphabetical order", 1),
    (reverse_words, "words in reverse order", 1),
    *[(every_other, "words of two passages taken in turn", 2)] * 2,
]
GARBLED = [
    (lambda t, r: wrong_codec(t, 2), "UTF-8 read as Windows-1252 twice", "curly"),
    (lambda t, r: wrong_codec(t, 3), "UTF-8 read as Windows-1252 three times", "curly"),
    (lambda t, r: wrong_codec(t, 4), "UTF-8 read as Windows-1252 four times", "curly"),
    (lambda t, r: wrong_codec(t, 1), "Finnish, UTF-8 read as Windows-1252", "foreign:Finnish: hand"),
    (lambda t, r: wrong_codec(t, 2), "French, UTF-8 read as Windows-1252 twice", "foreign:French: La"),
    (lambda t, r: t.encode("cp1251", "ignore").decode("latin-1"), "Russian, Windows-1251 read as Latin-1", "foreign:Russian"),
    (utf16_misread, "ASCII read as UTF-16", 1),
    (utf16_misread, "ASCII read as UTF-16", 1),
    (lambda t, r: t.encode("cp500", "ignore").decode("cp1252", "ignore"), "EBCDIC read as Windows-1252", 1),
    (packed, "compressed bytes read as Latin-1", 1),
    (packed, "compressed bytes read as Latin-1", 1),
    (random_unicode, "random code points", 0),
    (lambda t, r: re.sub(r"\s", "", t), "all spaces lost", 1),
    (lambda t, r: re.sub(r"\s", "", t), "all spaces lost", 1),
    (lambda t, r: re.sub(r"[^a-z]", "", t.lower()), "spaces, capitals and punctuation lost", 1),
    (lambda t, r: " ".join(t[:420]), "a space after every letter", 1),
    (lambda t, r: " ".join(t[:420]).upper(), "a space after every letter, capitals", 1),
    (move_spaces, "spaces in the wrong places", 1),
    (move_spaces, "spaces in the wrong places", 1),
    (noise(.10), "one character in ten wrong", 1),
    (noise(.15), "15% of the characters wrong", 1),
    (noise(.20), "one character in five wrong", 1),
    (noise(.25), "a quarter of the characters wrong", 1),
    (noise(.30), "30% of the characters wrong", 1),
    (noise(.12), "12% of the characters wrong", 1),
    (lambda t, r: codecs.encode(t, "rot13"), "ROT13", 1),
    (lambda t, r: codecs.encode(t, "rot13").upper(), "ROT13, capitals", 1),
    (b64, "Base64", 1),
    (b64, "Base64", 1),
    (lambda t, r: quopri.encodestring(t.encode("utf-16-le")).decode()[:1200], "quoted-printable UTF-16", 1),
    (lambda t, r: urllib.parse.quote_plus(t, safe="").replace("e", "%65")[:900], "percent-encoded", 1),
    (lambda t, r: t[::-1], "letters in reverse order", 1),
    (drop_vowels, "vowels lost", 1),
    (digits_for_letters, "digits for letters", 1),
    (homoglyphs, "Cyrillic look-alikes for Latin letters", 1),
    (swap_letters, "letters swapped inside the words", 1),
    (swap_letters, "letters swapped inside the words", 1),
    (half_lines, "left and right halves of two pages joined", 2),
    (half_lines, "left and right halves of two pages joined", 2),
]

# ---- parts --------------------------------------------------------------------------


def jsonl(name):
    return [json.loads(x) for x in open(PARTS / name, encoding="utf-8")]


def blocks(name):
    """[(title, text)] of a file of `### title` blocks."""
    out = []
    for block in open(PARTS / name, encoding="utf-8").read().split("### ")[1:]:
        title, text = block.split("\n", 1)
        out.append((title, text.strip("\n")))
    return out


def record(key, text, source):
    return json.dumps({"id": key, "text": text, "language": "en", "source": source},
                      ensure_ascii=False).encode()


def main():
    docs = []  # (line, id, expected, kind, note)

    def add(key, text, source, expected, kind, note):
        docs.append((record(key, text, source), key, expected, kind, note))

    passages = {p["key"]: p for p in jsonl("passages.jsonl")}
    for key, p in passages.items():
        if p["use"] == "prose":
            note = "US government prose" if p["group"] == "gov" else "book"
            if "peps/" in p["source"]:
                note = "technical prose"
            elif "state_union" in p["source"]:
                note = "speech"
            add(key, p["text"], p["source"], "pass", "prose", note)

    read = {p["key"]: p for p in jsonl("ocr.jsonl")}
    for line in open(PARTS / "ocr_labels.tsv", encoding="utf-8"):
        if line.startswith("#"):
            continue
        key, expected, note = line.rstrip("\n").split("\t")
        if expected != "omit":
            add(key, read[key]["text"], read[key]["source"], expected, "ocr", note)

    spare = [p for p in passages.values() if p["use"] == "base"]
    foreign = blocks("foreign.txt")
    curly = [p for p in spare if sum(p["text"].count(c) for c in "‘’“”—–") >= 4]
    for p in curly[:3]:
        spare.remove(p)
    for n, (damage, note, need) in enumerate(SHUFFLED, 1):
        took = [spare.pop(0) for _ in range(need)]
        key = f"shuffled-{n:03d}"
        text = damage(took[0]["text"], random.Random(key), *[p["text"] for p in took[1:]])
        add(key, text, took[0]["source"], "fail", "shuffled", note)
    for n, (damage, note, need) in enumerate(GARBLED, 1):
        key = f"garbled-{n:03d}"
        rng = random.Random(key)
        if need == "curly":
            p = curly.pop(0)
            text, source = damage(p["text"], rng), p["source"]
        elif isinstance(need, str):
            title = need.split(":", 1)[1]
            text, source = damage(next(t for name, t in foreign if name.startswith(title)), rng), "tamis demo"
        elif need == 0:
            text, source = damage("", rng), "tamis demo"
        else:
            took = [spare.pop(0) for _ in range(need)]
            text = damage(took[0]["text"], rng, *[p["text"] for p in took[1:]])
            source = took[0]["source"]
        add(key, text, source, "fail", "garbled", note)
    for n, (title, text) in enumerate(blocks("mash.txt"), len(GARBLED) + 1):
        add(f"garbled-{n:03d}", text, "tamis demo", "fail", "garbled", title)
    for kind, name in (("boilerplate", "boilerplate.txt"), ("non-text", "nontext.txt"), ("foreign", "foreign.txt")):
        for n, (title, text) in enumerate(blocks(name), 1):
            add(f"{kind.replace('-', '')}-{n:03d}", text, "tamis demo", "fail", kind, title)

    def raw(line, key, expected, note):
        docs.append((line, key, expected, "undecodable", note))

    raw(b"<html><body>502 Bad Gateway</body></html>", "", "dead-letter", "not JSON: a proxy's error page")
    raw(b'{"id":"undecodable-002","text":"The committee met on the third of May, and after a long', "",
        "dead-letter", "not JSON: the line was cut off")
    raw(b'{"id":"undecodable-003","title":"Annual report","language":"en","source":"tamis demo"}',
        "undecodable-003", "dead-letter", "no text field")
    raw(b'{"id":"undecodable-004","text":null,"language":"en","source":"tamis demo"}',
        "undecodable-004", "dead-letter", "text is null")
    raw(b'{"id":"undecodable-005","text":["The first part.","The second part."],"language":"en","source":"tamis demo"}',
        "undecodable-005", "dead-letter", "text is a list")
    raw(b'{"id":"undecodable-006","text":"Le caf\xe9 \xe9tait ferm\xe9, and the old waiter had gone home.","language":"en","source":"tamis demo"}',
        "", "dead-letter", "Latin-1 bytes: not valid UTF-8")
    raw(b'["undecodable-007","An array instead of an object, as some exporters write."]',
        "", "dead-letter", "not an object")
    raw(b'\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x57\x28\xcf\x2f\xca\x49\x01\x00\x85\x11\x4a\x8d',
        "", "dead-letter", "not JSON: a gzip stream in the file")
    add("undecodable-009", "", "tamis demo", "fail", "undecodable", "empty text: nothing to score")
    add("undecodable-010", " \n\t \n ", "tamis demo", "fail", "undecodable", "only white space: nothing to score")

    random.Random("tamis demo order").shuffle(docs)
    OUT.mkdir(parents=True, exist_ok=True)
    seen = set()
    with open(OUT / "sample.jsonl", "wb") as sample, open(OUT / "labels.tsv", "w", encoding="utf-8") as labels:
        labels.write("# line\tid\texpected\tkind\tnote\n")
        for n, (line, key, expected, kind, note) in enumerate(docs, 1):
            assert b"\n" not in line and len(line) <= MAX_LINE, (key, len(line))
            assert not key or key not in seen, key
            seen.add(key)
            sample.write(line + b"\n")
            labels.write(f"{n}\t{key}\t{expected}\t{kind}\t{note}\n")
    table = {}
    for _, _, expected, kind, _ in docs:
        table.setdefault(kind, {}).setdefault(expected, 0)
        table[kind][expected] += 1
    print(len(docs), "documents,", (OUT / "sample.jsonl").stat().st_size, "bytes; passages left:", len(spare))
    for kind, row in table.items():
        print(f"  {kind:12}", row)


if __name__ == "__main__":
    main()
