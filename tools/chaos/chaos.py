"""Owns one run: sets everything up, lets the schedule strike, and has the outcome judged at checkpoints and at the end.

    chaos.py --seed 7 --minutes 3 [--kills 50] [--faults worker,network,…] [--brokers 3] [--guarantee at-least-once]

`--schedule` prints the faults of a seed and does nothing else. Exit status: 0 if every invariant held, 1 if not (then logs stay, and the lines to
play the run again are printed), 64 for wrong usage, 69 for something that can't be had.
"""

import argparse
import csv
import datetime
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

import plan
from cluster import ROOT, Cluster, remove
from faults import Faults
from referee import Referee
from workers import PROTOCOLS, STATIC, Worker, pipeline
from workload import Workload

PARTITIONS = 6
CLOCK = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
COLUMNS = "date seed commit guarantee protocol brokers workers minutes kills faults documents outputs lost duplicated out_of_order other repeated".split()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--minutes", type=float, default=1.0, help="the schedule's least length")
    parser.add_argument("--kills", type=int, default=0, help="the least number of kills in the schedule")
    parser.add_argument("--faults", default="worker,broker,network,acl", help="families: " + ", ".join(plan.FAULTS) + ", device, topic")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--guarantee", choices=("exactly-once", "at-least-once"), default="exactly-once")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default=None, help="how the group shares partitions; chosen by the seed if left out")
    parser.add_argument("--static", action=argparse.BooleanOptionalAction, default=None, help="whether workers are static members, and stopped inside rebalances; chosen by the seed if left out")
    parser.add_argument("--pace", type=float, default=1.2, help="seconds between two faults, on average")
    parser.add_argument("--rate", type=int, default=150, help="documents a second")
    parser.add_argument("--checkpoint", type=float, default=100, help="seconds between two checkpoints")
    parser.add_argument("--tamis", default=str(ROOT / "target/release/tamis"))
    parser.add_argument("--commit", default=None, help="the commit that the program was built from; the last one that touched src/ if left out")
    parser.add_argument("--csv", default=None, help="append the outcome to this file")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that went well, too")
    parser.add_argument("--schedule", action="store_true")
    options = parser.parse_args()
    options.families = set(options.faults.split(",")) | {"worker"}
    if options.brokers == 3:
        options.families |= {"cluster"}
        options.families -= {"broker"}
    if options.protocol is None:
        options.protocol = list(PROTOCOLS)[options.seed % len(PROTOCOLS)]
    if options.static is None:
        options.static = options.seed // len(PROTOCOLS) % 2 == 1
    if options.static:
        options.protocol += STATIC
        options.families |= {"static"}
    if unknown := options.families - set(plan.FAULTS) - {"device", "topic"}:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}")
    return options


