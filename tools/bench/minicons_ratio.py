"""Exact PLL by tamis, by minicons and by ONNX Runtime alone: the same model, sentences and threads, in turn.

    python tools/bench/minicons_ratio.py MODEL_DIR [--threads 1] [--rounds 3] [--sentences 16] [--batches 1 8] [--build target/release]

MODEL_DIR is of make_model.py's making, whose weights are put into PyTorch's BERT; with MODEL_DIR-int8 beside it, that is measured
too. All stay loaded throughout and get the sentences in one go. minicons takes --batches sentences at a time: one is without padding,
several are padded to the longest. ONNX Runtime alone, the ceiling, gets the rewritten graph (examples/rewrite) and ready ids, rows of
one length together, without any padding. Scores in single precision must agree within 0.001 nats a token. What counts is the
processor's time, because it hardly changes with the neighbours' work; wall time is printed beside it. Needs requirements.txt.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# Some virtual machines announce matrix tiles that a process may not use, and PyTorch would die of them; single precision uses none.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import sentences  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
from minicons import scorer  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast  # noqa: E402
from worker import Tamis  # noqa: E402


def bert(folder):
    """PyTorch's BERT with the weights of make_model.py's graph, which come in a fixed order."""
    graph = onnx.load(folder / "model.onnx").graph
    weights = [numpy_helper.to_array(weight) for weight in graph.initializer]
    weights = iter([weight for weight in weights if weight.dtype == "float32" and weight.ndim])
    words, places = next(weights), next(weights)
    rest = list(weights)
    hidden, layers = words.shape[1], (len(rest) - 7) // 16
    config = BertConfig(vocab_size=len(words), hidden_size=hidden, num_hidden_layers=layers, intermediate_size=rest[12].shape[1],
                        num_attention_heads=heads(graph), max_position_embeddings=len(places), layer_norm_eps=1e-5)
    with torch.no_grad():
        model = BertForMaskedLM(config)
        taken = iter(rest)

        def fill(*modules):
            for module in modules:
                weight = torch.tensor(next(taken))
                module.weight.copy_(weight.T if weight.ndim == 2 else weight)
                module.bias.copy_(torch.tensor(next(taken)))

        embeddings = model.bert.embeddings
        embeddings.word_embeddings.weight.copy_(torch.tensor(words))
        embeddings.position_embeddings.weight.copy_(torch.tensor(places))
        embeddings.token_type_embeddings.weight.zero_()
        fill(embeddings.LayerNorm)
        for layer in model.bert.encoder.layer:
            own = layer.attention.self
            fill(own.query, own.key, own.value, layer.attention.output.dense, layer.attention.output.LayerNorm)
            fill(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm)
        fill(model.cls.predictions.transform.dense, model.cls.predictions.transform.LayerNorm)
        model.cls.predictions.bias.copy_(torch.tensor(next(taken)))
    return model.eval()


def heads(graph):
    """The attention's split [0, 0, heads, width]."""
    for weight in graph.initializer:
        if weight.data_type == onnx.TensorProto.INT64 and list(weight.dims) == [4]:
            return int(numpy_helper.to_array(weight)[2])
    raise ValueError("not a graph of make_model.py")


class Minicons:
    def __init__(self, folder, batch):
        names = dict(mask_token="[MASK]", pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)
        self.scorer, self.batch = scorer.MaskedLMScorer(bert(folder), "cpu", tokenizer=self.tokenizer), batch

    def score(self, texts):
        found = []
        for start in range(0, len(texts), self.batch):
            some = texts[start:start + self.batch]
            found += self.scorer.sequence_score(some, reduction=lambda scores: (len(scores), -float(scores.sum())))
        return found

    def seconds(self):
        return time.process_time()


