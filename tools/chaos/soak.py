"""Owns the soak: full speed with a rebalance every minute, everything that could grow sampled, drawn, and judged by a stated rule.

    soak.py --minutes 60

A figure is flat if the median of its last third is at most 20 %, or a small absolute step, above that of its second third; the first third is
left to warm up. Judged are the resident memory, open files and threads of a worker that lives from beginning to end, the cache on disk, and the
latency that it tells. A second worker comes and goes every minute, so that the group changes hands twice in each.
"""

import argparse
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from confluent_kafka.admin import NewTopic

from chaos import commit as built_from
from cluster import ROOT, Cluster, remove
from referee import Referee
from workers import Worker, pipeline
from workload import Workload

PARTITIONS = 6
# What is judged: label, unit, and the step that is no growth.
FIGURES = {
    "rss_mib": ("resident memory", "MiB", 8),
    "handles": ("open files", "", 3),
    "threads": ("threads", "", 2),
    "cache_mib": ("cache on disk", "MiB", 4),
    "latency_ms": ("latency, mean", "ms", 50),
    "rate": ("documents", "/s, of this worker", 0),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=400, help="documents written a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tamis", default=str(ROOT / "target/release/tamis"))
    parser.add_argument("--commit", default=None, help="the commit that the program was built from; the last one that touched src/ if left out")
    parser.add_argument("--out", default=str(ROOT / "var/soak"), help="a folder for soak.csv and soak.svg")
    return parser.parse_args()


def metric(worker, name):
    """The sum of a series over its labels."""
    address = pathlib.Path(worker.log).read_text().split("http://")[1].split()[0]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def sample(worker, caches, last):
    status = pathlib.Path(f"/proc/{worker.process.pid}/status").read_text()
    names = ("tamis_documents_total", "tamis_document_seconds_sum", "tamis_document_seconds_count")
    now = time.monotonic(), *(metric(worker, name) for name in names)
    at, documents, seconds, count = (after - before for after, before in zip(now, last))
    row = {
        "rss_mib": int(status.split("VmRSS:")[1].split()[0]) / 1024,
        "handles": len(os.listdir(f"/proc/{worker.process.pid}/fd")),
        "threads": int(status.split("Threads:")[1].split()[0]),
        "cache_mib": sum(p.stat().st_blocks * 512 for p in caches.rglob("*") if p.is_file()) / 2**20,
        "latency_ms": 1000 * seconds / count if count else None,
        "rate": documents / at,
    }
    return row, now


def verdict(rows, name):
    """Medians of the second and the last third, and whether that is flat."""
    values = [row[name] for row in rows if row[name] is not None]
    third = len(values) // 3
    if not third:
        return 0, 0, False
    before, after = statistics.median(values[third : 2 * third]), statistics.median(values[2 * third :])
    if name == "rate":
        return before, after, True  # shown, not judged: it halves while the second worker takes its share
    return before, after, after <= before * 1.2 or after - before <= FIGURES[name][2]


