"""Owns the sums over docs/reliability.csv, by guarantee: what docs/reliability.md may say.

    tools/chaos/totals.py [FILE]
"""

import csv
import pathlib
import sys
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parents[2]
rows = list(csv.DictReader(open(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/reliability.csv")))
for guarantee in sorted({row["guarantee"] for row in rows}):
    ours = [row for row in rows if row["guarantee"] == guarantee]
    faults = Counter()
    for row in ours:
        faults.update({kind: int(count) for kind, count in (pair.split("=") for pair in row["faults"].split())})
    total = {name: sum(int(row[name]) for row in ours) for name in ("kills", "documents", "lost", "duplicated", "out_of_order", "other", "repeated")}
    clean = [row for row in ours if not any(int(row[name]) for name in ("lost", "duplicated", "out_of_order", "other"))]
    print(f"{guarantee}: {len(ours)} runs, {len(clean)} without a finding; {sum(float(row['minutes']) for row in ours):.0f} minutes")
    print("  " + ", ".join(f"{name} {count}" for name, count in total.items()))
    print(f"  in the runs without a finding: {sum(int(row['kills']) for row in clean)} kills, {sum(int(row['documents']) for row in clean)} documents")
    print("  " + ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