class Ceiling:
    """ONNX Runtime on the graph that tamis makes of the model's."""

    def __init__(self, build, folder, threads):
        with tempfile.TemporaryDirectory() as made:
            graph = pathlib.Path(made, "hoisted.onnx")
            subprocess.run([f"{build}/examples/rewrite", str(folder / "model.onnx"), str(graph)], check=True)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.add_session_config_entry("session.force_spinning_stop", "1")
            options.enable_mem_pattern = False
            self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.wanted = {value.name for value in self.session.get_inputs()}
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.mask = self.tokenizer.token_to_id("[MASK]")

    def score(self, texts):
        by_length, found = {}, [[0, 0.0] for _ in texts]
        for place, encoded in enumerate(self.tokenizer.encode_batch(texts)):
            rows = by_length.setdefault(len(encoded.ids), [])
            rows += [(place, encoded.ids, position) for position in range(1, len(encoded.ids) - 1)]
        for length, rows in by_length.items():
            size = max(1, 2048 // length)
            # Batches of like size, so that none is left with a row or two.
            for some in np.array_split(np.arange(len(rows)), -(-len(rows) // size)):
                ids = np.array([rows[at][1] for at in some], dtype=np.int64)
                index = np.array([[row, rows[at][2]] for row, at in enumerate(some)], dtype=np.int64)
                targets = ids[index[:, 0], index[:, 1]]
                ids[index[:, 0], index[:, 1]] = self.mask
                known = dict(input_ids=ids, attention_mask=np.ones_like(ids), mask_index=index, target_ids=targets)
                logprob, = self.session.run(["logprob"], {name: value for name, value in known.items() if name in self.wanted})
                for at, nats in zip(some, logprob.ravel()):
                    found[rows[at][0]][0] += 1
                    found[rows[at][0]][1] -= float(nats)
        return [tuple(pair) for pair in found]

    def seconds(self):
        return time.process_time()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    for name, default in (("threads", 1), ("rounds", 3), ("sentences", 16), ("shortest", 8), ("longest", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--build", default="target/release")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = sentences.drawn(args.model, args.sentences, args.shortest, args.longest)
    runs, integer = {}, args.model.with_name(args.model.name + "-int8")
    for kind, folder in (("fp32", args.model), ("int8", integer)):
        if folder.is_dir():
            runs["tamis " + kind] = Tamis(f"{args.build}/tamis", folder, args.threads)
            runs["ceiling " + kind] = Ceiling(args.build, folder, args.threads)
    first = Minicons(args.model, args.batches[0])
    for batch in args.batches:
        runs[f"minicons, {batch} a batch"] = other = object.__new__(Minicons)
        other.__dict__ = first.__dict__ | {"batch": batch}
    scores, spent, wall = {}, {name: [] for name in runs}, {name: [] for name in runs}
    for who in runs.values():
        who.score(texts[:2])
    for _ in range(args.rounds):
        for name, who in runs.items():
            cpu, start = who.seconds(), time.monotonic()
            scores[name] = who.score(texts)
            spent[name].append(who.seconds() - cpu)
            wall[name].append(time.monotonic() - start)
    ours, wrong, middle = scores["tamis fp32"], False, {name: statistics.median(found) for name, found in spent.items()}
    targets = sum(tokens for tokens, _ in ours)
    print(f"{args.model}: {len(texts)} sentences, {targets} targets, {args.threads} threads, {args.rounds} rounds")
    for name, seconds in middle.items():
        apart = max(abs(nats - other) / tokens for (tokens, nats), (_, other) in zip(ours, scores[name]))
        line = f"{name}: {targets / seconds:.1f} targets a processor second, {targets / statistics.median(wall[name]):.1f} a second"
        if name.startswith("tamis"):
            line += f"; {middle[name.replace('tamis', 'ceiling')] / seconds:.2f} of the ceiling"
            line += "".join(f", {middle[other] / seconds:.2f} x {other}" for other in middle if other.startswith("minicons"))
        print(f"{line}; at most {apart:.6f} nats a token from tamis fp32; rounds {[round(found, 2) for found in spent[name]]}", flush=True)
        wrong |= "int8" not in name and apart > 1e-3 or [t for t, _ in ours] != [t for t, _ in scores[name]]
    for name, who in runs.items():
        if isinstance(who, Tamis):
            print(f"{name}: head {who.head()}, peak {who.peak_mib()} MiB")
            who.close()
    sys.exit("the scores don't agree" if wrong else 0)


if __name__ == "__main__":
    main()
