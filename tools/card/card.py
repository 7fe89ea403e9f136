"""The report card of a model: owns the order of the measurements, and the files that come out.

    make model-card EVAL=FOLDER          all of it, by target/release/tamis; an hour on two quiet cores, less where scores were kept
    make model-card EVAL=FOLDER CHECK=1  measures anew and compares with the card that is there, writing nothing

Writes figures.json (every number), REPORT.md and its plots (both made of figures.json and nothing else) into the report's folder. What may be
passed on of the evaluation sets is never asked: no text of theirs is written anywhere but to the work folder, which is not tracked.

usage: card.py EVAL_DIR [--tamis PROGRAM] [--model DIR] [--out DIR] [--work DIR] [--threads N] [--quick] [--fresh] [--check]
"""
import argparse
import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import figures
import measure
import plots
import report
import sets
import thresholds
from scoring import Tamis
from tokens import Reference

ROOT = sets.ROOT
TOLERANCE = 0.0051  # of the same texts on another processor: sums of floats, and pairs that all but tie; one of 200 texts is 0.005
SUMMARY_BEGINS, SUMMARY_ENDS = "<!-- report -->", "<!-- /report -->"  # tools/train/model_card.py writes them
NOT_COMPARED = ("pace", "made_by")


def quantized(model, work):
    """An int8 copy of the model, by the documented command; the one in the repository must be the same."""
    out, kept = work / "int8", model.with_name(f"{model.name}-int8")
    subprocess.run([sys.executable, ROOT / "tools/train/quantize.py", model, out], check=True, stderr=subprocess.DEVNULL)
    if kept.is_dir() and (kept / "model.onnx").read_bytes() != (out / "model.onnx").read_bytes():
        raise SystemExit(f"{kept} is not what tools/train/quantize.py makes of {model}: make it again by quantize.py {model} {kept}")
    return out


def measured(bench, work):
    """Every figure, in the report's order; each section is done before the next begins, and costs nothing where its scores were kept."""
    sizes, archives = bench.sizes, bench.archives
    out = {"sizes": asdict(sizes), "seed": sets.SEED, "resamples": figures.RESAMPLES}
    genres, sentences = zip(*sets.web_sentences(archives, sizes.sentences))
    passages = sets.web_passages(archives, sizes.passages)
    out["damage"] = {}
    out["damage"]["web sentences"], short, clean = measure.separation_of_damage(bench, "sentences", sentences, measure.SHORT)
    out["damage"]["web passages"], long, clean_passages = measure.separation_of_damage(bench, "passages", [t for _, t in passages], measure.LONG)
    out["ocr"], ocr_scores, truth = measure.ocr(bench)
    out["spam"], sms_scores, sms = measure.spam(bench, short, clean)
    out["demo"], demo_scores, kinds = measure.demo(bench)
    out["machine"], machine_scores, human = measure.machine(bench)

    by_genre = {g: [i for (genre, _), i in zip(passages, clean_passages) if genre == g] for g in sorted({g for g, _ in passages})}
    sources = {f"web, {genre} (treebank)": (long, ids) for genre, ids in by_genre.items()}
    sources |= {f"{measure.HUMAN[source]}": (machine_scores, ids) for source, ids in sorted(human.items())}
    sources |= {"older books and government prose (demo)": (demo_scores, kinds["prose"]), "newspapers and books, transcribed (OCR sets)": (ocr_scores, truth),
                "text messages, ham": (sms_scores, sms["ham"])}
    bad = {"boilerplate (demo)": (demo_scores, kinds["boilerplate"]), "not English (demo)": (demo_scores, kinds["foreign"]),
           "data, code, markup (demo)": (demo_scores, kinds["non-text"]), "text messages, spam": (sms_scores, sms["spam"]),
           "OCR readings (OCR sets)": (ocr_scores, [i.replace("truth", "ocr") for i in truth])}
    bad |= {f"web passages, {name}": (long, [i.replace("/clean/", f"/{name}/") for i in clean_passages]) for name in sets.damages()}
    out["bits_per_byte"] = {
        "clean": {name: measure.bits(scores, ids, "strided") for name, (scores, ids) in sources.items()},
        "other": {name: measure.bits(scores, ids, "strided") for name, (scores, ids) in bad.items()},
    }

    some = [sets.Text(i, passages[int(i.rsplit("/", 1)[1])][1]) for i in sets.sample(clean_passages, sizes.exact_passages, "exact passages")]
    exact = bench.tamis.score("exact-passages", some, ["exact", "strided"])
    out["strided"] = {
        "web sentences": measure.strided_against_exact(short, clean),
        "web passages": measure.strided_against_exact(exact, [t.id for t in some]),
    }
    out["calibration"] = measure.calibration(bench, sentences, short, clean)
    out["int8"] = measure.int8_against_fp32(bench, [sets.Text(i, text) for i, text in zip(clean, sentences)])
    out["int8"]["bytes"] = {"fp32": (bench.tamis.model / "model.onnx").stat().st_size, "int8": (bench.int8.model / "model.onnx").stat().st_size}
    out["crows_pairs"] = measure.crows(bench)
    out["minimal_pairs"] = {
        "blimp": measure.minimal_pairs(bench, "blimp", sets.blimp(archives, sizes.blimp_pairs)),
        "zorro": measure.minimal_pairs(bench, "zorro", sets.zorro(archives, sizes.zorro_pairs)),
    }
    out["thresholds"] = thresholds.derived(long, by_genre, machine_scores, human, bad)
    out["points"] = {
        "strided": {
            name: [[round(scores[i]["exact.nll_token"], 3), round(scores[i]["strided.nll_token"], 3)] for i in ids]
            for name, scores, ids in (("web sentences", short, clean), ("web passages", exact, [t.id for t in some]))
        }
    }
    timed = [sets.Text(str(i), text) for i, (_, text) in enumerate(passages[:20])]
    fp32, int8 = measure.pace(bench.tamis, timed), measure.pace(bench.int8, timed)
    out["pace"] = {"fp32_over_int8": round(fp32 / int8, 2), "texts": len(timed), }
    out["made_by"] = {
        "program": bench.tamis.version,
        "model_sha256": hashlib.sha256((bench.tamis.model / "model.onnx").read_bytes()).hexdigest(),
        "scorers": {job: scorer for job, scorer in sorted(bench.tamis.scorers.items()) if job in ("damage-sentences", "damage-passages", "exact-passages")},
    }
    return out


