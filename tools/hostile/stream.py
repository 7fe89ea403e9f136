"""A hostile stream through a live worker on a genuine broker (`make hostile RECORDS=1000000`; the tests run a short form).

    python tools/hostile/stream.py --tamis target/release/tamis [--brokers HOST:PORT] [--records 20000] [--seed 1]

Every record must end on a route with a reason, byte for byte as it came; a client that isn't tamis's counts, at read_committed. The worker must live,
must not panic, must drain in good order, and must keep its memory within the bound that docs/performance.md states. Then the file source is given bombs:
small .zst and .gz files that hold gigabytes. The last line of output is one JSON object of figures. Needs var/venv.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import bombs
import records

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/it"))
import referee  # noqa: E402  (its `wire` writes what no client library will)

MIB = 1024 * 1024
PARTITIONS = 3
ROUTES = ("pass", "review", "fail", "dead")
IN_FLIGHT_BYTES, BATCH_BYTES, DOCUMENTS = 64 * MIB, 16 * MIB, 4096

PIPELINE = """
name = "{name}"
[source.kafka]
brokers = "{brokers}"
topics = ["{name}.raw"]
group = "{name}"
properties = {{ "fetch.message.max.bytes" = "20000000" }}
[models.default]
path = "{model}"
device = "cpu"
threads = 1
head_check = "warn"
[signals.pll]
kind = "pll"
masking = "strided"
stride = 2
[signals.text]
kind = "text"
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 13.5
review_above = 11.5
[[rules]]
name = "letters"
signal = "text.letter_rate"
min = 0.5
[routes]
pass = "{name}.pass"
review = "{name}.review"
fail = "{name}.fail"
dead_letter = "{name}.dead"
[delivery]
max_in_flight_bytes = {in_flight}
max_batch_bytes = {batch}
max_documents = {documents}
[cache]
path = "{folder}/cache"
max_bytes = 67108864
[admin]
listen = "127.0.0.1:0"
"""


def memory(pid):
    """Resident MiB now, and at most so far."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    value = lambda key: int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1]) / 1024
    return value("VmRSS"), value("VmHWM")