class Run:
    """One run, in a folder of its own."""

    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"tamis-chaos-{options.seed}-"))
        self.log = open(self.folder / "chaos.log", "w")
        self.problems, self.mounted = [], None
        families = options.families & set(plan.FAULTS)
        self.events = plan.schedule(options.seed, families, options.workers, options.minutes * 60, options.kills, options.pace)
        (self.folder / "schedule").write_text("".join(f"{event}\n" for event in self.events))

    def say(self, text):
        self.log.write(f"{time.monotonic() - self.began:8.2f}  {text}\n")
        self.log.flush()

    def open(self):
        options = self.options
        self.cluster = Cluster(self.folder, options.brokers)
        topics = {route: f"chaos.{route}" for route in ("pass", "review", "fail", "dead")}
        self.create(["chaos.raw", *topics.values()])
        self.cluster.wait_up(60)
        self.caches = self.folder / "cache"
        self.caches.mkdir()
        if "disk" in options.families:
            self.mount()
        clocks, environment = self.clocks()
        device = self.faulty_device() if "device" in options.families else {}
        path = self.folder / "pipeline.toml"
        settings = dict(name="chaos", brokers=self.cluster.workers, source="chaos.raw", group="chaos", cache=self.caches / "store", **topics)
        settings |= dict(guarantee=options.guarantee, protocol=options.protocol, commit_ms=20)
        pipeline(path, settings, bool(options.families & {"device", "disk", "cache"}))
        (self.folder / "logs").mkdir()
        self.workers = [Worker(n, options.tamis, path, self.folder / "logs", environment(n) | device) for n in range(options.workers)]
        self.referee = Referee(self.cluster, "chaos.raw", topics, PARTITIONS, "chaos")
        self.faults = Faults(self.cluster, self.workers, self.referee, topics, self.caches, self.caches / "store", clocks, self.say)
        self.workload = Workload(self.cluster.open, "chaos.raw", options.seed, PARTITIONS, options.rate, options.seed % 2 == 1)

    def mount(self):
        """A small file system in memory under the caches."""
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tamis-chaos", str(self.caches)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"chaos: NOT RUN: disk-full wants the right to mount a tmpfs: {done.stderr}")
        self.mounted = self.caches

    def clocks(self):
        """A file for each slot that says how wrong its clock is, and what makes a process believe it."""
        if "clock" not in self.options.families:
            return [], lambda slot: {}
        if not CLOCK.exists():
            raise SystemExit("chaos: NOT RUN: clock-jump wants Debian's package libfaketime")
        files = [self.folder / f"clock-{slot}" for slot in range(self.options.workers)]
        for file in files:
            file.write_text("+0\n")
        fixed = {"LD_PRELOAD": str(CLOCK), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return files, lambda slot: fixed | {"FAKETIME_TIMESTAMP_FILE": str(files[slot])}

    def faulty_device(self):
        """An ONNX Runtime whose every 7th run fails, once the model is loaded; tamis itself is as it was built."""
        library, self.device_faults = self.folder / "faulty_ort.so", self.folder / "device-faults"
        source = ROOT / "tools/chaos/faulty_ort.c"
        done = subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"chaos: NOT RUN: device faults want a C compiler: {done.stderr}")
        real = ROOT / "var/ort/libonnxruntime.so"
        faults = {"FAULTY_ORT_REAL": real, "FAULTY_ORT_EVERY": 7, "FAULTY_ORT_AFTER_MS": 3000, "FAULTY_ORT_COUNT": self.device_faults}
        return {"TAMIS_ORT_LIB": str(library)} | {name: str(value) for name, value in faults.items()}

    def attend(self):
        now = time.monotonic()
        for worker in self.workers:
            worker.attend(now)
        self.faults.tend()

    def strike(self):
        """The schedule, with a checkpoint now and then; time stands still for it meanwhile."""
        began, checked = time.monotonic(), time.monotonic()
        self.workload.go.set()
        for event in self.events:
            while time.monotonic() < began + event.at:
                self.attend()
                time.sleep(0.02)
            self.attend()
            self.faults.strike(event)
            if time.monotonic() - checked > self.options.checkpoint:
                before = time.monotonic()
                self.checkpoint()
                if self.problems:
                    return
                checked = time.monotonic()
                began += checked - before
        self.checkpoint(go_on=False)

    def checkpoint(self, go_on=True, patience=240):
        """Everything is made good, everything is delivered, and everything is judged. Without `go_on`, nothing is written afterwards."""
        self.workload.pause()
        self.faults.heal()
        began, lag = time.monotonic(), None
        while time.monotonic() - began < patience:
            self.attend()
            try:
                # What a dead worker left undecided hides what the living committed after it, until the broker gives it up.
                lag = self.referee.lag() + self.referee.undecided()
            except Exception as error:  # brokers that were brought back a moment ago
                self.say(f"  no lag to be learnt: {error}")
            if lag == 0:
                break
            time.sleep(0.3)
        else:
            self.problems.append(f"{lag} records are unread or undecided {patience} s after the last fault")
            return
        found = self.referee.check(self.options.guarantee == "at-least-once", "device" in self.options.families)
        self.say(f"checkpoint: {found} records, all delivered {time.monotonic() - began:.1f} s after the last fault; {dict(self.referee.totals)}")
        self.problems += [f"{count} {kind}" for kind, count in self.referee.violations().items()]
        if go_on:
            self.workload.go.set()

    def topics_anew(self):
        """Topics deleted and made again under running workers, when everything is delivered. Promised is: what is in the new input is delivered once,
        whatever was in the old one, if the group had the time to notice (topic.metadata.refresh.interval.ms, 5 s here) or the new one is still
        shorter than the old one was; what could not be delivered while an output was gone is delivered once when it is back."""
        outputs = self.referee.outputs
        for name, count, pause in (("chaos.raw", 400, 8), ("chaos.raw", 900, 8), ("chaos.raw", 60, 0), (outputs["pass"], 200, 3), (outputs["dead"], 200, 0)):
            if self.problems:
                return
            is_input = name == "chaos.raw"
            for future in self.cluster.admin.delete_topics([name], operation_timeout=30).values():
                future.result()
            if not is_input:
                self.workload.wave(count)
            self.rest(pause)
            self.create([name])
            self.referee.forget(name)
            if is_input:
                self.workload.connect()
                self.workload.wave(count)
            self.faults.done["topic-deleted"] = self.faults.done.get("topic-deleted", 0) + 1
            self.say(f"{name} was deleted and made again, {count} documents {'after' if is_input else 'before'} that")
            self.checkpoint(go_on=False)

    def rest(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.attend()
            time.sleep(0.05)

    def create(self, names, patience=30):
        """Makes topics; one that was deleted a moment ago may be in the way for a little longer."""
        deadline = time.monotonic() + patience
        while True:
            wanted = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=min(3, self.options.brokers)) for name in names]
            try:
                for future in self.cluster.admin.create_topics(wanted, operation_timeout=30).values():
                    future.result()
                return
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS" or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def end(self):
        """Every worker drains, and nothing more may appear."""
        self.workload.pause()
        for worker in self.workers:
            worker.restart_at = float("inf")
            worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + 150
        while any(worker.process is not None for worker in self.workers) and time.monotonic() < deadline:
            self.attend()
            time.sleep(0.05)
        if not self.problems:
            self.referee.check(self.options.guarantee == "at-least-once", "device" in self.options.families)
            self.problems += [f"{count} {kind} after the end" for kind, count in self.referee.violations().items()]
        self.problems += [violation for worker in self.workers for violation in worker.violations]

    def close(self):
        for worker in self.workers:
            worker.kill()
        self.workload.close()
        self.cluster.close()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.mounted)], check=False)

    def row(self):
        """The run as a line of docs/reliability.csv."""
        options, totals = self.options, self.referee.totals
        others = dict(self.faults.done)
        if "device" in options.families and self.device_faults.exists():
            others["device-error"] = self.device_faults.stat().st_size
        others = dict(sorted(others.items()))
        other = sum(totals[kind] for kind in ("changed", "misrouted", "without-reason", "unknown"))
        other += sum(len(worker.violations) for worker in self.workers) + sum("unread" in problem for problem in self.problems)
        values = [datetime.date.today(), options.seed, options.commit or commit(), options.guarantee, options.protocol, options.brokers]
        values += [options.workers, f"{(time.monotonic() - self.began) / 60:.1f}", self.faults.kills()]
        values += [" ".join(f"{kind}={count}" for kind, count in others.items()), totals["documents"], totals["outputs"], totals["lost"]]
        return dict(zip(COLUMNS, values + [totals["duplicated"], totals["out-of-order"], other, totals["repeated"]]))


