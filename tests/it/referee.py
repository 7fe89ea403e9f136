"""The referee: a Kafka client that isn't ours (confluent-kafka), spoken to in JSON lines.

Owns: making topics, producing the numbered input, and saying what a reader at read_committed or read_uncommitted sees.
Each request is one JSON object on a line of standard input with a "do" key; each answer is one JSON object on a line.
It knows nothing of tamis but its headers.
"""

import json
import os
import random
import socket
import struct
import sys
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

GOOD = """the committee met on tuesday to discuss the annual budget
a letter arrived from my sister in the north
please send the completed form to the office by friday
she opened the window and looked out over the quiet garden
the river was high after three days of rain
you can find more information about this program on our website
he had never seen such a large house before
water is made of hydrogen and oxygen
the council will publish its report in the spring
they walked slowly back along the road to the village""".splitlines()
BAD = """xq zzv kkj wpt qqo lld
garden the looked window over and out opened she quiet the
%% $$ ## @@ !! ^^ && **
teh rpeort wlil b3 pulbihsed n1 hte sprnig
buy buy buy cheap cheap now now now click click""".splitlines()


def reach(r):
    """How to reach the brokers of a request, which may bring properties of its own for a listener that wants to know who asks."""
    return {"bootstrap.servers": r["brokers"], **r.get("client", {})}


def admin(r):
    """A client for the caller to keep until it has its answers: one that is thrown away takes its requests with it."""
    return AdminClient(reach(r))


def create(r):
    client = admin(r)
    topics = [NewTopic(t["name"], num_partitions=t["partitions"], replication_factor=1, config=t.get("config", {})) for t in r["topics"]]
    for name, future in client.create_topics(topics, operation_timeout=30).items():
        future.result()
    return {"created": len(topics)}


def document(number, rng, times=1):
    """One numbered value, its sentence so many times; a few of each kind of trouble among ordinary sentences."""
    kind = number % 50
    if kind == 7:
        return b'{"id": "%d", "text": ' % number  # not JSON
    if kind == 17:
        return b"\xff\xfe not utf-8 %d" % number
    if kind == 27:
        return json.dumps({"id": str(number)}).encode()  # no text
    if kind == 37:
        return json.dumps({"id": str(number), "text": ""}).encode()  # nothing to score
    words = " ".join([rng.choice(GOOD if rng.random() < 0.6 else BAD)] * times)
    return json.dumps({"id": str(number), "text": f"{words} {rng.randint(1, 400)}"}).encode()


def delete(r):
    """Deletes topics."""
    client = admin(r)
    for future in client.delete_topics(r["topics"], operation_timeout=30).values():
        future.result()
    return {}


def grow(r):
    """Gives a topic more partitions."""
    client = admin(r)
    for future in client.create_partitions([NewPartitions(r["topic"], r["partitions"])]).values():
        future.result()
    return {}


