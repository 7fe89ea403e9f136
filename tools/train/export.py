"""Checkpoint to shipped files: owns the ONNX graph, the Hugging Face style metadata and the model card.

The graph is written out node by node rather than traced, so it is exactly what is
meant: matrices stored once in fp16 and cast to fp32 when the runtime loads the model
(a constant, folded once), everything computed in fp32, the decoder reading the same
matrix as the word embedding. The node patterns for attention, GELU and layer norm
are the usual BERT ones, which runtimes know how to fuse.

Every file is written to a temporary directory, verified there, and moved into place
one by one, manifest.json last.

usage: export.py DATA_DIR RUN_DIR CORPUS_MANIFEST OUT_DIR [--metrics METRICS.json]
OUT_DIR and RUN_DIR must lie on one file system (files are moved).
"""
import argparse
import hashlib
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from evaluate import load_model
from model import LAYER_NORM_EPS
from model_card import write_card
from train import DevSet, Settings

OPSET = 17
MAX_MODEL_BYTES = 16_000_000


class Graph:
    """Collects nodes and initialisers; `op` returns the name of a node's output."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def op(self, kind, *inputs, name=None, **attributes):
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def vector(self, name, tensor):
        return self.constant(name, tensor.detach().numpy().astype(np.float32))

    def half(self, name, tensor):
        """A matrix as an fp16 initialiser, not yet cast."""
        return self.constant(f"{name}.fp16", tensor.detach().numpy().astype(np.float16))

    def matrix(self, name, tensor):
        return self.op("Cast", self.half(name, tensor), to=TensorProto.FLOAT, name=name)

    def linear(self, name, x, weight, bias):
        """x @ weight.T + bias, torch's layout in, the runtime's layout stored."""
        product = self.op("MatMul", x, self.matrix(f"{name}.weight", weight.T))
        return self.op("Add", product, self.vector(f"{name}.bias", bias))

    def layer_norm(self, name, x, module):
        scale, bias = self.vector(f"{name}.weight", module.weight), self.vector(f"{name}.bias", module.bias)
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=LAYER_NORM_EPS)

    def gelu(self, x):
        erf = self.op("Erf", self.op("Div", x, "sqrt_two"))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, "one")), "half")


def build_onnx(model):
    """input_ids, attention_mask: int64 [batch, sequence] -> logits: float32 [batch, sequence, vocab]."""
    shape, g = model.shape, Graph()
    hidden, heads = shape.hidden, shape.heads
    for name, value in (("one", 1.0), ("half", 0.5), ("sqrt_two", math.sqrt(2)),
                        ("masked_bias", -1e4), ("sqrt_head", math.sqrt(hidden // heads))):
        g.constant(name, np.array(value, np.float32))
    for name, value in (("index_0", [0]), ("index_1", [1]), ("index_2", [2]), ("axes_1_2", [1, 2]),
                        ("split_heads", [0, 0, heads, hidden // heads]), ("join_heads", [0, 0, hidden])):
        g.constant(name, np.array(value, np.int64))

    words = g.half("embeddings.word", model.words.weight)  # read twice: embedding rows and decoder
    rows = g.op("Cast", g.op("Gather", words, "input_ids", axis=0), to=TensorProto.FLOAT)
    length = g.op("Slice", g.op("Shape", "input_ids"), "index_1", "index_2", "index_0")
    positions = g.op("Slice", g.matrix("embeddings.position", model.positions.weight), "index_0", length, "index_0")
    x = g.layer_norm("embeddings.norm", g.op("Add", rows, positions), model.embedding_norm)

    absent = g.op("Sub", "one", g.op("Cast", g.op("Unsqueeze", "attention_mask", "axes_1_2"), to=TensorProto.FLOAT))
    bias = g.op("Mul", absent, "masked_bias")
    for i, layer in enumerate(model.layers):
        name = f"layer.{i}"
        projected = []
        for part, (weight, vector) in enumerate(zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3))):
            flat = g.linear(f"{name}.attention.{('query', 'key', 'value')[part]}", x, weight, vector)
            projected.append(g.op("Reshape", flat, "split_heads"))
        query = g.op("Transpose", projected[0], perm=[0, 2, 1, 3])
        key = g.op("Transpose", projected[1], perm=[0, 2, 3, 1])
        value = g.op("Transpose", projected[2], perm=[0, 2, 1, 3])
        scores = g.op("Add", g.op("Div", g.op("MatMul", query, key), "sqrt_head"), bias)
        attended = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        joined = g.op("Reshape", g.op("Transpose", attended, perm=[0, 2, 1, 3]), "join_heads")
        out = g.linear(f"{name}.attention.output", joined, layer.attention_out.weight, layer.attention_out.bias)
        x = g.layer_norm(f"{name}.attention.norm", g.op("Add", out, x), layer.attention_norm)
        inner = g.gelu(g.linear(f"{name}.feed.in", x, layer.feed_in.weight, layer.feed_in.bias))
        out = g.linear(f"{name}.feed.out", inner, layer.feed_out.weight, layer.feed_out.bias)
        x = g.layer_norm(f"{name}.feed.norm", g.op("Add", out, x), layer.feed_norm)

    x = g.gelu(g.linear("head.transform", x, model.transform.weight, model.transform.bias))
    x = g.layer_norm("head.norm", x, model.transform_norm)
    decoder = g.op("Transpose", g.op("Cast", words, to=TensorProto.FLOAT), perm=[1, 0])
    g.op("Add", g.op("MatMul", x, decoder), g.vector("head.bias", model.decoder_bias), name="logits")

    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "tamis-en",
        [tensor(n, TensorProto.INT64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask")],
        [tensor("logits", TensorProto.FLOAT, ["batch", "sequence", shape.vocab])],
        g.initializers,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tamis", ir_version=8)
    onnx.checker.check_model(built, full_check=True)
    return built


def config(shape):
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": 1,
        "initializer_range": 0.03,
        "layer_norm_eps": LAYER_NORM_EPS,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "mask_token_id": 3,
        "unk_token_id": 4,
    }


def tokenizer_config(shape):
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.positions,
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "unk_token": "[UNK]",
        "model_input_names": ["input_ids", "attention_mask"],
    }


def verify(onnx_path, rounded, exact, dev):
    """The file against torch: logits (padded batches included), and what fp16 storage costs in nats."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])

    def run(ids, mask):
        return session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]

    generator = torch.Generator().manual_seed(11)
    worst = 0.0
    for batch, length, padded in ((1, 3, 0), (3, 17, 6), (8, 130, 50), (2, 512, 200)):
        ids = torch.randint(5, rounded.shape.vocab, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        if padded:
            ids[0, -padded:], mask[0, -padded:] = 0, 0
        with torch.no_grad():
            expected = rounded(ids, mask).numpy()
            if padded:  # padding must not change the real positions
                alone = run(ids[:1, :-padded], mask[:1, :-padded])
                worst = max(worst, float(np.abs(alone - expected[:1, :-padded]).max()))
        real = mask.numpy().astype(bool)
        worst = max(worst, float(np.abs(run(ids, mask) - expected)[real].max()))

    def dev_nats(logits_of):
        logits = torch.cat([logits_of(dev.corrupted[i : i + 20]) [dev.target[i : i + 20]] for i in range(0, len(dev.ids), 20)])
        return F.cross_entropy(logits, dev.ids[dev.target]).item()

    with torch.no_grad():
        before = dev_nats(lambda ids: exact(ids, torch.ones_like(ids)))
    after = dev_nats(lambda ids: torch.from_numpy(run(ids, torch.ones_like(ids))))
    result = {"max_logit_difference": worst, "dev_nats_fp32": before, "dev_nats_onnx": after}
    print(json.dumps(result), flush=True)
    assert worst < 1e-3, "ONNX and torch disagree"
    assert abs(after - before) < 0.01, "fp16 storage costs too much"
    return result


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("corpus_manifest", type=Path, help="MANIFEST.md of the pack, for the card's lists of sources and attributions")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--metrics", type=Path, help="output of evaluate.py")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)

    checkpoint = args.run_dir / "checkpoint.pt"
    with tempfile.TemporaryDirectory(dir=args.run_dir, prefix="export-") as name:
        work = Path(name)
        # Training may be writing checkpoints meanwhile: work on one copy.
        shutil.copy(checkpoint, work / "checkpoint.pt")
        saved = torch.load(work / "checkpoint.pt", weights_only=False, map_location="cpu")
        rounded, exact = load_model(work / "checkpoint.pt"), load_model(work / "checkpoint.pt", fp16=False)
        (work / "checkpoint.pt").unlink()

        onnx.save(build_onnx(rounded), work / "model.onnx")
        assert (work / "model.onnx").stat().st_size <= MAX_MODEL_BYTES
        checks = verify(work / "model.onnx", rounded, exact, DevSet(args.data_dir, rounded.shape.vocab))
        shutil.copy(args.data_dir / "tokenizer.json", work / "tokenizer.json")
        write_json(work / "config.json", config(rounded.shape))
        write_json(work / "tokenizer_config.json", tokenizer_config(rounded.shape))
        metrics = json.loads(args.metrics.read_text()) if args.metrics else None
        write_card(
            work / "MODEL_CARD.md",
            shape=rounded.shape,
            parameters=sum(p.numel() for p in rounded.parameters()),
            run=saved["run"],
            settings=Settings(**saved["settings"]),
            device=saved["device"],
            finished=(args.run_dir / "DONE").exists(),
            checks=checks,
            metrics=metrics,
            corpus_manifest=args.corpus_manifest.read_text(),
        )
        files = sorted(p for p in work.iterdir())
        write_json(work / "manifest.json", {"files": {
            p.name: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest(), "bytes": p.stat().st_size} for p in files
        }})
        for path in [*files, work / "manifest.json"]:
            path.chmod(0o644)
            os.replace(path, args.out_dir / path.name)
            print(path.name, (args.out_dir / path.name).stat().st_size)


if __name__ == "__main__":
    main()
