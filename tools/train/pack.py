"""Packed pieces of the token streams: owns how data travels to a machine that is reached through a narrow door.

A piece is one xz file of whole documents: a JSON line (stream, documents, tokens), their lengths as int32, their ids as uint16. Pieces
stand alone, so training can begin with some and take in others later. About one byte a token.

usage: pack.py pack DATA_DIR PIECES_DIR [--megabytes 15] [--streams modern books dev dev_modern]
       pack.py unpack DATA_DIR PIECES_DIR...        all pieces there are; writes DATA_DIR anew
"""
import argparse
import json
import lzma
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

# Ids are two bytes: telling the compressor so gains a little over its default.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 1, "pb": 1}]
CARRIED = ("tokenizer.json", "meta.json")


def write_piece(stem, name, begin, end, path):
    offsets = np.fromfile(f"{stem}.off", dtype=np.int64)[begin : end + 1]
    ids = np.fromfile(f"{stem}.u16", dtype=np.uint16, count=offsets[-1] - offsets[0], offset=2 * offsets[0])
    head = json.dumps({"stream": name, "documents": end - begin, "tokens": len(ids)}).encode() + b"\n"
    body = head + np.diff(offsets).astype(np.int32).tobytes() + ids.tobytes()
    path.write_bytes(lzma.compress(body, format=lzma.FORMAT_XZ, check=lzma.CHECK_SHA256, filters=FILTERS))
    return f"{path.name}: {end - begin} documents, {len(ids)} tokens, {path.stat().st_size} bytes"


def read_piece(path):
    """(stream, lengths, ids)."""
    head, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
    head = json.loads(head)
    lengths = np.frombuffer(body, np.int32, head["documents"])
    ids = np.frombuffer(body, np.uint16, head["tokens"], offset=4 * head["documents"])
    assert lengths.sum() == len(ids), f"{path}: lengths and ids differ"
    return head["stream"], lengths, ids


def pack(data_dir, pieces_dir, megabytes, streams, prefix):
    pieces_dir.mkdir(parents=True, exist_ok=True)
    jobs = []
    for name in streams:
        offsets = np.fromfile(data_dir / f"{name}.off", dtype=np.int64)
        pieces = max(1, -(-int(offsets[-1]) // int(megabytes * 0.93e6)))  # a little over a byte a token
        cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], pieces + 1))
        jobs += [(data_dir / name, name, int(a), int(b), pieces_dir / f"{prefix}{name}-{i:02}.xz") for i, (a, b) in enumerate(zip(cuts, cuts[1:]))]
    with ProcessPoolExecutor() as pool:
        for line in pool.map(write_piece, *zip(*jobs)):
            print(line, flush=True)
    for name in CARRIED:  # small, and a machine that has only some of the pieces needs them
        shutil.copyfile(data_dir / name, pieces_dir / name)


def unpack(data_dir, pieces_dirs):
    data_dir.mkdir(parents=True, exist_ok=True)
    paths = sorted((p for folder in pieces_dirs for p in folder.glob("*.xz")), key=lambda p: p.name)
    streams = {}
    with ProcessPoolExecutor() as pool:
        for name, lengths, ids in pool.map(read_piece, paths):
            streams.setdefault(name, []).append((lengths, ids))
    for name, parts in streams.items():
        np.concatenate([ids for _, ids in parts]).tofile(data_dir / f"{name}.u16")
        np.concatenate([[0], *(lengths for lengths, _ in parts)]).astype(np.int64).cumsum().tofile(data_dir / f"{name}.off")
        print(name, sum(len(l) for l, _ in parts), "documents", sum(len(i) for _, i in parts), "tokens", flush=True)
    for name in CARRIED:
        found = [folder / name for folder in pieces_dirs if (folder / name).exists()]
        shutil.copyfile(found[0], data_dir / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack")
    one.add_argument("data_dir", type=Path)
    one.add_argument("pieces_dir", type=Path)
    one.add_argument("--megabytes", type=float, default=15)
    one.add_argument("--streams", nargs="+", default=["modern", "books", "dev", "dev_modern"])
    one.add_argument("--prefix", default="", help="of the pieces' names: unpacking joins a stream's pieces in the order of their names")
    other = commands.add_parser("unpack")
    other.add_argument("data_dir", type=Path)
    other.add_argument("pieces_dirs", type=Path, nargs="+")
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.data_dir, args.pieces_dir, args.megabytes, args.streams, args.prefix)
    else:
        unpack(args.data_dir, args.pieces_dirs)


if __name__ == "__main__":
    main()