def fill(brokers, topic, options):
    """Writes the input; how many records."""
    producer = Producer({"bootstrap.servers": brokers, "compression.type": "zstd", "linger.ms": 50, "message.max.bytes": 20_000_000})
    failed, count = [], 0
    report = lambda error, _: error and failed.append(str(error))
    monsters = list(records.monsters(options.monster_mib)) if options.monster_mib else []
    for record in itertools.chain(monsters, records.stream(options.records - len(monsters) - options.wire, options.seed)):
        while True:
            try:
                producer.produce(topic, **record, partition=count % PARTITIONS, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if count % 500 == 0:
            producer.poll(0)
    producer.flush()
    if failed:
        raise SystemExit(f"the input could not be written: {failed[0]}")
    wired = list(records.wire(options.wire, options.seed))
    for at in range(0, len(wired), 50):
        referee.wire({"brokers": brokers, "topic": topic, "records": wired[at : at + 50]})
    return count + len(wired)


def read(brokers, topics):
    """Every committed record of the topics."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "hostile-referee", "isolation.level": "read_committed",
                         "enable.auto.commit": False, "enable.partition.eof": True, "fetch.message.max.bytes": 30_000_000})
    consumer.assign([TopicPartition(topic, n, 0) for topic in topics for n in range(PARTITIONS)])
    ended = 0
    while ended < len(topics) * PARTITIONS:
        for message in consumer.consume(2000, 1.0):
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise KafkaException(message.error())
                ended += 1
            else:
                yield message
    consumer.close()


def seal(message):
    """What must not change on the way: key, value, and whether they are there."""
    crc = 0
    for part in (message.key(), message.value()):
        crc = zlib.crc32(b"\0" if part is None else b"\1" + part, crc)
    return crc


def last(message, name):
    values = [value for key, value in message.headers() or [] if key == name]
    return values[-1] if values else None


def check(brokers, name):
    """Outputs against inputs. Counts by route and class, or the end of the program."""
    wanted = {(m.partition(), m.offset()): seal(m) for m in read(brokers, [f"{name}.raw"])}
    total, problems, counts, classes, seen = len(wanted), [], dict.fromkeys([*ROUTES, "tombstones"], 0), {}, {}
    for message in read(brokers, [f"{name}.{route}" for route in ROUTES]):
        source = last(message, "tamis-source").decode()
        topic, partition, offset = source.rsplit("/", 2)
        place, verdict = (int(partition), int(offset)), last(message, "tamis-verdict").decode()
        route = message.topic().rsplit(".", 1)[1]
        say = lambda what: problems.append(f"{source}: {what}")
        if topic != f"{name}.raw" or place not in wanted:
            say("comes from nowhere")
            continue
        if wanted[place] != seal(message):
            say("was changed on the way")
        if verdict == "tombstone":
            if route in seen.setdefault(place, set()):
                say("a deletion came twice")
            seen[place].add(route)
            continue
        if place in seen:
            say("came twice")
        seen[place] = {route}
        counts[route] += 1
        if verdict != {"dead": "dead-letter"}.get(route, route):
            say(f"says {verdict} on {route}")
        if route == "dead":
            error = json.loads(last(message, "tamis-error"))
            classes[error["class"]] = classes.get(error["class"], 0) + 1
            if not error["message"] or not error["stage"]:
                say("is a dead letter without a reason")
        elif (route == "pass") != (json.loads(last(message, "tamis-reasons")) == []):
            say(f"is on {route} with reasons {last(message, 'tamis-reasons')}")
    for place, routes in seen.items():
        if len(routes) == 3:
            counts["tombstones"] += 1
        elif len(routes) != 1:
            problems.append(f"{place}: a deletion reached only {sorted(routes)}")
    lost = len(wanted.keys() - seen.keys())
    if lost or problems:
        raise SystemExit(f"{lost} of {total} records were lost; {len(problems)} problems: {problems[:10]}")
    return total, counts, classes


def watch(worker, log, brokers, name, total, seconds):
    """Waits until everything is committed. Memory at the start of the work and at most, MiB."""
    group = Consumer({"bootstrap.servers": brokers, "group.id": name, "enable.auto.commit": False})
    places = [TopicPartition(f"{name}.raw", n) for n in range(PARTITIONS)]
    deadline, start, done = time.monotonic() + seconds, None, 0
    while done < total:
        if worker.poll() is not None:
            raise SystemExit(f"the worker ended with {worker.returncode} after {done} of {total} records:\n{log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{done} of {total} records after {seconds} s:\n{log.read_text()[-4000:]}")
        if start is None and "partitions assigned" in log.read_text():
            start = memory(worker.pid)[0]
        try:
            done = sum(max(0, place.offset) for place in group.committed(places, timeout=10))
        except KafkaException:
            pass
        time.sleep(0.2)
    group.close()
    return start or 0.0, memory(worker.pid)[1]


def through_kafka(options, brokers, folder):
    name = f"hostile-{os.getpid()}"
    admin = AdminClient({"bootstrap.servers": brokers})
    config = {"max.message.bytes": "20000000"}
    for future in admin.create_topics([NewTopic(f"{name}.{part}", PARTITIONS, 1, config=config) for part in ("raw", *ROUTES)]).values():
        future.result()
    began = time.monotonic()
    total = fill(brokers, f"{name}.raw", options)
    print(f"wrote {total} records in {time.monotonic() - began:.0f} s", flush=True)
    file, log = folder / "pipeline.toml", folder / "log"
    known = dict(name=name, brokers=brokers, model=ROOT / options.model, folder=folder)
    file.write_text(PIPELINE.format(in_flight=IN_FLIGHT_BYTES, batch=BATCH_BYTES, documents=DOCUMENTS, **known))
    began = time.monotonic()
    with open(log, "w") as sink:
        worker = subprocess.Popen([options.tamis, "run", str(file)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=ROOT)
    try:
        start, most = watch(worker, log, brokers, name, total, options.seconds)
        spent = time.monotonic() - began
        worker.send_signal(signal.SIGTERM)
        if worker.wait(60) != 0:
            raise SystemExit(f"the worker ended with {worker.returncode} when asked to stop:\n{log.read_text()[-4000:]}")
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    if "panicked" in log.read_text():
        raise SystemExit(f"a panic:\n{log.read_text()[-4000:]}")
    count, counts, classes = check(brokers, name)
    if count != total:
        raise SystemExit(f"wrote {total} records and found {count} of them")
    admin.delete_topics([f"{name}.{part}" for part in ("raw", *ROUTES)])
    # The table of docs/performance.md, line by line: documents, what is known of them, a step, fetched ahead, in hand, whole texts. Scores in memory and
    # the store fill up to 64 and 120 MiB as documents come, by less than 1 KiB each.
    bound = (2 * IN_FLIGHT_BYTES + 8192 * DOCUMENTS + 3 * BATCH_BYTES) / MIB + 40 + 32 + 32 + min(64 + 120, total / 1024)
    # A huge word has a token for every three bytes at most, of 18 bytes each while it is tokenised: as many at once as there are cores.
    bound += min(len(os.sched_getaffinity(0)), 4) * options.monster_mib / 3 * 18
    if most - start > bound:
        raise SystemExit(f"memory rose by {most - start:.0f} MiB, and the bound is {bound:.0f}")
    return {"records": total, "seconds": round(spent), "start_mib": round(start), "most_mib": round(most), "bound_mib": round(bound),
            "routes": counts, "dead_letters": classes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tamis", required=True)
    parser.add_argument("--brokers", help="a running broker; one is started if not given")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--wire", type=int, default=200, help="of them with header names that no client library writes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=7_200, help="the longest that it may take")
    parser.add_argument("--model", default="tests/fixtures/models/tiny-bert-wordpiece")
    parser.add_argument("--monster-mib", type=int, default=10, help="how large the huge words are, about; 0: none")
    parser.add_argument("--bomb-mib", type=int, default=1024, help="what each bomb of the file source holds")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tamis-hostile-"))
    script, brokers = str(ROOT / "tools/kafka/broker.sh"), options.brokers
    if brokers is None:
        said = subprocess.run([script, "up", "--dir", str(folder / "broker"), "--watch-pid", str(os.getpid())], check=True, stdout=subprocess.PIPE, text=True)
        brokers = said.stdout.strip().splitlines()[-1]
    try:
        figures = through_kafka(options, brokers, folder)
        figures["bombs"] = bombs.through_files(options, folder)
    finally:
        if options.brokers is None:
            subprocess.run([script, "down", "--dir", str(folder / "broker")], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(folder)], check=False)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