def commit():
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return git("log", "-1", "--format=%h", "--", "src", "Cargo.lock") + ("+" if git("status", "--porcelain", "--", "src") else "")


def append(path, row):
    path = pathlib.Path(path)
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main():
    options = arguments()
    run = Run(options)
    if options.schedule:
        print((run.folder / "schedule").read_text(), end="")
        remove(run.folder)
        return 0
    if not pathlib.Path(options.tamis).exists():
        raise SystemExit(f"chaos: there is no {options.tamis}: `make build`")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"chaos: seed {options.seed}, {len(run.events)} faults planned; logs in {run.folder}", flush=True)
    try:
        run.open()
        run.strike()
        if "topic" in options.families:
            run.topics_anew()
        run.end()
    except BaseException:
        print(f"chaos: the harness itself failed; logs in {run.folder}", file=sys.stderr)
        raise
    finally:
        if hasattr(run, "workload"):
            run.close()
        elif hasattr(run, "cluster"):
            run.cluster.close()
    row = run.row()
    ends = sum((Counter(worker.ends) for worker in run.workers), Counter())
    print("\n".join(f"  {name:13} {value}" for name, value in row.items()))
    print(f"  {'ends':13} {' '.join(f'{code}:{count}' for code, count in sorted(ends.items()))}")
    if options.csv:
        append(options.csv, row)
    if run.workload.trouble:
        print(f"  (the workload's own writes: {len(run.workload.trouble)} failed, as {run.workload.trouble[0]!r})")
    if run.problems:
        print("VIOLATED:", *run.problems, *run.referee.examples[:15], sep="\n  ")
        words = " ".join(sys.argv[1:])
        print(f"logs: {run.folder}\nto play it again: tools/chaos/chaos.py {words} --seed {options.seed} --keep")
        return 1
    if options.keep:
        print(f"logs: {run.folder}")
    else:
        remove(run.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
