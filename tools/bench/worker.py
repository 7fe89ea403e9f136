"""A `tamis score` that stays up and is fed through pipes, so that loading is no part of what is measured."""

import json
import os
import pathlib
import subprocess
import tempfile

PIPELINE = """
name = "bench"
[models.default]
path = "{model}"
device = "cpu"
head_check = "warn"
threads = {threads}
[signals.pll]
kind = "pll"
model = "default"
masking = "{masking}"
[cache]
enabled = false
path = "{folder}/cache"
"""


class Tamis:
    """One process. `score` gives (tokens, nats) for each text; `seconds` is the processor time that the process took so far."""

    def __init__(self, program, model, threads, masking="single"):
        self.folder = tempfile.TemporaryDirectory()
        pipeline = pathlib.Path(self.folder.name, "p.toml")
        known = dict(model=pathlib.Path(model).resolve(), threads=threads, masking=masking, folder=self.folder.name)
        pipeline.write_text(PIPELINE.format(**known))
        self.log = open(pathlib.Path(self.folder.name, "log"), "w+")
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.process = subprocess.Popen([program, "score", str(pipeline), "--log", "info"], **pipes)

    def score(self, texts):
        lines = "".join(json.dumps({"id": str(place), "text": text}) + "\n" for place, text in enumerate(texts))
        self.process.stdin.write(lines)  # less than a pipe holds, so that nobody waits for the other
        self.process.stdin.flush()
        found = {}
        for _ in texts:
            answer = self.process.stdout.readline()
            if not answer:
                raise RuntimeError(f"tamis stopped: {self.said()}")
            line = json.loads(answer)
            signals = line["signals"]
            self.scorer = line["scorer"]
            found[line["id"]] = signals["pll.tokens"], signals["pll.nll_token"] * signals["pll.tokens"]
        return [found[str(place)] for place in range(len(texts))]

    def seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    def head(self):
        return "hoisted" if "hoisted" in self.said() else "full"

    def said(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()
