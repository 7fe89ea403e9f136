"""Who runs in `make bench-flow`: each a process that copies or judges one topic to another, exactly once, until it is ended."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
import urllib.request

from pipeline import pipeline

ROOT = pathlib.Path(__file__).resolve().parents[3]
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Contender:
    """A running process; `admin` is tamis's endpoint, None for the others."""

    def __init__(self, name, command, folder, environment=None):
        self.name, self.log = name, folder / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | (environment or {}), cwd=ROOT
            )

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def check(self):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def metrics(self):
        """Every series of tamis's, labels summed."""
        found = re.search(r"http://(127\.0\.0\.1:\d+)", self.log.read_text())
        if not found:
            return {}
        sums = {}
        with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    sums[name] = sums.get(name, 0.0) + float(value)
        return sums


class Roster:
    """Starts contenders by name: `tamis`, those of `pipeline.SCORES`, `bare`, `streams`, `python`, `python-single`."""

    def __init__(self, options, brokers, folder):
        self.options, self.brokers, self.folder = options, brokers, folder
        self.java = None

    def start(self, name, source, target, group, cache=None):
        folder = self.folder / group
        folder.mkdir(parents=True, exist_ok=True)
        options = self.options
        commit = str(options.commit_ms)
        if name.startswith("tamis"):
            file = folder / "pipeline.toml"
            known = dict(brokers=self.brokers, source=source, target=target, group=group, commit_ms=commit)
            known |= dict(cache=cache or folder / "cache", model=ROOT / options.model, threads=options.threads)
            file.write_text(pipeline(name, **known))
            command = [options.before if name == "tamis-before" else options.tamis, "run", str(file)]
        elif name == "bare":
            command = [options.copy, self.brokers, source, target, group, commit, "10000"]
        elif name == "streams":
            if self.java is None:
                said = subprocess.run([str(ROOT / "tools/bench/flow/jars.sh")], check=True, stdout=subprocess.PIPE, text=True)
                self.java = shlex.split(said.stdout.strip().splitlines()[-1])
            command = [*self.java, self.brokers, source, target, group, commit, str(options.threads), str(folder / "state")]
        elif name in ("python", "python-single"):
            stage, masking = ROOT / "tools/bench/flow/stage.py", "single" if name == "python-single" else "strided"
            model = [str(ROOT / options.model), str(options.threads)]
            command = [sys.executable, str(stage), self.brokers, source, target, group, commit, *model, masking]
        else:
            raise SystemExit(f"nobody is called {name}")
        return Contender(name, command, folder)


class Broker:
    """The genuine broker of this run, by tools/kafka/broker.sh."""

    def __init__(self, folder):
        self.folder = folder
        self.script = str(ROOT / "tools/kafka/broker.sh")
        said = subprocess.run(
            [self.script, "up", "--dir", str(folder), "--watch-pid", str(os.getpid())], check=True, stdout=subprocess.PIPE, text=True
        )
        self.address = said.stdout.strip().splitlines()[-1]
        self.pid = int((folder / "pid").read_text())

    def cpu(self):
        return cpu_seconds(self.pid)

    def end(self):
        subprocess.run([self.script, "down", "--dir", str(self.folder)], check=False, stdout=subprocess.DEVNULL)


def wait(what, seconds, probe):
    """Polls `probe` until it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)
    return found
