"""Throughput from Kafka to Kafka, exactly once: tamis against a bare copy loop, Kafka Streams and a Python stage (`make bench-flow`).

    python tools/bench/flow/flow.py --tamis target/release/tamis --copy target/release/examples/copy [--parts none,cached,model,latency]

All contenders of a part take turns on one broker and one input; documents a second are taken from the group's committed offsets, between
5 % and 95 % of the input. Processor time is user and system, of the contender alone and of the broker. Medians over the rounds. Every output is
counted at read_committed by a client that is none of the contenders'. Needs var/venv (confluent-kafka, onnxruntime, tokenizers).
"""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import documents
import latency
from contenders import Broker, Roster, wait
from pipeline import SCORES

PARTITIONS = 4


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.broker = Broker(folder / "broker")
        self.admin = AdminClient({"bootstrap.servers": self.broker.address})
        self.roster = Roster(options, self.broker.address, folder)
        self.groups = 0

    def topics(self, *names):
        made = self.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        for future in made.values():
            future.result()
        # On a busy machine a topic that was made is not at once one that others are told of.
        wait(f"topics {names}", 30, lambda: set(names) <= self.admin.list_topics(timeout=10).topics.keys())

    def drop(self, *names):
        for future in self.admin.delete_topics(list(names)).values():
            future.result()

    def committed(self, watcher, topic):
        """Offsets that the watcher's group has committed on the topic, summed. It never joins the group."""
        try:
            found = watcher.committed([TopicPartition(topic, n) for n in range(PARTITIONS)], timeout=10)
        except KafkaException:  # a group whose coordinator is not there yet
            return 0
        return sum(max(0, position.offset) for position in found)

    def read(self, topic, values=False):
        """What a reader at read_committed sees: how many records, or key to headers."""
        consumer = Consumer(
            {"bootstrap.servers": self.broker.address, "group.id": "bench-reader", "isolation.level": "read_committed",
             "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
        )
        consumer.assign([TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
        count, ended, found = 0, 0, {}
        while ended < PARTITIONS:
            for message in consumer.consume(5000, 1.0):
                if message.error():
                    ended += 1
                    continue
                count += 1
                if values:
                    found[message.key().decode()] = dict(message.headers() or [])
        consumer.close()
        return found if values else count

    def measure(self, name, source, total, seconds=None, cache=None, keep=False):
        """One run of one contender over the whole input, or `seconds` of it. A dictionary of figures."""
        self.groups += 1
        group, target = f"{name}-{self.groups}", f"out-{name}-{self.groups}"
        self.topics(target, f"{target}-dead")
        watcher = Consumer({"bootstrap.servers": self.broker.address, "group.id": group, "enable.auto.commit": False})
        contender = self.roster.start(name, source, target, group, cache)
        samples = []
        try:
            began = time.monotonic()
            while True:
                contender.check()
                done = self.committed(watcher, source)
                if done and (not samples or done != samples[-1][1]):
                    extra = contender.metrics() if name in SCORES else {}
                    samples.append((time.monotonic(), done, contender.cpu(), self.broker.cpu(), extra))
                if done >= total or (seconds and samples and samples[-1][0] - samples[0][0] >= seconds):
                    break
                if time.monotonic() - began > 600:
                    raise SystemExit(f"{name}: {done} of {total} documents in ten minutes:\n{contender.log.read_text()[-3000:]}")
                time.sleep(0.02)
        finally:
            contender.end()
            watcher.close()
        figures = {"name": name, **paces(samples, total)}
        if not seconds:
            seen = self.read(target)
            if seen != total:
                raise SystemExit(f"{name}: {seen} outputs of {total} inputs")
        if keep:
            outputs = figures["outputs"] = self.read(target, values=True)
            told = [int(headers["row-tokens"]) for headers in outputs.values() if "row-tokens" in headers]
            if told:
                figures["row_tokens"] = statistics.mean(told)
        self.drop(target, f"{target}-dead")
        return figures


def paces(samples, total):
    """Documents a second and processor seconds per 100,000 documents between the first sample from 5 % on and the last up to 95 %."""
    inner = [sample for sample in samples if total * 0.05 <= sample[1] <= total * 0.95]
    if len(inner) < 2:
        inner = samples
    first, last = inner[0], inner[-1]
    if last[1] <= first[1]:
        raise SystemExit("too few commits to measure: give it more documents")
    wall, count = last[0] - first[0], last[1] - first[1]
    figures = {"rate": count / wall, "cpu": (last[2] - first[2]) / count * 1e5, "broker": (last[3] - first[3]) / count * 1e5}
    grown = lambda name: last[4][name] - first[4].get(name, 0.0)
    if "tamis_commit_seconds_sum" in last[4] and "tamis_commit_seconds_sum" in first[4]:
        figures["committing"] = grown("tamis_commit_seconds_sum") / wall
    if "tamis_device_run_seconds_sum" in last[4]:
        figures["device"] = grown("tamis_device_run_seconds_sum") / wall
        figures["row_tokens"] = (grown("tamis_device_row_tokens_total") - grown("tamis_device_padding_tokens_total")) / count
    return figures


def rounds(bench, names, source, total, **more):
    """Every contender in turn, so many rounds. Name to list of figures."""
    found = {name: [] for name in names}
    for number in range(bench.options.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            figures = bench.measure(name, source, total, **more)
            found[name].append(figures)
            print(f"  round {number + 1} {name}: {figures['rate']:.0f} documents/s, {figures['cpu']:.2f} s a 100,000", flush=True)
    return found


def table(found, against):
    """A line for each contender, medians, as in docs/performance.md."""
    median = lambda name, key: statistics.median(entry[key] for entry in found[name])
    print(f"| | documents/s | × {against} | processor seconds a 100,000 documents | of the broker | × {against}'s |")
    print("|---|---|---|---|---|---|")
    for name in found:
        rate, cpu = median(name, "rate"), median(name, "cpu")
        ratio, cost = rate / median(against, "rate"), cpu / median(against, "cpu")
        print(f"| {name} | {rate:,.0f} | {ratio:.2f} | {cpu:.2f} | {median(name, 'broker'):.2f} | {cost:.2f} |")
    for name in found:
        ratios = sorted(own["rate"] / other["rate"] for own, other in zip(found[name], found[against]))
        told = [entry["committing"] for entry in found[name] if "committing" in entry]
        steps = f"; of wall time in delivery steps {statistics.median(told):.2f}" if told else ""
        print(f"{name}: × {against} by round {[round(ratio, 2) for ratio in ratios]}, median {statistics.median(ratios):.2f}{steps}")
    print(flush=True)


def without_signals(bench):
    options = bench.options
    total = options.documents
    bench.topics("large")
    documents.fill(bench.broker.address, "large", documents.large(total, options.bytes, 1), PARTITIONS)
    print(f"== no signals: {total} documents of {options.bytes} bytes")
    found = rounds(bench, options.contenders.split(","), "large", total)
    table(found, "bare")
    bench.drop("large")
    return statistics.median(entry["rate"] for entry in found["tamis"])


def all_cached(bench):
    """Documents of which every window's sums are in the cache: a first pass fills it, and is not counted."""
    options = bench.options
    total, distinct = options.cached_documents, options.distinct
    for topic, count in (("first", distinct), ("again", total)):
        bench.topics(topic)
        documents.fill(bench.broker.address, topic, documents.large(count, options.cached_bytes, 2, distinct), PARTITIONS)
    cache = bench.folder / "cache"
    bench.measure("tamis-model", "first", distinct, cache=cache)
    print(f"== all cache hits: {total} documents of {options.cached_bytes} bytes, {distinct} different")
    names = ["bare", "tamis-model", *(["tamis-before"] if options.before else [])]
    found = rounds(bench, names, "again", total, cache=cache)
    table(found, "bare")
    bench.drop("first", "again")


def with_model(bench):
    options = bench.options
    bench.topics("small")
    # On one partition, so that whoever comes less far has judged the same documents as the others.
    total = documents.fill(bench.broker.address, "small", documents.small(options.model_documents, 3, 126, options.model), 1)
    print(f"== the default model, strided by 7: {options.seconds} s each")
    strided = rounds(bench, ["python", "tamis-model"], "small", total, seconds=options.seconds, keep=True)
    table(strided, "python")
    against(strided, "python", "tamis-model")
    print(f"== the default model, every token by itself: {options.seconds} s each")
    single = rounds(bench, ["python-single", "tamis-single", "tamis-certified", "tamis-model"], "small", total, seconds=options.seconds, keep=True)
    table(single, "python-single")
    for name in ("tamis-single", "tamis-certified", "tamis-model"):
        against(single, "python-single", name)
    bench.drop("small")


def against(found, reference, name):
    """Prints in how many documents that both judged in any round the verdict of `name` is another than the reference's, and how busy the device was."""
    judged = lambda who, header: {key: headers[header].decode() for entry in found[who] for key, headers in entry["outputs"].items()}
    theirs, ours = judged(reference, "verdict"), judged(name, "tamis-verdict")
    both = theirs.keys() & ours.keys()
    differ = sorted(key for key in both if theirs[key] != ours[key])
    kinds = {kind: sum(theirs[key] == kind for key in both) for kind in ("pass", "review", "fail")}
    median = lambda who, key: statistics.median(entry[key] for entry in found[who])
    rows = median(name, "row_tokens"), median(reference, "row_tokens")
    print(f"{name}: time inside the device's run {median(name, 'device'):.3f} of wall time; row tokens a document {rows[0]:,.0f}, {reference}'s {rows[1]:,.0f}; "
          f"judged by both: {len(both)} ({kinds}), verdicts that differ: {len(differ)}",
          [(key, theirs[key], ours[key]) for key in differ[:5]], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tamis", required=True)
    parser.add_argument("--before", help="another tamis program, to take its turns in the part with all cache hits")
    parser.add_argument("--copy", required=True)
    parser.add_argument("--parts", default="none,cached,model,latency")
    parser.add_argument("--contenders", default="bare,tamis,streams", help="of the part without signals")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=400_000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--cached-documents", type=int, default=100_000)
    parser.add_argument("--cached-bytes", type=int, default=1024)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument("--model-documents", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--commit-ms", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="models/tamis-en")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tamis-flow-"))
    bench = Bench(options, folder)
    try:
        parts = options.parts.split(",")
        if "none" in parts:
            without_signals(bench)
        if "cached" in parts:
            all_cached(bench)
        if "model" in parts:
            with_model(bench)
        if "latency" in parts:
            latency.measure(bench)
    finally:
        bench.broker.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
