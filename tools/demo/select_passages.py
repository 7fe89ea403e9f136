#!/usr/bin/env python3
"""Cut the hand-chosen passages of the demo sample out of a corpus file.

usage: select_passages.py CORPUS.jsonl

CORPUS.jsonl holds one {"text", "source", "licence"} a line, paragraphs parted by
newlines. parts/selection.tsv says which paragraphs were chosen after reading them
and what each is for:

  prose  goes into the sample as it stands
  ocr    is rendered, degraded and read back by make_ocr.py
  base   is damaged by build_sample.py (shuffled, mis-decoded, ...)

Writes parts/passages.jsonl. Only needed again when the selection changes: the
passages themselves are kept beside this script.
"""
import json
import re
import sys
from pathlib import Path

PARTS = Path(__file__).parent / "parts"
SENT = re.compile(r'(?<=[.!?])["\'”’)]*\s+(?=["\'“‘(A-Z])')


def sentences(par):
    out, last = [], 0
    for m in SENT.finditer(par):
        out.append(par[last:m.end()].strip())
        last = m.end()
    out.append(par[last:].strip())
    return out


def main():
    docs = {}
    for line in open(sys.argv[1], encoding="utf-8"):
        d = json.loads(line)
        docs[d["source"]] = d
    count = {}
    with open(PARTS / "passages.jsonl", "w", encoding="utf-8") as out:
        for line in open(PARTS / "selection.tsv", encoding="utf-8"):
            if line.startswith("#"):
                continue
            use, group, pars, sents, source = line.rstrip("\n").split("\t")
            d = docs[source]
            if "CC BY" in d["licence"] and "ELTeC" not in source:
                sys.exit(f"not public domain: {source}")
            a, b = (int(x) for x in pars.split("-"))
            chosen = d["text"].split("\n")[a:b + 1]
            if sents != "-":
                s, e = (int(x) for x in sents.split("-"))
                chosen = [" ".join(sentences(chosen[0])[s:e + 1])]
            text = "\n".join(p.strip() for p in chosen)
            n = len(text.split())
            if not 50 <= n <= 225:
                print(f"{n} words: {source} {pars}", file=sys.stderr)
            key = use if use != "prose" else group
            count[key] = count.get(key, 0) + 1
            rec = {"key": f"{key}-{count[key]:03d}", "use": use, "group": group,
                   "source": source, "licence": d["licence"], "text": text}
            out.write(json.dumps(rec, ensure_ascii=False) + "\n")
    print(count)


if __name__ == "__main__":
    main()
