"""Owns the judgement: what a reader that isn't ours (confluent-kafka, read_committed) finds on the outputs, held against the input.

It reads from where it stopped the last time, so that checkpoints cost only what is new. It knows nothing of tamis but its headers.
"""

import json
import random
import time
from collections import Counter

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

FINDINGS = ("lost", "duplicated", "changed", "misrouted", "out-of-order", "without-reason", "unknown")


def header(message, name):
    values = [value for found, value in (message.headers() or []) if found == name]
    return None if not values or values[-1] is None else values[-1].decode()


def reason(message):
    return {"class": "", "message": ""} | json.loads(header(message, "tamis-error") or "{}")


class Referee:
    """`outputs` leads from route to topic. `partitions` is every topic's count."""

    def __init__(self, cluster, source, outputs, partitions, group):
        self.cluster, self.source, self.outputs, self.partitions, self.group = cluster, source, outputs, partitions, group
        self.at = {(topic, p): 0 for topic in (source, *outputs.values()) for p in range(partitions)}
        self.last, self.totals, self.examples = {}, Counter(), []

    def ends(self, topics, isolation=IsolationLevel.READ_COMMITTED):
        wanted = {TopicPartition(t, p): OffsetSpec.latest() for t in topics for p in range(self.partitions)}
        answers = self.cluster.admin.list_offsets(wanted, isolation_level=isolation, request_timeout=10)
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}
        except KafkaException:
            self.cluster.renew()
            raise

    def forget(self, topic):
        """A topic was made anew: its offsets begin again, and an input's offsets mean other documents."""
        self.at |= {(topic, p): 0 for p in range(self.partitions)}
        self.last = {} if topic == self.source else {lane: at for lane, at in self.last.items() if lane[0] != topic}

    def patiently(self, topics, tries=30):
        """The ends, asked for again while brokers that were brought back find themselves."""
        for left in reversed(range(tries)):
            try:
                return self.ends(topics)
            except KafkaException:
                if not left:
                    raise
                time.sleep(0.5)

    def undecided(self):
        """How many output partitions hold records of a transaction that is neither committed nor aborted."""
        stable = self.ends(self.outputs.values())
        high = self.ends(self.outputs.values(), IsolationLevel.READ_UNCOMMITTED)
        return sum(high[lane] > stable[lane] for lane in stable)

    def lag(self):
        """Records (and markers) of the input behind the group's committed offsets."""
        lanes = [TopicPartition(self.source, p) for p in range(self.partitions)]
        consumer = Consumer({"bootstrap.servers": self.cluster.open, "group.id": self.group, "enable.auto.commit": False, "log_level": 2})
        try:
            committed = consumer.committed(lanes, timeout=10)
        finally:
            consumer.close()
        ends = self.ends([self.source])
        return sum(ends[(tp.topic, tp.partition)] - max(tp.offset, 0) for tp in committed)

    def read(self, topics, seconds=180):
        """What is new on the topics, up to their ends of now."""
        ends = self.patiently(topics)
        open_lanes = {lane for lane, end in ends.items() if end > self.at[lane]}
        consumer = Consumer(
            {
                "bootstrap.servers": self.cluster.open,
                "group.id": f"referee-{random.random()}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "log_level": 2,
            }
        )
        consumer.assign([TopicPartition(t, p, self.at[(t, p)]) for t, p in open_lanes])
        found, deadline = [], time.monotonic() + seconds
        while open_lanes and time.monotonic() < deadline:
            for message in consumer.consume(2_000, 0.5):
                if message.error() is None:
                    found.append(message)
                elif message.error().name() == "_PARTITION_EOF":
                    open_lanes.discard((message.topic(), message.partition()))
                elif not message.error().retriable():
                    raise KafkaException(message.error())
        consumer.close()
        if open_lanes:
            raise RuntimeError(f"no end of {sorted(open_lanes)} after {seconds} s")
        self.at |= ends
        return found

    def note(self, kind, what):
        self.totals[kind] += 1
        if len(self.examples) < 40:
            self.examples.append(f"{kind}: {what}")

    def check(self, repeats_allowed, device_faults):
        """Holds everything new on the outputs against everything new in the input. To be asked when the group's lag is 0."""
        sources = {f"{m.topic()}/{m.partition()}/{m.offset()}": m for m in self.read([self.source])}
        routes = {topic: route for route, topic in self.outputs.items()}
        seen = Counter()
        for message in self.read(sorted(self.outputs.values())):
            where, route = header(message, "tamis-source"), routes[message.topic()]
            original = sources.get(where)
            if original is None:
                self.note("repeated" if repeats_allowed else "unknown", f"{where} on {route} is not in this part of the input")
                continue
            seen[(where, route)] += 1
            self.one(message, original, where, route, repeats_allowed, device_faults)
        for where, original in sources.items():
            wanted = ("pass", "review", "fail") if header(original, "expect") == "tombstone" else None
            found = Counter({route: seen[(where, route)] for route in self.outputs if seen[(where, route)]})
            missing = sum(found[route] == 0 for route in wanted) if wanted else int(not found)
            extra = sum(found.values()) - (len(wanted) if wanted else 1) + missing
            for _ in range(missing):
                self.note("lost", f"{where} is on {dict(found)}")
            for _ in range(max(0, extra)):
                self.note("repeated" if repeats_allowed else "duplicated", f"{where} is on {dict(found)}")
        self.totals["documents"] += len(sources)
        self.totals["outputs"] += sum(seen.values())
        for (_, route), count in seen.items():
            self.totals[f"on-{route}"] += count
        return len(sources)

    def one(self, message, original, where, route, repeats_allowed, device_faults):
        """One output against the record that it came from."""
        if (message.value(), message.key(), message.timestamp()[1]) != (original.value(), original.key(), original.timestamp()[1]):
            self.note("changed", f"{where}: key, value or timestamp")
        own = original.headers() or []
        if (message.headers() or [])[: len(own)] != own:
            self.note("changed", f"{where}: headers")
        expect, verdict = header(original, "expect"), header(message, "tamis-verdict")
        if expect == "tombstone":
            fits = route != "dead" and verdict == "tombstone"
        elif route == "dead":
            fits = verdict == "dead-letter" and (expect == "dead" or (device_faults and reason(message)["class"].startswith("device")))
        else:
            fits = expect == "document" and verdict == route
        if not fits or message.partition() != original.partition():
            self.note("misrouted", f"{where}: {expect} with verdict {verdict} on {route}/{message.partition()}")
        if route == "dead" and not reason(message)["message"]:
            self.note("without-reason", where)
        if route in ("review", "fail") and verdict == route and not json.loads(header(message, "tamis-reasons") or "[]"):
            self.note("without-reason", where)
        lane, offset = (message.topic(), message.partition(), where.rsplit("/", 1)[0]), int(where.rsplit("/", 1)[1])
        if self.last.get(lane, -1) >= offset and not repeats_allowed:
            self.note("out-of-order", f"{where} after {self.last[lane]}")
        self.last[lane] = max(offset, self.last.get(lane, -1))

    def violations(self):
        return {kind: self.totals[kind] for kind in FINDINGS if self.totals[kind]}
