"""`tamis run` on a file of documents, watched through its own series, so that what is measured is the program that people run."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request

PIPELINE = """
name = "bench-gpu"
[source.files]
paths = ["{folder}/in.jsonl"]
[sink.files]
dir = "{folder}/out"
compression = "none"
[document]
text = "/text"
id = "/id"
[models.default]
path = "{model}"
device = {device}
head_check = "warn"
threads = {threads}
budget_tokens = {budget}
attention = "{attention}"
{more}
[signals.pll]
kind = "pll"
model = "default"
masking = "{masking}"
window_tokens = {content}
{stride}
[[rules]]
name = "any"
signal = "pll.nll_token"
max = 1e9
[routes]
pass = "pass"
fail = "fail"
dead_letter = "dead"
[cache]
enabled = false
path = "{folder}/cache"
[admin]
listen = "127.0.0.1:0"
[delivery]
drain_ms = {drain_ms}
"""
WANTED = ("tamis_device_row_tokens_total", "tamis_device_targets_total", "tamis_device_run_seconds_sum", "tamis_device_batches_total",
          "tamis_device_backlog_rows", "tamis_device_padding_tokens_total")


def measure(program, library, folder, texts, settings, seconds, limit):
    """Runs until `seconds` of backlog were seen; (figures, nats a token by id, what the log says of the model)."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = folder / "p.toml"
    pipeline.write_text(PIPELINE.format(folder=folder, drain_ms=int(limit * 1000), **settings))
    (folder / "in.jsonl").write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts)))
    environment = dict(os.environ, **({"TAMIS_ORT_LIB": str(library)} if library else {}))
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen([program, "run", str(pipeline), "--log", "info"], stderr=log, stdout=log, env=environment)
        try:
            samples = watched(process, folder / "log", seconds, limit)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(limit + 60)
    said = (folder / "log").read_text()
    if len(samples) < 2 or code not in (0, 75):
        raise RuntimeError(f"tamis ended with {code} and {len(samples)} samples: {said[-3000:]}")
    wanted = (settings["content"] + 2) * (settings["passes"] / settings["content"])
    return figures(samples, said, wanted), delivered(folder / "out" / "pass.jsonl", settings["content"])


def watched(process, log, seconds, limit):
    """What the series said, time after time, while rows waited for the device; the beginning is left out. Ends when none has waited for a second."""
    samples, address, start, began = [], None, time.monotonic(), None
    while process.poll() is None and time.monotonic() - start < limit:
        time.sleep(0.1)
        if address is None:
            # Before it runs, rows of the check of the model's head wait for the device.
            said = log.read_text()
            found = "running, waiting for records" in said and re.search(r"endpoints at (http://\S+)", said)
            address = found.group(1) if found else None
            continue
        try:
            text = urllib.request.urlopen(address + "/metrics", timeout=10).read().decode()
        except OSError:
            continue
        now = {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.M) if name in WANTED}
        now["at"] = time.monotonic()
        if not now.get("tamis_device_backlog_rows"):
            if samples and now["at"] - samples[-1]["at"] > 1.0:
                break
            continue
        began = began or now["at"]
        if now["at"] - began >= min(1.0, seconds / 4):
            samples.append(now)
        if samples and now["at"] - samples[0]["at"] >= seconds:
            break
    return samples


def figures(samples, said, wanted):
    """Rates between the first sample and the last. A pass counts when it ends, so where passes are long, idle is off by one of them, and may be negative."""
    first, last = samples[0], samples[-1]
    gone = {name: last[name] - first[name] for name in last}
    head = re.search(r"loaded model.*", said)
    # A token that is scored stands for all of its row's, or for its share of them; anything else was not what was asked for.
    share = gone["tamis_device_row_tokens_total"] / max(1.0, gone["tamis_device_targets_total"])
    if abs(share / wanted - 1) > 0.1:
        raise RuntimeError(f"{share:.2f} row tokens for each target, where there should be {wanted:.2f}")
    fused = re.search(r"fused_attentions=(\d+)", head.group(0)) if head else None
    plain = re.search(r"attention is not fused.*", said)
    return {
        "seconds": gone["at"],
        "row_tokens_per_second": gone["tamis_device_row_tokens_total"] / gone["at"],
        "targets_per_second": gone["tamis_device_targets_total"] / gone["at"],
        "padding": gone["tamis_device_padding_tokens_total"] / max(1.0, gone["tamis_device_row_tokens_total"]),
        "idle": 1.0 - gone["tamis_device_run_seconds_sum"] / gone["at"],
        "batches": int(gone["tamis_device_batches_total"]),
        "loaded": head.group(0) if head else "",
        "fused_attentions": int(fused.group(1)) if fused else None,
        "why_plain": plain.group(0) if plain else "",
    }


def delivered(path, content):
    found = {}
    for line in open(path) if path.exists() else []:
        line = json.loads(line)
        signals = line["tamis"]["signals"]
        if signals.get("pll.tokens") == content and signals.get("pll.windows") == 1:
            found[int(line["id"])] = signals["pll.nll_token"]
    return found
