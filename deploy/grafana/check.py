"""Owns the dashboard's test: a genuine Kafka broker, a live worker with traffic, a genuine Prometheus that scrapes it, and every query.

In: the dashboard, the rules, a built tamis. Out: exit status 0 if every query of the dashboard and every recording rule has a result, the
dashboard's variables find the worker, and a killed worker makes TamisWorkerDown pending. Run it with var/venv's Python
(`make deploy-check`), with the path of the binary as its argument. Everything it starts ends with it.
"""

import json
import math
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from confluent_kafka import Producer

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_S = 120
TEXTS = [
    ("en", "The committee met on Tuesday and agreed on the budget for the new school."),
    ("en-GB", "Rain is expected in the north, with bright spells later in the day."),
    ("de", "Der Ausschuss tagte am Dienstag und einigte sich auf den Haushalt."),
    (None, "click here click here click here free free free"),
    ("xx", "zq xv bnm qqp wrt lkj ppf ddw"),
]
PIPELINE = """
name = "dashboard"
[source.kafka]
brokers = "{brokers}"
topics = ["raw"]
group = "dashboard"
[models.default]
path = "{root}/models/tamis-en"
threads = 1
[signals.pll]
kind = "pll"
masking = "strided"
stride = 7
[[rules]]
name = "fluent"
signal = "pll.nll_token"
max = 6.0
review_above = 5.0
[routes]
pass = "pass"
review = "review"
fail = "fail"
dead_letter = "dead"
[cache]
path = "{dir}/cache"
[admin]
listen = "127.0.0.1:{port}"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def wait(what, met, process=None):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            value = met()
        except OSError:
            value = None
        if value:
            return value
        if process is not None and process.poll() is not None:
            sys.exit(f"check.py: {what}: the process ended with {process.returncode}")
        if time.monotonic() > end:
            sys.exit(f"check.py: {what}: not within {PATIENCE_S} s")
        time.sleep(0.5)


def produce(brokers, count):
    rng = random.Random(1)
    producer = Producer({"bootstrap.servers": brokers})
    for number in range(count):
        language, text = rng.choice(TEXTS)
        value = {"id": str(number), "text": f"{text} {number}"} | ({"language": language} if language else {})
        producer.produce("raw", key=str(number), value=None if number % 97 == 0 else json.dumps(value))
        if number % 61 == 0:
            producer.produce("raw", key="broken", value=b"{not json")
        producer.poll(0)
    if producer.flush(60):
        sys.exit("check.py: documents could not be produced")


class Prometheus:
    def __init__(self, folder, target):
        self.base = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "alerts.yml")],
            "scrape_configs": [{"job_name": "dashboard", "static_configs": [{"targets": [target]}]}],
        }
        # Recording rules evaluate every 30 s for people; here nobody waits that long.
        rules = (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
        (folder / "alerts.yml").write_text(rules.replace("interval: 30s", "interval: 1s"), encoding="utf-8")
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        self.log = open(folder / "prometheus.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [
                ROOT / "var/deploy/bin/prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address={self.base.removeprefix('http://')}",
                "--web.console.templates=/nonexistent",
                "--web.console.libraries=/nonexistent",
            ],
            stdout=self.log,
            stderr=self.log,
        )
        wait("Prometheus", lambda: get(f"{self.base}/-/ready"), self.process)

    def query(self, expr):
        """The vector that `expr` yields; numbers that are none left out."""
        answer = json.loads(get(f"{self.base}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"))
        return [one for one in answer["data"]["result"] if not math.isnan(float(one["value"][1]))]

    def alerts(self):
        found = json.loads(get(f"{self.base}/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}


def filled(expr):
    """A dashboard's query as Grafana sends it, with everything selected."""
    variables = {"$__rate_interval": "15s", "$job": ".*", "$instance": ".*"}
    for name, value in variables.items():
        expr = expr.replace(name, value)
    if "$" in expr:
        sys.exit(f"check.py: unknown variable in {expr}")
    return expr


def dashboard_queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", filled(target["expr"])


def check(prometheus):
    dashboard = json.loads((ROOT / "deploy/grafana/tamis.json").read_text(encoding="utf-8"))
    queries = list(dashboard_queries(dashboard))
    rules = (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    queries += [(f"rule {name}", name) for name in re.findall(r"- record: (\S+)", rules)]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
            queries.append((f"variable {variable['name']}", f"group by ({label}) ({filled(series)}) and on ({label}) up"))
    annotations = [filled(one["expr"]) for one in dashboard["annotations"]["list"]]
    for expr in annotations:
        prometheus.query(expr)  # valid; a quiet group has none
    empty = dict(queries)
    end = time.monotonic() + PATIENCE_S
    while empty and time.monotonic() < end:
        time.sleep(2)
        empty = {name: expr for name, expr in empty.items() if not prometheus.query(expr)}
    for name, expr in empty.items():
        print(f"check.py: no result: {name}: {expr}", file=sys.stderr)
    if empty or len(queries) < 40:
        sys.exit(1)
    print(f"dashboard: {len(queries)} queries, each with a result from a live worker")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    script = ROOT / "tools/kafka/broker.sh"
    with tempfile.TemporaryDirectory(prefix="tamis-dashboard-") as name:
        folder = pathlib.Path(name)
        up = [script, "up", "--dir", folder / "broker", "--watch-pid", str(os.getpid())]
        brokers = subprocess.run(up, check=True, capture_output=True, text=True).stdout.split()[-1]
        started = []
        try:
            for topic in ("raw", "pass", "review", "fail", "dead"):
                subprocess.run([script, "topic", "--dir", folder / "broker", topic, "4"], check=True, capture_output=True)
            port = free_port()
            (folder / "pipeline.toml").write_text(PIPELINE.format(brokers=brokers, root=ROOT, dir=folder, port=port))
            log = open(folder / "worker.log", "w", encoding="utf-8")
            worker = subprocess.Popen([binary, "run", folder / "pipeline.toml"], stderr=log, cwd=ROOT)
            started.append(worker)
            address = f"127.0.0.1:{port}"
            wait("a ready worker", lambda: get(f"http://{address}/readyz"), worker)
            prometheus = Prometheus(folder, address)
            started.append(prometheus.process)
            # The alerts that speak of what was must see the worker before it works.
            wait("a first scrape", lambda: prometheus.query("up == 1"))
            feeder = subprocess.Popen([sys.executable, __file__, "--produce", brokers])
            started.append(feeder)
            check(prometheus)
            firing = [alert for alert, state in prometheus.alerts().items() if state == "firing"]
            if firing:
                sys.exit(f"check.py: a healthy worker fires {firing}")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            wait("TamisWorkerDown", lambda: prometheus.alerts().get("TamisWorkerDown") == "pending")
            wait("TamisNoWorkers", lambda: prometheus.alerts().get("TamisNoWorkers") == "pending")
            print("alerts: none fires on a healthy worker; a killed one makes TamisWorkerDown and TamisNoWorkers pending")
        finally:
            for process in started:
                process.kill()
                process.wait()
            subprocess.run([script, "down", "--dir", folder / "broker"], check=False, capture_output=True)


if __name__ == "__main__":
    if sys.argv[1] == "--produce":
        while True:
            produce(sys.argv[2], 300)
            time.sleep(2)
    main()
