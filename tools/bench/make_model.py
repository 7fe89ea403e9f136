"""Makes a random masked language model of any size, for measurements: its scores mean nothing, its cost does.

    python tools/bench/make_model.py OUT --vocab 250002 --hidden 64 --layers 2 --heads 4 --positions 514 [--external] [--int8]

The graph is BERT's (that of tools/fixtures/make_tiny_models.py); the tokenizer is a WordPiece one with as many pieces as the
vocabulary, so that every row of the embedding can occur. --external puts the weights into model.onnx_data, as a model above 2 GB
must. --int8 makes OUT-int8 beside it: the products with weights, quantised dynamically. Needs tools/bench/requirements.txt, without --int8 tools/fixtures's.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "fixtures"))
import make_tiny_models as tiny  # noqa: E402


class Graph(tiny.Graph):
    """Noise in single precision from the start; weights go to `file` at once, if there is one: a message ends at 2 GB."""

    file = None

    def noise(self, *shape, scale):
        return self.const(self.rng.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def const(self, array):
        name = super().const(array if self.file is None or np.asarray(array).nbytes < 1024 else np.zeros(0, np.float32))
        if np.asarray(array).nbytes >= 1024 and self.file is not None:
            made = onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT)
            made.data_location = onnx.TensorProto.EXTERNAL
            known = dict(location="model.onnx_data", offset=self.file.tell(), length=array.nbytes)
            for key, value in known.items():
                made.external_data.add(key=key, value=str(value))
            array.tofile(self.file)
            self.weights[-1] = made
        return name


def tokenizer(size):
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [w for w in dict.fromkeys(tiny.COMMON)]
    pieces = specials + words + [f"w{number}" for number in range(size - len(specials) - len(words))]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    body = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    tokens = [tiny.added(token, vocab[token]) for token in specials]
    wrap = tiny.template("[CLS]", "[SEP]", vocab)
    names = dict(mask_token="[MASK]", pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    return tiny.tokenizer_json(tokens, normalizer, {"type": "BertPreTokenizer"}, wrap, body), names


def widen(graph):
    """Puts weights that are kept in half precision and cast at once into single precision, or nobody would know them for weights."""
    weights = {weight.name: weight for weight in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in weights]:
        wide = onnx.numpy_helper.to_array(weights[node.input[0]]).astype(onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
        graph.initializer.append(onnx.numpy_helper.from_array(wide, node.output[0]))
        graph.node.remove(node)


def quantised(model, out):
    """Writes `model`, a directory, as int8 to `out`.

    What follows the last attention, five products, stays in single precision: there a scale for a whole tensor would be another one
    for the scored positions alone than for all, and tamis could not move these products to the scored positions.
    """
    import shutil

    from onnxruntime.quantization import QuantType, quantize_dynamic

    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer", "tokenizer_config", "config"):
        shutil.copyfile(model / f"{name}.json", out / f"{name}.json")
    graph = onnx.load(model / "model.onnx")
    widen(graph.graph)
    for node in graph.graph.node:
        node.name = node.name or node.output[0]
    tail = [node.name for node in graph.graph.node if node.op_type == "MatMul"][-5:]
    kept = dict(op_types_to_quantize=["MatMul"], nodes_to_exclude=tail, weight_type=QuantType.QInt8)
    quantize_dynamic(graph, out / "model.onnx", **kept)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    for name, default in (("vocab", 30_000), ("hidden", 64), ("layers", 2), ("heads", 4), ("positions", 514)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--external", action="store_true")
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    tiny.H, tiny.HEADS, tiny.LAYERS, tiny.FFN, tiny.Graph = args.hidden, args.heads, args.layers, 4 * args.hidden, Graph
    tiny.onnx.checker.check_model = lambda *_, **__: None  # it does not take models above 2 GB
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "model.onnx_data").unlink(missing_ok=True)
    if args.external:
        Graph.file = open(args.out / "model.onnx_data", "wb")
    made = tiny.model(1, args.vocab, args.positions, False, None)
    (args.out / "model.onnx").write_bytes(made.SerializeToString())
    if Graph.file:
        Graph.file.close()
    words, names = tokenizer(args.vocab)
    config = dict(model_type="bert", max_position_embeddings=args.positions, pad_token_id=0, vocab_size=args.vocab,
                  hidden_size=args.hidden, num_hidden_layers=args.layers)
    for name, value in (("tokenizer", words), ("tokenizer_config", names), ("config", config)):
        (args.out / f"{name}.json").write_text(json.dumps(value) + "\n")
    if args.int8:
        quantised(args.out, args.out.with_name(args.out.name + "-int8"))
    print({file.name: file.stat().st_size for file in sorted(args.out.iterdir())})


if __name__ == "__main__":
    main()