def differences(old, new, path=""):
    """[(path, old, new)] of everything that is not the same, numbers within TOLERANCE excepted; and how many numbers were compared."""
    if isinstance(old, dict) and isinstance(new, dict):
        found, count = [], 0
        for key in sorted(old.keys() | new.keys()):
            # An int8 model's scores move with the batches, and those with the clock: its extremes are no property of the texts.
            if not path and key in NOT_COMPARED or path.startswith("/int8/") and key in ("largest", "moved_with_the_batch"):
                continue
            more, n = differences(old.get(key), new.get(key), f"{path}/{key}")
            found, count = found + more, count + n
        return found, count
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts = [differences(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new))]
        return [d for more, _ in parts for d in more], sum(n for _, n in parts)
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):
        return ([] if abs(old - new) <= TOLERANCE else [(path, old, new)]), 1
    return ([] if old == new else [(path, old, new)]), 0


def put_summary(model, text):
    """Puts the summary between the marks of MODEL_CARD.md, and the card's new checksum into the manifest. Without marks nothing is touched."""
    card, manifest = model / "MODEL_CARD.md", model / "manifest.json"
    if not card.exists() or SUMMARY_BEGINS not in card.read_text(encoding="utf-8"):
        return
    old = card.read_text(encoding="utf-8")
    head, rest = old.split(SUMMARY_BEGINS, 1)
    _, tail = rest.split(SUMMARY_ENDS, 1)
    card.write_text(f"{head}{SUMMARY_BEGINS}\n{text}\n{SUMMARY_ENDS}{tail}", encoding="utf-8")
    if manifest.exists():
        listed = json.loads(manifest.read_text(encoding="utf-8"))
        listed["files"][card.name] = {"sha256": hashlib.sha256(card.read_bytes()).hexdigest(), "bytes": card.stat().st_size}
        manifest.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("eval_dir", type=Path, nargs="?")
    parser.add_argument("--tamis", type=Path, default=ROOT / "target/release/tamis")
    parser.add_argument("--model", type=Path, default=Path("models/tamis-en"))
    parser.add_argument("--out", type=Path, help="the report's folder; the model's with .report behind it unless given")
    parser.add_argument("--work", type=Path, default=Path("var/card"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small samples: does it all work?")
    parser.add_argument("--fresh", action="store_true", help="score everything anew, whatever was kept")
    parser.add_argument("--check", action="store_true", help="compare with the figures.json that is there, and write nothing")
    args = parser.parse_args()
    if args.eval_dir is None:
        sets.say_missing("no folder of evaluation sets was given")
    try:
        archives = sets.Archives(args.eval_dir)
    except sets.Missing as missing:
        sets.say_missing(str(missing))
    out = args.out or args.model.with_name(args.model.name + ".report")
    work = args.work / "scores"
    bench = measure.Bench(
        tamis=Tamis(args.tamis, args.model, args.threads, work, args.fresh),
        int8=Tamis(args.tamis, quantized(args.model, args.work), args.threads, work, args.fresh),
        archives=archives,
        reference=Reference(args.model, args.threads),
        sizes=measure.QUICK if args.quick else measure.Sizes(),
    )
    found = measured(bench, work)
    if args.check:
        differing, count = differences(json.loads((out / "figures.json").read_text(encoding="utf-8")), found)
        for path, old, new in differing:
            print(f"{path}: the card has {old}, now {new}")
        print(f"{count} numbers compared, {len(differing)} differ by more than {TOLERANCE}")
        sys.exit(1 if differing else 0)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "figures.json", found)
    plots.draw(found, out)
    (out / "REPORT.md").write_text(report.text(found, args.model), encoding="utf-8")
    if not args.quick:
        put_summary(args.model, report.summary(found, args.model))
    print(f"written: {out}/REPORT.md, {out}/figures.json and plots")


if __name__ == "__main__":
    main()
