"""Runs a model and its conversion to half precision by onnx's NumPy evaluator, which rounds after every node: no library of ours, no casts left out.

    python tests/it/halves.py MODEL CONVERTED VOCABULARY

Prints how far log-probabilities of some padded rows are apart, in nats: the difference of the means, and the largest of one token.
"""

import sys

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator


def logprobs(model, ids, attention):
    every = {"input_ids": ids, "attention_mask": attention, "token_type_ids": np.zeros_like(ids)}
    feed = {name.name: every[name.name] for name in model.graph.input}
    (logits,) = ReferenceEvaluator(model).run(["logits"], feed)
    assert logits.dtype == np.float32, logits.dtype
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.take_along_axis(logits, ids[..., None], 2)[..., 0][attention == 1]


plain, converted = (onnx.load(path) for path in sys.argv[1:3])
onnx.checker.check_model(converted, full_check=True)
ids = np.random.default_rng(7).integers(5, int(sys.argv[3]), (4, 30))
attention = (np.arange(30) < np.array([[30], [21], [9], [3]])).astype(np.int64)
np.seterr(all="ignore")
apart = logprobs(converted, ids, attention) - logprobs(plain, ids, attention)
print(abs(apart.mean()), np.abs(apart).max())
