"""Bombs for the file source: a few kilobytes of zstd or gzip that hold gigabytes, as one endless line, as nothing but line ends, and cut off.

The worker must read them in bounded memory: an endless line is one dead letter, blank lines are passed by, a torn file ends the run with 65 after what
was readable.
"""

import gzip
import json
import pathlib
import re
import shutil
import subprocess
import time

MIB = 1024 * 1024
# Memory beyond the model: a line is cut off above document.max_bytes (10 MiB), and at most this much is on its way.
BOUND_MIB = 400

PIPELINE = """
name = "{name}"
[source.files]
paths = ["{path}"]
[sink.files]
dir = "{out}"
[document]
format = "json"
[routes]
pass = "pass"
review = "review"
fail = "fail"
dead_letter = "dead"
[delivery]
max_in_flight_bytes = 67108864
[cache]
path = "{out}.cache"
enabled = false
[admin]
listen = "127.0.0.1:0"
"""

GOOD = b'{"text": "a letter arrived from my sister in the north"}\n'


def pack(path, chunks):
    """Writes the chunks through gzip, or through the zstd command."""
    if path.suffix == ".gz":
        with gzip.open(path, "wb", compresslevel=9) as packed:
            for chunk in chunks:
                packed.write(chunk)
        return
    with open(path, "wb") as packed, subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=packed) as process:
        for chunk in chunks:
            process.stdin.write(chunk)
        process.stdin.close()
    if process.returncode:
        raise SystemExit("zstd could not pack a bomb")


def one(options, folder, name, suffix, chunks, dead, code=0, cut=None):
    """Runs a worker over one bomb. Its figures, or the end of the program."""
    path, out, log = folder / f"{name}{suffix}", folder / f"{name}{suffix}.out", folder / f"{name}.log"
    pack(path, chunks)
    if cut:
        path.write_bytes(path.read_bytes()[:cut])
    file = folder / "bomb.toml"
    file.write_text(PIPELINE.format(name=name, path=path, out=out))
    began, most = time.monotonic(), 0
    with open(log, "w") as sink:
        worker = subprocess.Popen([options.tamis, "run", str(file)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    while worker.poll() is None:
        found = re.search(r"^VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{worker.pid}/status").read_text(), re.M)
        most = max(most, int(found[1]) // 1024 if found else 0)
        time.sleep(0.05)
    said = log.read_text()
    if worker.returncode != code or "panicked" in said:
        raise SystemExit(f"{path.name}: the worker ended with {worker.returncode}, not {code}:\n{said[-3000:]}")
    lines = lambda route: [json.loads(line) for line in (out / f"{route}.jsonl").read_bytes().splitlines()] if (out / f"{route}.jsonl").exists() else []
    classes = [line["tamis"]["error"]["class"] for line in lines("dead")]
    if len(lines("pass")) != (2 if not cut else 1) or classes != dead:
        raise SystemExit(f"{path.name}: {len(lines('pass'))} passed, dead letters {classes}, not {dead}")
    if most > BOUND_MIB:
        raise SystemExit(f"{path.name}: {most} MiB were held, more than {BOUND_MIB}")
    return {"name": path.name, "bytes": path.stat().st_size, "seconds": round(time.monotonic() - began, 1), "most_mib": most}


def through_files(options, folder):
    mib, found = options.bomb_mib, []
    suffixes = [".gz", ".zst"] if shutil.which("zstd") else [".gz"]
    if len(suffixes) == 1:
        print("NOT TESTED: .zst bombs, because there is no zstd command", flush=True)
    for suffix in suffixes:
        line = (part for part in (GOOD, *(b"a" * MIB for _ in range(mib)), b"\n", GOOD))
        found.append(one(options, folder, "line", suffix, line, ["too-large"]))
        blank = (part for part in (GOOD, *(b"\n" * MIB for _ in range(mib)), GOOD))
        found.append(one(options, folder, "blank", suffix, blank, []))
        torn = (part for part in (GOOD, b"\n" * MIB, *(b"b" * MIB for _ in range(64))))
        found.append(one(options, folder, "torn", suffix, torn, [], code=65, cut=2_000 if suffix == ".zst" else 20_000))
    return found
