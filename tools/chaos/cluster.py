"""Owns the brokers: one or three genuine Apache Kafka nodes on loopback ports, which can be killed and brought back with their data.

Each node has two listeners: OPEN, for the harness and the other nodes, where everybody may do everything; and WORKERS, for tamis, where one logs
in by SASL/PLAIN and permissions count. WORKERS is advertised at a proxy, so that everything between worker and broker passes through it.
"""

import ctypes
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

from confluent_kafka.admin import AdminClient

from proxy import Proxy

ROOT = pathlib.Path(__file__).resolve().parents[2]
USER, PASSWORD = "tamis", "tamis-secret"
SETTINGS = """
node.id={number}
listeners=OPEN://127.0.0.1:{open},WORKERS://127.0.0.1:{workers},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=OPEN://127.0.0.1:{open},WORKERS://127.0.0.1:{proxied}
listener.security.protocol.map=OPEN:PLAINTEXT,WORKERS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=OPEN
sasl.enabled.mechanisms=PLAIN
listener.name.workers.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
controller.quorum.voters={voters}
log.dirs={folder}/data
default.replication.factor={copies}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
min.insync.replicas={insync}
transaction.state.log.min.isr={insync}
controlled.shutdown.enable=false
# Kafka's default, in place of the tests' second: a node that is alone, comes back from a crash and gives up a transaction before it is in its own
# list of brokers again, skips the markers that end it (4.3.1: "these partitions are likely deleted already"). docs/reliability.md tells the story.
transaction.abort.timed.out.transaction.cleanup.interval.ms=10000
"""


def die_with_parent():
    """Runs in a child before its program does: the kernel ends it when the harness is gone, however that went."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def java():
    script = f". {ROOT}/tools/setup/find.sh && find_java && echo $java"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.strip()
    if not found:
        raise SystemExit("chaos: no Java 17 or newer: run tools/setup/system.sh broker")
    return found


def free_ports(count):
    """Ports below those that the kernel hands out to clients, free just now."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    low = low if low >= 15_000 else 65_000
    found = set()
    while len(found) < count:
        port = random.SystemRandom().randrange(10_000, low)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.add(port)
    return list(found)


class Broker:
    """One node."""

    def __init__(self, number, folder, ports):
        self.number, self.folder, self.ports = number, folder, ports
        self.process = None
        folder.mkdir(parents=True)

    def command(self, main, *arguments):
        lib, here = ROOT / "var/kafka/lib", ROOT / "tools/kafka"
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx512m"]
        options += [f"-XX:SharedArchiveFile={ROOT}/var/kafka/classes.jsa", "-Xshare:auto", "-Xlog:disable"]
        options += [f"-Dlog4j2.configurationFile={here}/log4j2.properties", "-Dkafka.log.level=INFO"]
        return [java(), *options, "-cp", f"{lib}/*", main, *arguments]

    def configure(self, cluster_id, voters, count):
        copies = min(count, 3)
        text = (ROOT / "tools/kafka/server.properties").read_text() + SETTINGS.format(
            number=self.number, voters=voters, folder=self.folder, copies=copies, insync=max(1, copies - 1), user=USER, password=PASSWORD, **self.ports
        )
        self.properties = self.folder / "server.properties"
        self.properties.write_text(text)
        done = subprocess.run(self.command("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties)), capture_output=True)
        if done.returncode:
            raise SystemExit(f"chaos: the storage could not be formatted: {done.stdout + done.stderr}")

    def up(self):
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command("kafka.Kafka", str(self.properties)), stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """Ends it as a crash would."""
        if self.is_up():
            self.process.kill()
            self.process.wait()


class Cluster:
    """All nodes with their proxies. `open` and `workers` are bootstrap addresses."""

    def __init__(self, folder, count):
        ports = free_ports(4 * count)
        names = ("open", "workers", "controller", "proxied")
        self.brokers = [
            Broker(n + 1, folder / f"broker-{n + 1}", dict(zip(names, ports[4 * n : 4 * n + 4]))) for n in range(count)
        ]
        voters = ",".join(f"{b.number}@127.0.0.1:{b.ports['controller']}" for b in self.brokers)
        cluster_id = "tamis-chaos-cluster-id"
        for broker in self.brokers:
            broker.configure(cluster_id, voters, count)
            broker.up()
        self.proxies = [Proxy(b.ports["proxied"], b.ports["workers"]) for b in self.brokers]
        self.open = ",".join(f"127.0.0.1:{b.ports['open']}" for b in self.brokers)
        self.workers = ",".join(f"127.0.0.1:{b.ports['proxied']}" for b in self.brokers)
        self.renew()
        self.wait_up(120)

    def renew(self):
        """A fresh client for questions. The old one holds on to what it knew of leaders that were killed since."""
        self.admin = AdminClient({"bootstrap.servers": self.open, "log_level": 2, "socket.timeout.ms": 10_000})

    def wait_up(self, seconds):
        """Waits until every node that runs is in the cluster's list, and all partitions have a leader."""
        deadline, wanted = time.monotonic() + seconds, sum(b.is_up() for b in self.brokers)
        while time.monotonic() < deadline:
            try:
                metadata = self.admin.list_topics(timeout=2)
            except Exception:  # not there yet
                continue
            led = all(p.leader >= 0 for t in metadata.topics.values() for p in t.partitions.values())
            if len(metadata.brokers) >= wanted and led:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the cluster is not whole after {seconds} s; see {self.brokers[0].folder}/server.log")

    def leader(self, topic, partition):
        """The node that leads a partition now, as an index; None while nobody does."""
        metadata = self.admin.list_topics(topic, timeout=5).topics[topic]
        number = metadata.partitions[partition].leader
        return number - 1 if number > 0 else None

    def close(self):
        for broker in self.brokers:
            broker.kill()
        for proxy in self.proxies:
            proxy.close()


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
