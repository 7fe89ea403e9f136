"""What tamis says of a list of texts: owns running `tamis score`, and keeping what it printed.

The card's figures are tamis's own wherever it can make them: each job is a pipeline file written here, a JSONL file of texts, and the JSON lines
that came back. They are kept under the work folder by a hash of all that went in (texts, pipeline, the model's files, the program),
so that an interrupted card goes on where it stopped; `fresh` scores everything anew. tamis's own cache is off.
"""
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

# Every score that tamis makes of these texts, by the name of its table. Windows are the bundled pipelines' (128 tokens).
TABLES = {
    "exact": 'kind = "pll"\nmasking = "single"\nextra = ["log_rank", "lrr", "entropy"]',
    "strided": 'kind = "pll"\nmasking = "strided"\nstride = 7\nextra = ["log_rank", "lrr", "entropy"]',
    "unmasked": 'kind = "pll"\nmasking = "unmasked"\ncorrected = true',
    "bound": 'kind = "nelbo"\ndraws = 16',
    "text": 'kind = "text"',
    # Minimal pairs need the sum alone, and there are very many of them.
    "pairs": 'kind = "pll"\nmasking = "single"',
}


def as_lines(texts):
    return "".join(json.dumps({"id": t.id, "text": t.text}) + "\n" for t in texts)


class Tamis:
    """The program with one model and a number of threads."""

    def __init__(self, program, model, threads, work, fresh=False):
        self.program, self.model, self.threads, self.work, self.fresh = Path(program), Path(model), threads, Path(work), fresh
        self.work.mkdir(parents=True, exist_ok=True)
        self.version = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        digest = hashlib.sha256(self.version.encode())
        for path in sorted(self.model.glob("*.onnx")) + [self.model / "tokenizer.json"]:
            digest.update(path.read_bytes())
        self.stamp = digest.digest()
        self.scorers = {}

    def pipeline(self, tables):
        signals = "\n".join(f"[signals.{name}]\n{TABLES[name]}\n" for name in tables)
        return (
            f'[models.default]\npath = "{self.model}"\ndevice = "cpu"\nthreads = {self.threads}\n\n{signals}\n'
            "[document]\nmax_bytes = 1048576\n\n[cache]\nenabled = false\n"
        )

    def score(self, job, texts, tables):
        """{id: {signal: number}} for each text. Raises if a text was not scored, or an answer is missing."""
        lines = as_lines(texts)
        shape = hashlib.sha256("\n".join(f"{name} {TABLES[name]}" for name in tables).encode()).digest()
        name = f"{job}-{hashlib.sha256(self.stamp + shape + lines.encode()).hexdigest()[:12]}"
        answers = self.work / f"{name}.scores.jsonl"
        if self.fresh or not answers.exists():
            self.run(name, lines, tables, answers)
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        assert [r["id"] for r in rows] == [t.id for t in texts], f"{job}: answers and texts differ"
        unscored = [r["id"] for r in rows if r["status"] != "scored"]
        assert not unscored, f"{job}: not scored: {unscored[:5]}"
        self.scorers[job] = rows[0]["scorer"]
        return {r["id"]: r["signals"] for r in rows}

    def kept(self, job, texts, make):
        """What make() returns for these texts and this model, kept as scores are."""
        name = f"{job}-{hashlib.sha256(self.stamp + json.dumps(texts).encode()).hexdigest()[:12]}.json"
        path = self.work / name
        if self.fresh or not path.exists():
            path.write_text(json.dumps(make()), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def run(self, name, lines, tables, answers):
        # The process's number, so that two cards at work in one folder do not write one file.
        pipeline, texts, unfinished = (self.work / f"{name}.{os.getpid()}.{end}" for end in ("toml", "jsonl", "unfinished"))
        pipeline.write_text(self.pipeline(tables), encoding="utf-8")
        texts.write_text(lines, encoding="utf-8")
        began = time.time()
        subprocess.run(
            [self.program, "--log", "warn", "score", pipeline, "--input", texts, "--output", unfinished],
            check=True, stdin=subprocess.DEVNULL,
        )
        unfinished.replace(answers)
        pipeline.unlink()
        texts.unlink()  # it holds texts that are not ours to leave about
        print(f"{name}: {lines.count(chr(10))} texts in {time.time() - began:.0f} s", flush=True)
