"""The straightforward Python stage that tamis is held against: confluent-kafka and ONNX Runtime in one loop, transactional.

    python stage.py BROKERS FROM TO GROUP COMMIT_MS MODEL_DIR THREADS strided|single

One document after the other: its rows are one batch of the model as exported. `strided`: every seventh token masked, seven rows. `single`: a row
for each token, the loss clipped as in pipeline.py. Verdicts by the rules there. A document must fit the model's window. It runs until it is killed.
"""

import json
import math
import pathlib
import sys
import time

import numpy as np
import onnxruntime
import tokenizers
from confluent_kafka import Consumer, Producer, TopicPartition

from pipeline import CLIP_NATS, RULES, STRIDE


class Scorer:
    def __init__(self, folder, threads, masking):
        folder, self.single = pathlib.Path(folder), masking == "single"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        names = json.loads((folder / "tokenizer_config.json").read_text())
        mask = names["mask_token"]
        self.mask = self.tokenizer.token_to_id(mask["content"] if isinstance(mask, dict) else mask)

    def signals(self, text):
        encoding = self.tokenizer.encode(text)
        ids = np.array(encoding.ids, dtype=np.int64)
        content = [at for at, special in enumerate(encoding.special_tokens_mask) if not special]
        stride = len(content) if self.single else STRIDE
        rows = np.tile(ids, (stride, 1))
        for group in range(stride):
            rows[group, content[group::stride]] = self.mask
        feed = {"input_ids": rows, "attention_mask": np.ones_like(rows), "token_type_ids": np.zeros_like(rows)}
        logits = self.session.run(None, {name: feed[name] for name in self.inputs})[0]
        total = 0.0
        for group in range(stride):
            for at in content[group::stride]:
                row = logits[group, at].astype(np.float64)
                top = row.max()
                loss = top + math.log(np.exp(row - top).sum()) - row[ids[at]]
                total += min(loss, CLIP_NATS) if self.single else loss
        self.row_tokens = rows.size
        return {
            "pll.nll_token": total / len(content),
            "pll.bpb": total / math.log(2) / len(text.encode()),
        }


def verdict(signals):
    worst = "pass"
    for rule in RULES:
        value = signals[rule["signal"]]
        if value > rule["max"]:
            return "fail"
        if value > rule["review_above"]:
            worst = "review"
    return worst


def main():
    brokers, source, target, group, commit_ms, model, threads, masking = sys.argv[1:]
    scorer = Scorer(model, int(threads), masking)
    base = {"bootstrap.servers": brokers}
    consumer = Consumer(
        base | {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    )
    producer = Producer(base | {"transactional.id": group, "linger.ms": 5, "compression.type": "zstd"})
    producer.init_transactions()
    consumer.subscribe([source])
    positions, began = {}, None
    while True:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            if began is None:
                producer.begin_transaction()
                began = time.monotonic()
            found = scorer.signals(json.loads(message.value())["text"])
            headers = [*(message.headers() or []), ("verdict", verdict(found)), ("signals", json.dumps(found)), ("row-tokens", str(scorer.row_tokens))]
            producer.produce(target, key=message.key(), value=message.value(), headers=headers, partition=message.partition())
            producer.poll(0)
            positions[message.partition()] = message.offset() + 1
        if began is not None and time.monotonic() - began >= int(commit_ms) / 1000:
            offsets = [TopicPartition(source, partition, offset) for partition, offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction()
            positions, began = {}, None


main()
