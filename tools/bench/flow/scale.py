"""Workers in one group on one topic: throughput by their number, the pause of a rebalance, and how evenly the work falls (docs/scaling.md).

    python tools/bench/flow/scale.py --tamis target/release/tamis [--workers 1,2,3,4] [--cost-ms 100]

The device is a stand-in (standin.c): each pass of a tiny model takes a fixed time, asleep. So two cores can hold several workers that each wait for a
device of their own, which is what is to be measured here: groups, transactions and the broker, not arithmetic. A reader at read_committed notes when
outputs become visible. A pause is the longest time in which none of the whole group's did, from a worker's coming or going until the group has settled; what a
rebalance costs is that span less the time that its outputs would have taken before it.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import documents
from contenders import ROOT, Broker, Contender

PARTITIONS = 12
PIPELINE = """
name = "{group}"
[source.kafka]
brokers = "{brokers}"
topics = ["{source}"]
group = "{group}"
properties = {{ {properties} }}
[models.default]
path = "{model}"
device = "cpu"
threads = 1
head_check = "warn"
[signals.pll]
kind = "pll"
masking = "unmasked"
[routes]
pass = "{target}"
review = "{target}"
fail = "{target}"
dead_letter = "{target}-dead"
[delivery]
commit_interval_ms = 200
[cache]
path = "{folder}/cache"
enabled = false
[admin]
listen = "127.0.0.1:0"
"""
PROTOCOLS = {
    "cooperative": '"session.timeout.ms" = "6000", "heartbeat.interval.ms" = "500"',
    "consumer": '"group.protocol" = "consumer"',
}


class Eye(threading.Thread):
    """Notes when outputs become visible: (moment, partition, how many)."""

    def __init__(self, brokers, topic):
        super().__init__(daemon=True)
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"eye-{topic}", "isolation.level": "read_committed",
                                  "enable.auto.commit": False, "fetch.wait.max.ms": 20})
        self.consumer.assign([TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
        self.notes, self.ended = [], False

    def run(self):
        while not self.ended:
            seen = {}
            for message in self.consumer.consume(2000, 0.02):
                if not message.error():
                    seen[message.partition()] = seen.get(message.partition(), 0) + 1
            now = time.monotonic()
            self.notes.extend((now, partition, count) for partition, count in seen.items())
        self.consumer.close()

    def rate(self, since, until):
        return sum(count for at, _, count in self.notes if since <= at < until) / (until - since)

    def pause(self, since, until):
        """The longest time without any output."""
        moments = [since, *(at for at, _, _ in self.notes if since <= at < until), until]
        return max(later - earlier for earlier, later in zip(moments, moments[1:]))


class Group:
    def __init__(self, options, broker, folder, protocol, number):
        self.options, self.broker, self.folder = options, broker, folder / f"{protocol}-{number}"
        self.folder.mkdir()
        self.name = f"scale-{protocol}-{number}"
        admin = AdminClient({"bootstrap.servers": broker.address})
        self.target = f"{self.name}-out"
        for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (self.target, f"{self.target}-dead")]).values():
            future.result()
        self.file = self.folder / "pipeline.toml"
        known = dict(group=self.name, brokers=broker.address, source="scale", target=self.target, folder=self.folder)
        self.file.write_text(PIPELINE.format(properties=PROTOCOLS[protocol], model=ROOT / options.model, **known))
        self.eye = Eye(broker.address, self.target)
        self.workers = []

    def add(self):
        folder = self.folder / f"worker-{len(self.workers)}-{time.monotonic_ns()}"
        folder.mkdir()
        environment = {"TAMIS_ORT_LIB": str(self.options.standin), "STANDIN_ORT": str(ROOT / "var/ort/libonnxruntime.so"),
                       "STANDIN_MS": str(self.options.cost_ms)}
        self.workers.append(Contender("tamis", [self.options.tamis, "run", str(self.file)], folder, environment))

    def wait(self, count):
        """Until the group has dealt out all partitions to `count` workers."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            shares = [worker.metrics().get("tamis_partitions_assigned", 0) for worker in self.workers]
            if len(shares) == count and sum(shares) == PARTITIONS and min(shares) >= PARTITIONS // count:
                return time.monotonic()
            for worker in self.workers:
                worker.check()
            time.sleep(0.1)
        raise SystemExit(f"{self.name}: partitions are {shares} after 90 s")

    def delivered(self):
        return [worker.metrics().get("tamis_documents_total", 0) for worker in self.workers]

    def end(self):
        for worker in self.workers:
            worker.end()
        self.eye.ended = True
        self.eye.join()