def draw(rows, path, title):
    """One small chart under the other, time from left to right."""
    width, height, left, top = 860, 110, 150, 50
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + (height + 34) * len(FIGURES) + 20}" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="white"/>' + f'<text x="16" y="26" font-size="15">{title}</text>')
    last = max(row["minute"] for row in rows)
    for place, (name, (label, unit, _)) in enumerate(FIGURES.items()):
        y0 = top + place * (height + 34)
        points = [(row["minute"], row[name]) for row in rows if row[name] is not None]
        high = max((value for _, value in points), default=1) * 1.1 or 1
        x = lambda minute: left + (width - left - 20) * minute / last
        y = lambda value: y0 + height * (1 - value / high)
        before, after, flat = verdict(rows, name)
        parts.append(f'<rect x="{left}" y="{y0}" width="{width - left - 20}" height="{height}" fill="#f6f7f9"/>')
        for share in (0, 0.5, 1):
            parts.append(f'<text x="{left - 8}" y="{y(high * share) + 4:.0f}" text-anchor="end" fill="#666">{high * share:.4g}</text>')
        line = " ".join(f"{x(minute):.1f},{y(value):.1f}" for minute, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{"#1f6f54" if flat else "#b3261e"}" stroke-width="1.5"/>')
        parts.append(f'<text x="16" y="{y0 + 14}">{label}</text><text x="16" y="{y0 + 32}" fill="#666">{unit}</text>')
        parts.append(f'<text x="16" y="{y0 + 56}" fill="#666">{before:.4g} → {after:.4g}</text>')
        for share in range(0, 5):
            parts.append(f'<text x="{x(last * share / 4):.0f}" y="{y0 + height + 14}" text-anchor="middle" fill="#999" font-size="10">{last * share / 4:.0f} min</text>')
    path.write_text("\n".join(parts) + "\n</svg>\n")


def main():
    options = arguments()
    folder, out = pathlib.Path(tempfile.mkdtemp(prefix="tamis-soak-")), pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster, workers, workload = None, [], None
    try:
        cluster = Cluster(folder, 1)
        topics = {route: f"soak.{route}" for route in ("pass", "review", "fail", "dead")}
        wanted = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in ("soak.raw", *topics.values())]
        for future in cluster.admin.create_topics(wanted, operation_timeout=30).values():
            future.result()
        path, caches = folder / "pipeline.toml", folder / "cache"
        settings = dict(name="soak", brokers=cluster.workers, source="soak.raw", group="soak", cache=caches, guarantee="exactly-once")
        pipeline(path, settings | topics | dict(protocol="cooperative", commit_ms=200), True)
        workers = [Worker(n, options.tamis, path, folder, {}) for n in range(2)]
        referee = Referee(cluster, "soak.raw", topics, PARTITIONS, "soak")
        workload = Workload(cluster.open, "soak.raw", options.seed, PARTITIONS, options.rate, False)
        rows = run(options, workload, workers, caches)
        workload.pause()
        deadline = time.monotonic() + 300
        while referee.lag() + referee.undecided() and time.monotonic() < deadline:
            time.sleep(1)
        referee.check(False, False)
        for worker in workers:
            worker.signal(signal.SIGTERM)
        commit = options.commit or built_from()
        with open(out / "soak.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["minute", *FIGURES], lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: round(value, 2) if value is not None else "" for name, value in row.items()} for row in rows)
        documents = referee.totals["documents"]
        draw(rows, out / "soak.svg", f"{options.minutes:g} minutes, {documents} documents, a rebalance every half minute, commit {commit}")
    finally:
        for worker in workers:
            if worker.signal(signal.SIGTERM):
                try:
                    worker.process.wait(30)
                except subprocess.TimeoutExpired:
                    worker.kill()
        if workload:
            workload.close()
        if cluster:
            cluster.close()
    verdicts = {name: verdict(rows, name) for name in FIGURES}
    for name, (before, after, flat) in verdicts.items():
        print(f"  {name:10} {before:10.1f} → {after:10.1f}  {'flat' if flat else 'NOT FLAT'}")
    print(f"  {documents} documents; {json.dumps(referee.violations()) if referee.violations() else 'none lost, none twice, all in order'}; {out}/soak.svg")
    remove(folder)
    return int(bool(referee.violations()) or not all(flat for _, _, flat in verdicts.values()))


def run(options, workload, workers, caches):
    """Samples every five seconds; the second worker is started and drained in turn, each half minute."""
    stays, comes = workers
    stays.start()
    rows, last, began = [], (time.monotonic(), 0, 0, 0), time.monotonic()
    workload.go.set()
    change = began + 30
    while time.monotonic() < began + options.minutes * 60:
        time.sleep(5)
        if time.monotonic() >= change:
            change += 30
            if comes.runs():
                comes.signal(signal.SIGTERM)
            else:
                comes.start()
        try:
            row, last = sample(stays, caches, last)
        except (OSError, IndexError) as error:
            if not stays.runs():
                raise RuntimeError(f"the worker ended with {stays.process.poll()}: {stays.tail()}") from error
            continue
        rows.append({"minute": (time.monotonic() - began) / 60} | row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
