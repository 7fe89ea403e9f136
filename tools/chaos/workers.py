"""Owns the tamis processes: their pipeline file, their starts and ends, and what an end means.

Each slot holds one process at a time. An end that nobody brought about and that no promise covers is a violation: a bug's exit code, a
signal of its own, a drain that never ends.
"""

import os
import pathlib
import signal
import subprocess
import time

from cluster import PASSWORD, ROOT, USER, die_with_parent

PIPELINE = """name = "{name}"
[source.kafka]
brokers = "{brokers}"
topics = ["{source}"]
group = "{group}"
properties = {{ {properties} }}
[sink.kafka]
properties = {{ "transaction.timeout.ms" = "8000" }}
{signals}
[routes]
pass = "{pass}"
review = "{review}"
fail = "{fail}"
dead_letter = "{dead}"
[delivery]
guarantee = "{guarantee}"
commit_interval_ms = {commit_ms}
max_batch_documents = 150
max_documents = 600
drain_ms = 8000
stall_exit_ms = 60000
[cache]
path = "{cache}"
max_bytes = 16777216
[admin]
listen = "127.0.0.1:0"
"""
TEXT = """[signals.text]
kind = "text"
[[rules]]
name = "calm"
signal = "text.upper_rate"
max = 0.5
review_above = 0.1
"""
MODEL = """[models.default]
path = "{root}/tests/fixtures/models/tiny-bert-wordpiece"
device = "cpu"
threads = 1
head_check = "warn"
[signals.pll]
kind = "pll"
masking = "strided"
stride = 4
[[rules]]
name = "scored"
signal = "pll.nll_token"
max = 100.0
"""
PROTOCOLS = {
    "cooperative": {"session.timeout.ms": 4000, "heartbeat.interval.ms": 500},
    "range": {"session.timeout.ms": 4000, "heartbeat.interval.ms": 500, "partition.assignment.strategy": "range"},
    "consumer": {"group.protocol": "consumer"},
}
# What stands behind a protocol's name where the group's members are static.
STATIC = "+static"
# How a tamis may end by itself: drained or a missed drain deadline after SIGTERM, and 69 when a broker or its transaction is gone.
ASKED, UNASKED = (0, 75, 69), (69,)


def pipeline(path, settings, has_model):
    """Writes the pipeline file."""
    properties = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": PASSWORD}
    properties |= PROTOCOLS[settings["protocol"].removesuffix(STATIC)]
    if settings["protocol"].endswith(STATIC):
        properties["group.instance.id"] = "{host}-{instance}"
    properties |= {"reconnect.backoff.max.ms": 1000, "topic.metadata.refresh.interval.ms": 5000}
    shown = ", ".join(f'"{name}" = "{value}"' for name, value in properties.items())
    signals = TEXT + (MODEL.format(root=ROOT) if has_model else "")
    path.write_text(PIPELINE.format(properties=shown, signals=signals, **settings))


class Worker:
    """One slot."""

    def __init__(self, slot, program, pipeline_path, folder, environment):
        self.slot, self.program, self.pipeline, self.folder = slot, program, pipeline_path, folder
        self.environment = {**os.environ, "RUST_BACKTRACE": "1", **environment}
        self.process, self.starts, self.stopped, self.asked_at = None, 0, False, None
        self.restart_at, self.ends, self.violations = 0.0, {}, []

    def start(self):
        self.starts += 1
        self.log = self.folder / f"worker-{self.slot}-{self.starts}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(self.program), "run", str(self.pipeline)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=self.environment,
                preexec_fn=die_with_parent,
            )
        self.stopped, self.asked_at, self.started_at = False, None, time.monotonic()

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """Sends a signal, if there is somebody to hear it. False if not."""
        if not self.runs():
            return False
        self.process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.stopped = number == signal.SIGSTOP
        if number == signal.SIGTERM and self.asked_at is None:
            self.asked_at = time.monotonic()
        return True

    def kill(self):
        """SIGKILL; True if there was somebody to kill."""
        was = self.signal(signal.SIGKILL)
        if was:
            self.process.wait()
        return was

    def tail(self, lines=40):
        return "\n".join(pathlib.Path(self.log).read_text(errors="replace").splitlines()[-lines:])

    def attend(self, now, patience=135):
        """What a supervisor does: notes how the process ended, and starts another one after a pause. The pause grows no further than a second."""
        if self.process is None:
            if now >= self.restart_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            if self.asked_at is not None and not self.stopped and now - self.asked_at > patience:
                self.violations.append(f"worker {self.slot} did not end within {patience} s of SIGTERM; {self.log}")
                self.kill()
            return
        self.ends[code] = self.ends.get(code, 0) + 1
        expected = ASKED if self.asked_at is not None else UNASKED
        if self.asked_at is not None and self.asked_at - self.started_at < 2 and not pathlib.Path(self.log).stat().st_size:
            expected += (-signal.SIGTERM,)  # before it could say a word, let alone listen for signals
        if code != -signal.SIGKILL and code not in expected:
            self.violations.append(f"worker {self.slot} ended with {code}; {self.log}")
        self.process = None
        self.restart_at = max(self.restart_at, now + (0.2 if code == -signal.SIGKILL else 1.0))