def throughput(options, broker, folder, count, number):
    """Documents a second of `count` workers, and each one's share of the mean."""
    group = Group(options, broker, folder, "cooperative", number)
    try:
        for _ in range(count):
            group.add()
        group.eye.start()
        group.wait(count)
        time.sleep(3)
        before, since = group.delivered(), time.monotonic()
        time.sleep(options.seconds)
        after, until = group.delivered(), time.monotonic()
        own = [late - early for early, late in zip(before, after)]
        return {"rate": group.eye.rate(since, until), "shares": sorted(round(value / statistics.mean(own), 2) for value in own)}
    finally:
        group.end()


def rebalance(options, broker, folder, protocol, number):
    """Two workers; a third comes, then leaves in good order. For each: how long it took, the longest pause, and what it cost."""
    group = Group(options, broker, folder, protocol, number)
    try:
        group.add()
        group.add()
        group.eye.start()
        group.wait(2)
        time.sleep(4)
        before = time.monotonic()
        time.sleep(8)
        came = time.monotonic()
        rate = group.eye.rate(before, came)
        group.add()
        settled = group.wait(3)
        time.sleep(4)
        left = time.monotonic()
        group.workers.pop().end()
        again = group.wait(2)
        time.sleep(1)
        spans = {"no change": (before, came), "a worker comes": (came, settled), "a worker goes": (left, again)}
        return {at: (until - since, group.eye.pause(since, until), until - since - group.eye.rate(since, until) * (until - since) / rate)
                for at, (since, until) in spans.items()}
    finally:
        group.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tamis", required=True)
    parser.add_argument("--workers", default="1,2,3,4")
    parser.add_argument("--cost-ms", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=int, default=400_000)
    parser.add_argument("--model", default="tests/fixtures/models/tiny-bert-wordpiece")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tamis-scale-"))
    options.standin = folder / "libstandin.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(options.standin), str(ROOT / "tools/bench/flow/standin.c"), "-ldl"], check=True)
    broker = Broker(folder / "broker")
    try:
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([NewTopic("scale", PARTITIONS, 1)])["scale"].result()
        documents.fill(broker.address, "scale", documents.large(options.documents, 256, 6, 1000), PARTITIONS)
        number, alone = 0, None
        print(f"a pass takes {options.cost_ms} ms; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
        print("| workers | documents/s | a worker | of one worker's | shares of the mean |\n|---|---|---|---|---|")
        for count in map(int, options.workers.split(",")):
            rounds = []
            for _ in range(options.rounds):
                number += 1
                rounds.append(throughput(options, broker, folder, count, number))
            rate = statistics.median(found["rate"] for found in rounds)
            alone = alone or rate
            shares = ", ".join(map(str, rounds[-1]["shares"]))
            print(f"| {count} | {rate:,.0f} | {rate / count:,.0f} | {rate / alone:.2f} | {shares} |", flush=True)
        print("\n| protocol | | lasts | longest pause of the group | costs |\n|---|---|---|---|---|")
        for protocol in PROTOCOLS:
            number += 1
            for at, (lasts, pause, cost) in rebalance(options, broker, folder, protocol, number).items():
                print(f"| {protocol} | {at} | {lasts:.1f} s | {pause:.2f} s | {cost:.1f} s |", flush=True)
    finally:
        broker.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
