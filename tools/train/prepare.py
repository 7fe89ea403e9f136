"""Corpus preparation: owns the tokenizer and the packed token streams.

Reads the corpus shards (one JSON document per line, zstd-compressed), trains the
tokenizer on a sample of them or takes the one it is given, and writes everything that
`train.py` reads:

    tokenizer.json          byte-level BPE, cased, 8,192 pieces
    {modern,books}.u16      token ids of whole documents, end to end, no special tokens
    {modern,books}.off      int64 document boundaries in that stream (n + 1 numbers)
    dev, dev_modern         the same for the held-out documents, all and the modern ones
    meta.json               counts, groups, seed

Documents stay whole (paragraphs are joined again, see `join_paragraphs`), so a
training window never crosses a document boundary: that is what a scorer sees.

usage: prepare.py CORPUS_DIR DATA_DIR [--tokenizer FILE] [--books-extra]
"""
import argparse
import io
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SEED = 3
VOCAB_SIZE = 8192
SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]  # ids 0..4, in this order
TOKENIZER_SAMPLE_CHARS = 36_000_000
MODERN_SHARE = 0.6  # of the tokenizer's sample; train.py uses the same share for batches
# Sources of older prose; every other source is modern.
OLDER_SOURCES = ("mlschmitt/classic-books-markdown", "COST-ELTeC/ELTeC-eng")
OLDER_PATHS = ("nltk/nltk_data:state_union", "nltk/nltk_data:inaugural")

def read_documents(path):
    """Yields (text, source) for each line of a .jsonl.zst shard."""
    import zstandard  # here, so that a machine that only trains and evaluates can do without

    with open(path, "rb") as raw:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(raw), encoding="utf-8"):
            record = json.loads(line)
            yield record["text"], record["source"]


def group_of(source):
    older = source.startswith(OLDER_SOURCES) or source.startswith(OLDER_PATHS)
    return "books" if older else "modern"


def join_paragraphs(text, rng):
    """Real documents separate paragraphs in several ways; the model meets the three usual ones."""
    separator = rng.choices(["\n", "\n\n", " "], weights=[45, 30, 25])[0]
    return separator.join(text.split("\n"))


def sample_for_tokenizer(groups, rng):
    """Documents up to TOKENIZER_SAMPLE_CHARS, MODERN_SHARE of the characters from modern sources."""
    for name, share in (("modern", MODERN_SHARE), ("books", 1 - MODERN_SHARE)):
        documents = list(groups[name])
        rng.shuffle(documents)
        budget = TOKENIZER_SAMPLE_CHARS * share
        for text in documents:
            if budget <= 0:
                break
            budget -= len(text)
            yield from text.split("\n")


def train_tokenizer(groups, rng):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sample_for_tokenizer(groups, rng),
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    return tokenizer


def write_stream(tokenizer, texts, stem):
    """Encodes texts without special tokens, one after the other."""
    offsets = [0]
    with open(f"{stem}.u16", "wb") as out:
        for start in range(0, len(texts), 2000):
            for encoding in tokenizer.encode_batch_fast(texts[start : start + 2000], add_special_tokens=False):
                out.write(np.array(encoding.ids, np.uint16).tobytes())
                offsets.append(offsets[-1] + len(encoding.ids))
    np.array(offsets, np.int64).tofile(f"{stem}.off")
    return {"items": len(offsets) - 1, "tokens": offsets[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus_dir", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="use this one in place of training another")
    parser.add_argument("--books-extra", action="store_true", help="read the pack's further books too")
    parser.add_argument("--only-extra", action="store_true", help="with --books-extra: write the stream of those books, and nothing else")
    args = parser.parse_args()
    args.data_dir.mkdir(parents=True, exist_ok=True)
    started = time.time()
    rng = random.Random(SEED)

    groups = {"modern": [], "books": []}
    patterns = ["train-*.jsonl.zst"] * (not args.only_extra) + ["books-extra-*.jsonl.zst"] * args.books_extra
    for shard in [path for pattern in patterns for path in sorted(args.corpus_dir.glob(pattern))]:
        for text, source in read_documents(shard):
            groups[group_of(source)].append(text)
    for documents in groups.values():
        rng.shuffle(documents)
    print({name: len(d) for name, d in groups.items()}, f"read {time.time() - started:.0f}s", flush=True)

    if args.tokenizer:
        shutil.copyfile(args.tokenizer, args.data_dir / "tokenizer.json")
        tokenizer = Tokenizer.from_file(str(args.tokenizer))
    else:
        tokenizer = train_tokenizer(groups, rng)
        tokenizer.save(str(args.data_dir / "tokenizer.json"))
    print(f"tokenizer {time.time() - started:.0f}s", flush=True)

    meta = {"seed": SEED, "vocab_size": VOCAB_SIZE, "streams": {}}
    held_out = [(join_paragraphs(text, rng), group_of(source)) for text, source in read_documents(args.corpus_dir / "dev.jsonl.zst")]
    streams = {name: [join_paragraphs(text, rng) for text in documents] for name, documents in groups.items()}
    if args.only_extra:
        streams = {"books": streams["books"]}
    else:
        streams["dev"] = [text for text, _ in held_out]
        streams["dev_modern"] = [text for text, group in held_out if group == "modern"]
    for name, texts in streams.items():
        meta["streams"][name] = write_stream(tokenizer, texts, args.data_dir / name)
        print(f"{name} {time.time() - started:.0f}s", flush=True)
    meta["seconds"] = round(time.time() - started)
    (args.data_dir / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(json.dumps(meta), flush=True)


if __name__ == "__main__":
    main()