def large(r):
    """Produces documents with a short text and a long rest that no codec makes much smaller."""
    producer = Producer({"bootstrap.servers": r["brokers"], "message.max.bytes": 100_000_000, "linger.ms": 0})
    failed = []
    for n in range(r["count"]):
        rest = os.urandom(r["bytes"] // 2).hex()
        value = json.dumps({"id": str(n), "text": f"the committee met on tuesday {n}", "rest": rest})
        producer.produce(r["topic"], value=value, partition=n % r["partitions"], on_delivery=lambda e, m: failed.append(str(e)) if e else None)
        producer.flush(60)
    if failed:
        raise RuntimeError(failed[0])
    return {}


def forget(r):
    """Deletes a partition's records before an offset, as retention does."""
    client = admin(r)
    for future in client.delete_records([TopicPartition(r["topic"], r["partition"], r["before"])]).values():
        future.result()
    return {}


def transact(r):
    """Produces numbered documents in transactions of `each` records, every third of which is aborted."""
    rng = random.Random(r["first"])
    producer = Producer({"bootstrap.servers": r["brokers"], "transactional.id": f"referee-{random.random()}"})
    producer.init_transactions(30)
    committed = 0
    for n, first in enumerate(range(r["first"], r["first"] + r["count"], r["each"])):
        producer.begin_transaction()
        for number in range(first, first + r["each"]):
            producer.produce(r["topic"], value=document(number, rng), key=b"k%d" % (number % r["keys"]), partition=0)
        time.sleep(0.03)  # so that the log rolls its segments: compaction leaves the last one alone
        if n % 3 == 2:
            producer.flush(30)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            committed += r["each"]
    return {"committed": committed}


def hang(r):
    """Opens a transaction that commits an offset of a group, and leaves it open until `unhang`."""
    producer = Producer({"bootstrap.servers": r["brokers"], "transactional.id": f"referee-{random.random()}"})
    producer.init_transactions(30)
    consumer = Consumer({"bootstrap.servers": r["brokers"], "group.id": r["group"]})
    producer.begin_transaction()
    offsets = [TopicPartition(r["topic"], p, o) for p, o in r["offsets"]]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
    consumer.close()
    KEPT[("hanging", r["group"])] = producer
    return {}


def unhang(r):
    """Aborts that transaction."""
    KEPT.pop(("hanging", r["group"])).abort_transaction(30)
    return {}


def crc32c(data):
    """CRC-32C (Castagnoli), bit by bit in a table."""
    if not hasattr(crc32c, "table"):
        crc32c.table = []
        for n in range(256):
            for _ in range(8):
                n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
            crc32c.table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc32c.table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(n):
    """A zigzag varint, as records use it."""
    n, out = (n << 1) ^ (n >> 63), bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def wire(r):
    """Produces records whose header names are any bytes, which no client library will: a record batch and a Produce request by hand."""
    host, port = r["brokers"].split(":")
    sized = lambda b: varint(-1) if b is None else varint(len(b)) + b
    unhex = lambda s: None if s is None else bytes.fromhex(s)
    records = b""
    for at, rec in enumerate(r["records"]):
        headers = b"".join(sized(unhex(n)) + sized(unhex(v)) for n, v in rec["headers"])
        body = b"\0" + varint(0) + varint(at) + sized(unhex(rec.get("key"))) + sized(unhex(rec["value"]))
        body += varint(len(rec["headers"])) + headers
        records += varint(len(body)) + body
    now, count = int(time.time() * 1000), len(r["records"])
    sealed = struct.pack(">hiqqqhii", 0, count - 1, now, now, -1, -1, -1, count) + records
    batch = struct.pack(">ibI", -1, 2, crc32c(sealed)) + sealed
    batch = struct.pack(">qi", 0, len(batch)) + batch
    name = r["topic"].encode()
    body = struct.pack(">hhih", 0, 3, 1, -1)  # Produce, version 3; no client id
    body += struct.pack(">hhii", -1, -1, 30_000, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, 0, len(batch)) + batch
    with socket.create_connection((host, int(port)), 30) as s:
        s.sendall(struct.pack(">i", len(body)) + body)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
            more = s.recv(65536)
            if not more:
                raise RuntimeError("the broker hung up")
            answer += more
    at = 4 + 4 + 4 + 2 + len(name) + 4 + 4
    (code,) = struct.unpack(">h", answer[at : at + 2])
    if code:
        raise RuntimeError(f"the broker refused the batch with code {code}")
    return {}


def produce(r):
    """Produces `count` numbered documents of `times` sentences, spread over the partitions at random, keyed by number. Each once, also where a broker crashes meanwhile."""
    rng = random.Random(r.get("seed", 1))
    producer = Producer({"bootstrap.servers": r["brokers"], "linger.ms": 20, "enable.idempotence": True, **r.get("config", {})})
    failed = []
    for number in range(r["first"], r["first"] + r["count"]):
        while True:
            try:
                producer.produce(
                    r["topic"],
                    value=document(number, rng, r.get("times", 1)),
                    key=b"k%d" % number,
                    partition=rng.randrange(r["partitions"]),
                    timestamp=1_700_000_000_000 + number,
                    headers=[("origin", b"referee"), ("number", b"%d" % number)],
                    on_delivery=lambda e, m: failed.append(str(e)) if e else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    return {"failed": failed}


def put(r):
    """Produces the given records exactly; bytes travel as hex. `fill`: a value of so many letters in place of one."""
    producer = Producer({"bootstrap.servers": r["brokers"], "message.max.bytes": 100_000_000, **r.get("config", {})})
    failed = []
    for rec in r["records"]:
        unhex = lambda s: None if s is None else bytes.fromhex(s)
        producer.produce(
            r["topic"],
            value=b"a" * rec["fill"] if "fill" in rec else unhex(rec.get("value")),
            key=unhex(rec.get("key")),
            partition=rec.get("partition", 0),
            timestamp=rec.get("timestamp", 0),
            headers=[(n, unhex(v)) for n, v in rec.get("headers", [])],
            on_delivery=lambda e, m: failed.append(str(e)) if e else None,
        )
    producer.flush(60)
    return {"failed": failed}


def partitions(client, topics):
    found = client.list_topics(timeout=20).topics
    return [TopicPartition(t, p) for t in topics for p in found[t].partitions]


def ends(client, tps, isolation):
    wanted = {tp: OffsetSpec.latest() for tp in tps}
    return {
        (tp.topic, tp.partition): future.result().offset
        for tp, future in client.list_offsets(wanted, isolation_level=isolation, request_timeout=20).items()
    }


def reader(r, level):
    return Consumer(
        {
            **reach(r),
            "group.id": f"referee-{random.random()}",
            "isolation.level": level,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 50_000_000,
        }
    )


def read(consumer, assignment, seconds=60):
    """Everything from the given positions to the end of each partition, as the consumer's isolation level shows it."""
    consumer.assign(assignment)
    open_ends = {(tp.topic, tp.partition) for tp in assignment}
    messages, deadline = [], time.time() + seconds
    while open_ends and time.time() < deadline:
        for m in consumer.consume(500, 0.5):
            if m.error():
                if m.error().name() == "_PARTITION_EOF":
                    open_ends.discard((m.topic(), m.partition()))
                    continue
                raise KafkaException(m.error())
            messages.append(m)
    consumer.close()
    if open_ends:
        raise RuntimeError(f"no end of {sorted(open_ends)} after {seconds} s")
    return messages


def header(m, name):
    values = [v for n, v in (m.headers() or []) if n == name]
    return None if not values or values[-1] is None else values[-1].decode()


KEPT = {}


def kept(name, make):
    """Clients that are asked again and again, while a worker is held still: made once."""
    if name not in KEPT:
        KEPT[name] = make()
    return KEPT[name]


def uncommitted(r):
    """Whether records are in the log but not yet decided: beyond the last stable offset. Reads the first such record of each
    partition at read_uncommitted and says which source partition it came from."""
    client = kept("admin", lambda: admin(r))
    tps = kept(("partitions", *r["topics"]), lambda: partitions(client, r["topics"]))
    stable, high = ends(client, tps, IsolationLevel.READ_COMMITTED), ends(client, tps, IsolationLevel.READ_UNCOMMITTED)
    dangling = [TopicPartition(t, p, stable[(t, p)]) for (t, p) in stable if high[(t, p)] > stable[(t, p)]]
    sources, records = set(), 0
    consumer = kept("uncommitted", lambda: reader(r, "read_uncommitted"))
    for tp in dangling:
        consumer.assign([tp])
        deadline = time.time() + 3
        while time.time() < deadline:
            m = consumer.poll(0.2)
            if m is not None and m.error():
                break
            if m is not None and m.partition() == tp.partition and m.topic() == tp.topic:
                sources.add(header(m, "tamis-source").split("/")[1])
                records += 1
                break
    consumer.unassign()
    return {"records": records, "sources": sorted(sources)}


def verify(r):
    """Compares what a read_committed reader sees on the outputs with the input: loss, duplicates, changes, order, reasons."""
    client = admin(r)
    outputs = r["outputs"]  # {"pass": topic, ...}
    whole = lambda topics: [TopicPartition(tp.topic, tp.partition, 0) for tp in partitions(client, topics)]
    source = {}
    for m in read(reader(r, "read_committed"), whole([r["input"]] if isinstance(r["input"], str) else r["input"])):
        source[f"{m.topic()}/{m.partition()}/{m.offset()}"] = m
    seen, problems, routes, last = {}, [], {}, {}
    topic_route = {t: name for name, t in outputs.items()}
    for m in read(reader(r, "read_committed"), whole(sorted(set(outputs.values())))):
        where, route = header(m, "tamis-source"), topic_route[m.topic()]
        routes[route] = routes.get(route, 0) + 1
        original = source.get(where)
        if original is None:
            problems.append(f"{where}: not in the input")
            continue
        if where in seen:
            problems.append(f"{where}: twice, on {seen[where]} and {route}")
        seen[where] = route
        if (m.value(), m.key(), m.timestamp()[1]) != (original.value(), original.key(), original.timestamp()[1]):
            problems.append(f"{where}: key, value or timestamp changed")
        if (m.headers() or [])[: len(original.headers() or [])] != (original.headers() or []):
            problems.append(f"{where}: headers changed")
        if header(m, "tamis-verdict") != {"dead": "dead-letter"}.get(route, route):
            problems.append(f"{where}: verdict {header(m, 'tamis-verdict')} on route {route}")
        if route == "dead" and not json.loads(header(m, "tamis-error"))["message"]:
            problems.append(f"{where}: a dead letter without a reason")
        if route in ("fail", "review") and not json.loads(header(m, "tamis-reasons")):
            problems.append(f"{where}: {route} without a reason")
        offset = int(where.rsplit("/", 1)[1])
        lane = (m.topic(), m.partition(), where.rsplit("/", 1)[0])
        if last.get(lane, -1) >= offset:
            problems.append(f"{where}: out of order")
        last[lane] = offset
    lost = [where for where in source if where not in seen]
    return {
        "input": len(source),
        "output": sum(routes.values()),
        "routes": routes,
        "lost": len(lost),
        "first_lost": lost[:5],
        "problems": len(problems),
        "first_problems": problems[:10],
    }


def count(r):
    """How many records a read_committed reader sees on the topics, control records not counted."""
    client = admin(r)
    whole = [TopicPartition(tp.topic, tp.partition, 0) for tp in partitions(client, r["topics"])]
    return {"records": len(read(reader(r, "read_committed"), whole))}


def dump(r):
    """Every record of the topics at read_committed, bytes as hex."""
    client = admin(r)
    hexed = lambda b: None if b is None else b.hex()
    rows = []
    for m in read(reader(r, "read_committed"), [TopicPartition(tp.topic, tp.partition, 0) for tp in partitions(client, r["topics"])]):
        rows.append(
            {
                "topic": m.topic(),
                "partition": m.partition(),
                "offset": m.offset(),
                "key": hexed(m.key()),
                "value": hexed(m.value()),
                "timestamp": m.timestamp()[1],
                "headers": [[n, hexed(v)] for n, v in (m.headers() or [])],
            }
        )
    return {"records": rows}


def committed(r):
    """Committed offset minus end offset over the input's partitions: the group's lag."""
    client = admin(r)
    tps = partitions(client, [r["topic"]])
    consumer = Consumer({"bootstrap.servers": r["brokers"], "group.id": r["group"], "enable.auto.commit": False})
    offsets = consumer.committed([TopicPartition(tp.topic, tp.partition) for tp in tps], timeout=20)
    consumer.close()
    high = ends(client, tps, IsolationLevel.READ_COMMITTED)
    lag = sum(high[(o.topic, o.partition)] - max(o.offset, 0) for o in offsets)
    return {"lag": lag, "offsets": {str(o.partition): o.offset for o in offsets}}


def listing(r):
    """The topics and groups that there are, but for the broker's own."""
    client = admin(r)
    topics = sorted(name for name in client.list_topics(timeout=20).topics if not name.startswith("__"))
    groups = sorted(group.group_id for group in client.list_consumer_groups(request_timeout=20).result().valid)
    return {"topics": topics, "groups": groups}


def allow(r):
    """Permissions for one user: each is [kind, name, pattern, operation], such as ["topic", "x.", "prefixed", "write"]."""
    rules = [
        AclBinding(
            ResourceType[kind.upper()],
            name,
            ResourcePatternType[pattern.upper()],
            f"User:{r['user']}",
            "*",
            AclOperation[operation.upper()],
            AclPermissionType.ALLOW,
        )
        for kind, name, pattern, operation in r["rules"]
    ]
    client = admin(r)
    for future in client.create_acls(rules).values():
        future.result()
    return {"allowed": len(rules)}


def scram(r):
    """Gives a user a password for SCRAM-SHA-512. The broker knows it soon after."""
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    client = admin(r)
    wanted = UserScramCredentialUpsertion(r["user"], how, r["password"].encode())
    for future in client.alter_user_scram_credentials([wanted]).values():
        future.result()
    return {}


def join(r):
    """Joins a group with the given assignor, and stays in it until the referee ends."""
    consumer = Consumer(
        {
            "bootstrap.servers": r["brokers"],
            "group.id": r["group"],
            "partition.assignment.strategy": r["assignor"],
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([r["topic"]])
    deadline = time.time() + 60
    while not consumer.assignment():
        if time.time() > deadline:
            raise RuntimeError("no assignment")
        consumer.poll(0.2)
    KEPT[("member", r["group"])] = consumer
    return {"partitions": len(consumer.assignment())}


DEEDS = {
    f.__name__: f
    for f in (
        create,
        delete,
        grow,
        large,
        forget,
        produce,
        put,
        transact,
        hang,
        unhang,
        wire,
        uncommitted,
        verify,
        count,
        dump,
        committed,
        listing,
        allow,
        join,
        scram,
    )
}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = DEEDS[request["do"]](request)
    except Exception as error:  # the other side decides what an error means
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
