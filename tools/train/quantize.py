"""An int8 copy of a model's directory: owns which products become integers, and how their weights are scaled.

Dynamic quantisation by ONNX Runtime: weights are stored as int8, each product's input is scaled to int8 as it comes. Left in
single precision are the embeddings (they stay fp16 in the file, as in the original) and the five products behind the last attention: a
scale of a whole tensor would be another one for the scored positions alone than for all, and tamis could not move these products to the scored
positions. The copy gets a short card and a manifest of its own; `models/tamis-en-int8` is one, made by `quantize.py models/tamis-en models/tamis-en-int8`.

Scores of an int8 model move with the batch that a row was computed in (docs/scores.md), and it is another scorer with thresholds of its own. It is an
option for processors with fast int8 products; `make model-card` measures size, pace and shift.

usage: quantize.py MODEL_DIR OUT_DIR [--weights per-channel|per-tensor] [--reduce-range]
       quantize.py MODEL_DIR --compare         the variants' sizes, and their shift on the demo's prose
"""
import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

KEPT_PRODUCTS = 5
COPIED = ("tokenizer.json", "tokenizer_config.json", "config.json")
PROSE = Path(__file__).resolve().parent.parent.parent / "pipelines" / "demo"


def widen_weights(graph, products):
    """Gives each of these products its weight as a float32 initialiser in place of an fp16 one behind a Cast: the quantiser looks no further."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    initializers = {i.name: i for i in graph.initializer}
    for product in products:
        cast = casts.get(product.input[1])
        if cast is None or cast.input[0] not in initializers:
            continue
        narrow = initializers[cast.input[0]]
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(narrow).astype(np.float32), cast.output[0]))
        graph.initializer.remove(narrow)
        graph.node.remove(cast)


CARD = """---
license: apache-2.0
base_model: {name}
tags: [masked-lm, int8]
---
# {own}

[{name}](../{name}/MODEL_CARD.md) for processors with fast int8 products, made from it by `tools/train/quantize.py`: the weights of the
layers' products are int8 with a scale for each column, their inputs are scaled as they come; embeddings and the head stay as they were. Data, licences,
attributions, recipe and limits are those of {name}; how far the scores are apart and what it saves is measured in its report.

A score of an int8 model moves with the batch that it was computed in, so that the same text may get another last digit on another day. It is another scorer:
cached scores of {name} are not its scores, `stop = "certified"` refuses it, and thresholds should be looked at again.
"""


def describe(model_dir, out_dir):
    """Writes the copy's card, and the manifest that tamis pins a model directory by."""
    (out_dir / "MODEL_CARD.md").write_text(CARD.format(name=model_dir.resolve().name, own=out_dir.resolve().name), encoding="utf-8")
    names = sorted(path.name for path in out_dir.iterdir() if path.name != "manifest.json")
    content = {name: (out_dir / name).read_bytes() for name in names}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    (out_dir / "manifest.json").write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def quantize(model_dir, out_dir, per_channel, reduce_range):
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(model_dir / name, out_dir / name)
    model = onnx.load(model_dir / "model.onnx")
    constants = {i.name for i in model.graph.initializer} | {n.output[0] for n in model.graph.node if n.op_type == "Cast"}
    products = [n for n in model.graph.node if n.op_type == "MatMul"]
    weighted = [n for n in products[:-KEPT_PRODUCTS] if n.input[1] in constants]  # attention multiplies two activations: those stay
    widen_weights(model.graph, weighted)
    quantize_dynamic(
        model,
        out_dir / "model.onnx",
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=[n.name for n in weighted],
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
    )
    describe(model_dir, out_dir)


def masked_nats(model_dir, texts):
    """Mean nats a token of each text's first 128 tokens, every seventh masked at once."""
    import onnxruntime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    mask = tokenizer.token_to_id("[MASK]")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"])
    means = []
    for text in texts:
        ids = np.array(tokenizer.encode(text).ids)
        ids = np.concatenate([ids[:129], ids[-1:]])
        total = 0.0
        for first in range(1, 8):
            at = np.arange(first, len(ids) - 1, 7)
            row = ids.copy()
            row[at] = mask
            logits = session.run(["logits"], {"input_ids": row[None], "attention_mask": np.ones((1, len(row)), np.int64)})[0][0, at].astype(np.float64)
            total += (np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - logits[np.arange(len(at)), ids[at]]).sum()
        means.append(total / (len(ids) - 2))
    return np.array(means)


def compare(model_dir, count=60):
    labels = [line.split("\t")[3] for line in (PROSE / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    lines = (PROSE / "sample.jsonl").read_bytes().splitlines()
    texts = [json.loads(line)["text"] for line, kind in zip(lines, labels) if kind == "prose"][:count]
    truth = masked_nats(model_dir, texts)
    print(f"{'fp16 in the file':32} {(model_dir / 'model.onnx').stat().st_size:>11,} bytes; {truth.mean():.4f} nats a token over {count} passages")
    for per_channel in (False, True):
        for reduce_range in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                quantize(model_dir, Path(folder), per_channel, reduce_range)
                moved = masked_nats(Path(folder), texts) - truth
                size = (Path(folder) / "model.onnx").stat().st_size
            name = f"int8 {'per channel' if per_channel else 'per tensor'}, {'7' if reduce_range else '8'}-bit weights"
            print(f"{name:32} {size:>11,} bytes; shift {moved.mean():+.4f}, sd {moved.std():.4f}, largest {np.abs(moved).max():.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("out_dir", type=Path, nargs="?")
    parser.add_argument("--weights", choices=["per-channel", "per-tensor"], default="per-channel")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for processors without VNNI, whose sums of 8-bit products saturate")
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args()
    if args.compare:
        compare(args.model_dir)
    elif args.out_dir is None:
        parser.error("say where the int8 copy goes, or --compare")
    else:
        quantize(args.model_dir, args.out_dir, args.weights == "per-channel", args.reduce_range)


if __name__ == "__main__":
    main()
