"""Owns the documents: what number n is, as a pure function of the seed, and a thread that writes them to the input topic.

Keys, partitions and sizes vary. Some records can't be decoded, so that dead letters occur, and some are deletions. The header `expect` says how a
record is to end: "document" on pass, review or fail, "dead" as a dead letter, "tombstone" on each of pass, review and fail.
"""

import json
import random
import threading

from confluent_kafka import KafkaException, Producer

WORDS = "the committee met on tuesday to discuss annual budget letter from my sister in north please send form office by friday".split()


def record(seed, number, partitions):
    """Key, value, partition and expected end of document `number`."""
    rng = random.Random(f"{seed}/{number}")
    partition, key = rng.randrange(partitions), b"k%d" % rng.randrange(500)
    kind = rng.randrange(100)
    if kind < 2:
        return key, b'{"id": "%d", "text": ' % number, partition, "dead"  # not JSON
    if kind < 4:
        return key, b"\xff\xfe not utf-8 %d" % number, partition, "dead"
    if kind < 5:
        return key, json.dumps({"id": str(number)}).encode(), partition, "dead"  # no text
    if kind < 6:
        return None, None, partition, "dead"  # a deletion of nothing
    if kind < 8:
        return key, None, partition, "tombstone"
    if kind < 9:
        return key, json.dumps({"id": str(number), "text": ""}).encode(), partition, "document"  # unscorable
    size = rng.choice((8, 8, 8, 20, 20, 60, 900))
    words = [rng.choice(WORDS) for _ in range(rng.randrange(1, size))]
    shout = rng.random() < 0.3
    text = " ".join(word.upper() if shout and rng.random() < 0.7 else word for word in words) + f" {number}"
    return key, json.dumps({"id": str(number), "text": text}).encode(), partition, "document"


class Workload:
    """Writes numbered documents, about `rate` a second, in waves; with `transactions`, each wave is one, and every fifth is aborted."""

    def __init__(self, brokers, topic, seed, partitions, rate, transactions):
        self.topic, self.seed, self.partitions, self.rate, self.transactions = topic, seed, partitions, rate, transactions
        self.brokers = brokers
        self.connect()
        self.written, self.waves, self.trouble = 0, 0, []
        self.go, self.end, self.idle = threading.Event(), threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, name="workload", daemon=True)
        self.thread.start()

    def connect(self):
        """A producer that knows nothing yet; also wanted after a topic was made anew under the old one."""
        properties = {"bootstrap.servers": self.brokers, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "log_level": 2}
        if self.transactions:
            properties |= {"transactional.id": f"workload-{self.seed}", "transaction.timeout.ms": 60_000}
        self.producer = Producer(properties)
        if self.transactions:
            self.producer.init_transactions(60)

    def run(self):
        while not self.end.is_set():
            if not self.go.wait(0.1):
                self.idle.set()
                continue
            self.idle.clear()
            self.wave(max(1, self.rate // 5))
            self.end.wait(0.2)

    def wave(self, count):
        """The next `count` documents. A wave whose transaction is aborted counts its numbers, too: nobody will read them."""
        if self.transactions:
            self.producer.begin_transaction()
        for number in range(self.written, self.written + count):
            key, value, partition, expect = record(self.seed, number, self.partitions)
            headers = [("number", b"%d" % number), ("expect", expect.encode())]
            sent = dict(key=key, value=value, partition=partition, headers=headers, timestamp=1_700_000_000_000 + number)
            while True:
                try:
                    self.producer.produce(self.topic, on_delivery=self.delivered, **sent)
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
        self.producer.flush(120)
        self.written += count
        self.waves += 1
        if self.transactions:
            try:
                if self.waves % 5 == 0:
                    self.producer.abort_transaction(60)
                else:
                    self.producer.commit_transaction(60)
            except KafkaException as error:
                self.trouble.append(str(error))
                if not error.args[0].txn_requires_abort():
                    raise
                self.producer.abort_transaction(60)

    def delivered(self, error, _):
        if error is not None:
            self.trouble.append(str(error))

    def pause(self):
        """Returns when nothing is being written."""
        self.go.clear()
        self.idle.clear()
        self.idle.wait(300)

    def close(self):
        self.end.set()
        self.thread.join(130)
