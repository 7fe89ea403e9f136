#!/usr/bin/env python3
"""Make the OCR-damaged passages of the demo sample: typeset, spoil the scan, read it back.

usage: make_ocr.py [KEY ...]          needs Pillow, numpy and Debian's tesseract-ocr

Every passage marked `ocr` in parts/passages.jsonl is set in one of several faces,
the page image is spoilt (bleed-through, ink spread or loss, warp, skew, blur, low
resolution, noise, JPEG) and tesseract 5 reads it. What tesseract printed goes
unchanged to parts/ocr.jsonl, with the recipe. The output depends on the versions of
the fonts and of tesseract, so the results are committed and build_sample.py only
reads them; labels (parts/ocr_labels.tsv) go by the share of wrong words, see there.
"""
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PARTS = Path(__file__).parent / "parts"
FACES = ["LiberationSerif-Regular", "FreeSerif", "EBGaramond12-Regular", "FreeMono",
         "LiberationSerif-Italic", "DejaVuSerifCondensed", "LiberationSansNarrow-Regular",
         "EBGaramond08-Italic", "LiberationMono-Regular", "FreeSerifBold"]
# size: pixels; keep: share of the resolution left; ink: >0 spreads, <0 loses
MILD = dict(size=26, keep=.56, blur=.5, noise=16, skew=.5, ink=0, ghost=.1, warp=1, jpeg=40, contrast=.75)
FAIR = dict(size=26, keep=.52, blur=.55, noise=18, skew=.7, ink=0, ghost=.12, warp=1, jpeg=32, contrast=.68)
BAD = dict(size=26, keep=.50, blur=.6, noise=20, skew=.9, ink=0, ghost=.15, warp=2, jpeg=28, contrast=.62)
WORSE = dict(size=25, keep=.47, blur=.65, noise=23, skew=1.1, ink=0, ghost=.2, warp=2, jpeg=24, contrast=.58)
LEVELS = [("mild", MILD), ("fair", FAIR), ("bad", BAD), ("worse", WORSE), ("fair", FAIR), ("bad", BAD), ("bad", BAD)]
TWISTS = [dict(), dict(ink=3), dict(ink=-3, contrast=.85), dict(ghost=.3), dict(warp=4), dict()]
COLUMNS = (8, 20, 33)  # passages set in two columns that tesseract reads across


def font(name, size):
    out = subprocess.run(["fc-list", "--format=%{file}\n"], capture_output=True, text=True).stdout
    for f in out.split():
        if Path(f).stem == name:
            return ImageFont.truetype(f, size)
    sys.exit(f"no font {name}")


def typeset(text, face, width, columns=1):
    """Wrapped lines on a white page; two columns touch closely, as in old newspapers."""
    w = width // columns - 8
    lines = []
    for par in text.split("\n"):
        line = ""
        for word in par.split():
            if line and face.getlength(line + " " + word) > w - 20:
                lines.append(line)
                line = ""
            line = (line + " " + word).strip()
        lines.append(line)
    per = -(-len(lines) // columns)
    step = int(face.size * 1.25)
    page = Image.new("L", (width + 40, per * step + 60), 255)
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        draw.text((24 + (i // per) * (width // columns), 24 + (i % per) * step), line, font=face, fill=0)
    return page


def spoil(page, r, rng):
    a = np.asarray(page, dtype=np.float32)
    if r["ink"] > 0:
        page = page.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(.8))
        a = np.asarray(page, dtype=np.float32)
    elif r["ink"] < 0:
        holes = Image.fromarray((rng.random((a.shape[0] // 2 + 1, a.shape[1] // 2 + 1)) < .16).astype("uint8") * 255)
        holes = np.asarray(holes.resize((a.shape[1], a.shape[0]), Image.BILINEAR), dtype=np.float32)
        a = np.maximum(a, holes)
    if r["ghost"]:
        back = np.roll(a[:, ::-1], 11, axis=0)
        a = np.minimum(a, 255 - (255 - back) * r["ghost"])
    h, w = a.shape
    if r["warp"]:
        phase = rng.random() * 6
        shift = (np.sin(np.arange(w) / 130 + phase) * r["warp"]).round().astype(int)
        a = np.stack([np.roll(a[:, x], shift[x]) for x in range(w)], axis=1)
    page = Image.fromarray(a.clip(0, 255).astype("uint8"))
    page = page.rotate(r["skew"] * (1 if rng.random() < .5 else -1), fillcolor=255, resample=Image.BICUBIC, expand=True)
    page = page.filter(ImageFilter.GaussianBlur(r["blur"]))
    page = page.resize((int(page.width * r["keep"]), int(page.height * r["keep"])), Image.BILINEAR)
    a = np.asarray(page, dtype=np.float32)
    a = 235 - (255 - a) * r["contrast"] + rng.normal(0, r["noise"], a.shape)
    page = Image.fromarray(a.clip(0, 255).astype("uint8"))
    buf = io.BytesIO()
    page.save(buf, "JPEG", quality=r["jpeg"])
    page = Image.open(buf).convert("L")
    return page.resize((page.width * 2, page.height * 2), Image.BICUBIC)


def words_of(text):
    """Words as compared: no punctuation, no case, dashes part words."""
    out = (re.sub(r"[^a-z0-9]", "", w.lower()) for w in re.sub("--|[-—]", " ", text).split())
    return [w for w in out if w]


def wrong_words(original, read):
    """Edit distance in words, as a share of the original's words."""
    a, b = words_of(original), words_of(read)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1] / len(a)


def main():
    passages = [json.loads(x) for x in open(PARTS / "passages.jsonl", encoding="utf-8")]
    passages = [p for p in passages if p["use"] == "ocr"]
    only = set(sys.argv[1:])
    out = open(PARTS / "ocr.jsonl", "w", encoding="utf-8") if not only else sys.stdout
    for i, p in enumerate(passages):
        if only and p["key"] not in only:
            continue
        name, base = LEVELS[i % len(LEVELS)] if i not in COLUMNS else LEVELS[0]
        r = dict(base, face=FACES[i % len(FACES)], columns=2 if i in COLUMNS else 1)
        r["size"] += {"EB": 5, "Fr": 2}.get(r["face"][:2], 0)
        r.update(TWISTS[(i + i // 6) % len(TWISTS)])
        rng = np.random.default_rng(1000 + i)
        page = typeset(p["text"], font(r["face"], r["size"]), 760 if r["columns"] == 1 else 1060, r["columns"])
        png = io.BytesIO()
        spoil(page, r, rng).save(png, "PNG")
        read = subprocess.run(["tesseract", "-", "-", "--psm", "6" if i % 4 or r["columns"] == 2 else "4", "-l", "eng"],
                              input=png.getvalue(), capture_output=True).stdout.decode()
        text = "\n".join(x.strip() for x in read.replace("\f", "").split("\n") if x.strip())
        rec = {"key": p["key"], "severity": name, "recipe": r,
               "wrong_words": round(wrong_words(p["text"], text), 3), "source": p["source"], "text": text}
        out.write(json.dumps(rec, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
