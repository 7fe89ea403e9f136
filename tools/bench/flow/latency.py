"""Latency at half load: from the moment a document is produced to the moment a reader at read_committed has it.

A feeder and a reader, each a process of its own, on one clock. The contender runs with no signals; its load is half of what it did
with a backlog just before.
"""

import json
import multiprocessing
import random
import statistics
import time

from confluent_kafka import Consumer, Producer, TopicPartition

import documents

WARM_SECONDS, SECONDS = 5, 20


def feed(brokers, topic, partitions, rate, seconds, size):
    """Produces `rate` documents a second, in steps of 5 ms, each with the moment in its key."""
    bodies = [body for _, body in documents.large(500, size, 4)]
    producer = Producer({"bootstrap.servers": brokers, "compression.type": "zstd", "linger.ms": 5})
    began, sent = time.time(), 0
    while (now := time.time()) < began + seconds:
        while sent < (now - began) * rate:
            producer.produce(topic, key=repr(now), value=bodies[sent % len(bodies)], partition=sent % partitions)
            sent += 1
        producer.poll(0)
        time.sleep(0.005)
    producer.flush()


def read(brokers, topic, partitions, until, queue):
    """Seconds from the key's moment to now, of every record that was fed after the warm-up."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"reader-{topic}", "isolation.level": "read_committed",
                         "enable.auto.commit": False, "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    warm, found = None, []
    while time.time() < until:
        for message in consumer.consume(2000, 0.01):
            if message.error():
                continue
            born, now = float(message.key()), time.time()
            warm = warm or born + WARM_SECONDS
            if born >= warm:
                found.append(now - born)
    consumer.close()
    queue.put(found)


def one(bench, name, rate, partitions):
    bench.groups += 1
    group = f"late-{name}-{bench.groups}"
    source, target = f"{group}-in", f"{group}-out"
    bench.topics(source, target, f"{target}-dead")
    contender = bench.roster.start(name, source, target, group)
    context, brokers = multiprocessing.get_context("spawn"), bench.broker.address
    try:
        seconds, queue = WARM_SECONDS + SECONDS, context.Queue()
        time.sleep(4)
        until = time.time() + seconds + 5
        reader = context.Process(target=read, args=(brokers, target, partitions, until, queue))
        feeder = context.Process(target=feed, args=(brokers, source, partitions, rate, seconds, bench.options.bytes))
        reader.start()
        feeder.start()
        found = queue.get(timeout=seconds + 60)
        feeder.join()
        reader.join()
        contender.check()
    finally:
        contender.end()
    bench.drop(source, target, f"{target}-dead")
    found.sort()
    return found


def measure(bench):
    """Half of the slowest contender's pace, so that all have the same load."""
    options = bench.options
    total = min(options.documents, 200_000)
    bench.topics("paces")
    documents.fill(bench.broker.address, "paces", documents.large(total, options.bytes, 5), 4)
    names = options.contenders.split(",")
    rate = min(bench.measure(name, "paces", total)["rate"] for name in names) / 2
    bench.drop("paces")
    print(f"== latency at half load: {rate:.0f} documents/s of {options.bytes} bytes, commits every {options.commit_ms} ms")
    print("| | p50, ms | p99, ms | documents |\n|---|---|---|---|")
    for name in names:
        found = one(bench, name, rate, 4)
        p50, p99 = (found[int(len(found) * share)] * 1000 for share in (0.5, 0.99))
        print(f"| {name} | {p50:.0f} | {p99:.0f} | {len(found)} |", flush=True)
