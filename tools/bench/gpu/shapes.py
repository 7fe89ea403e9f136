"""Random models of known sizes, made in two steps so that the second needs nothing but numpy.

`plan` (needs the onnx package) writes a graph without its weights, a few megabytes with its tokenizer; `fill` writes the weights beside it on the
machine that measures, the same ones everywhere. `weights` reads the floats of any model.onnx of ours back, in the order of the graph.
"""

import json
import pathlib
import struct
import sys

import numpy as np

SIZES = {
    "base": dict(vocab=30_522, hidden=768, layers=12, heads=12, positions=512),
    "xlm": dict(vocab=250_002, hidden=768, layers=12, heads=12, positions=514),
}
SMALL = dict(hidden=64, layers=2, heads=4, positions=514)
QUICK = {"base": dict(SMALL, vocab=3_000), "xlm": dict(SMALL, vocab=20_000)}


def plan(folder, vocab, hidden, layers, heads, positions):
    """Writes model.onnx, whose weights lie in a file that is not there yet, what to put into that, and the tokenizer."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    import make_model
    import onnx

    tiny, listed = make_model.tiny, []

    class Planned(tiny.Graph):
        end = 0

        def noise(self, *shape, scale):
            # Logits as wide as those of a trained model: of embeddings of size 1 they would be hundreds, and half precision could not tell them.
            return self.later(shape, 0.0, 0.05 if len(shape) == 2 and scale in (1.0, 0.4) else scale)

        def const(self, array):
            array = np.asarray(array)
            return self.later(array.shape, 1.0, 0.1) if array.size > 16 else super().const(array)

        def later(self, shape, mean, scale):
            self.count += 1
            size = 4 * int(np.prod(shape))
            made = onnx.TensorProto(name=f"c{self.count}", dims=shape, data_type=onnx.TensorProto.FLOAT)
            made.data_location = onnx.TensorProto.EXTERNAL
            for key, value in dict(location="model.onnx_data", offset=Planned.end, length=size).items():
                made.external_data.add(key=key, value=str(value))
            Planned.end += size
            self.weights.append(made)
            listed.append([list(shape), mean, scale])
            return made.name

    tiny.H, tiny.HEADS, tiny.LAYERS, tiny.FFN, tiny.Graph = hidden, heads, layers, 4 * hidden, Planned
    tiny.onnx.checker.check_model = lambda *_, **__: None  # the weights are not there yet
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(tiny.model(1, vocab, positions, False, None).SerializeToString())
    (folder / "plan.json").write_text(json.dumps(listed))
    words, names = make_model.tokenizer(vocab)
    config = dict(model_type="bert", max_position_embeddings=positions, pad_token_id=0, vocab_size=vocab, hidden_size=hidden,
                  num_hidden_layers=layers, num_attention_heads=heads, layer_norm_eps=1e-5)
    for name, value in (("tokenizer", words), ("tokenizer_config", names), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(value) + "\n")


def fill(folder):
    """Writes the weights that the plan lists, unless they are there."""
    listed, data = json.loads((folder / "plan.json").read_text()), folder / "model.onnx_data"
    if data.exists() and data.stat().st_size == sum(4 * int(np.prod(shape)) for shape, _, _ in listed):
        return
    with open(data, "wb") as out:
        for number, (shape, mean, scale) in enumerate(listed):
            noise = np.random.default_rng([7, number]).standard_normal(shape, dtype=np.float32)
            (noise * np.float32(scale) + np.float32(mean)).tofile(out)


def fields(message):
    """Numbers and bytes of one protobuf message, by the number of their field."""
    at, found = 0, {}

    def varint(at):
        value, shift = 0, 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at

    while at < len(message):
        tag, at = varint(at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(at)
        elif kind == 2:
            size, at = varint(at)
            value, at = message[at:at + size], at + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = message[at:at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def weights(folder):
    """Every float tensor of model.onnx with more than one number, as float32, in the graph's order."""
    graph = fields(memoryview((folder / "model.onnx").read_bytes()))[7][0]
    for message in fields(graph)[5]:
        tensor = fields(message)
        kind = {1: "<f4", 10: "<f2"}.get(tensor[2][0])
        # Dimensions come packed or one by one.
        shape = [number for dims in tensor.get(1, []) for number in ([dims] if isinstance(dims, int) else list(unpacked(dims)))]
        if kind is None or int(np.prod(shape)) < 2:
            continue
        if 9 in tensor:
            array = np.frombuffer(tensor[9][0], kind)
        elif 13 in tensor:
            entries = (fields(entry) for entry in tensor[13])
            place = {bytes(entry[1][0]).decode(): bytes(entry[2][0]).decode() for entry in entries}
            array = np.fromfile(folder / place["location"], kind, int(np.prod(shape)), offset=int(place.get("offset", 0)))
        else:
            array = np.array([number for packed in tensor[4] for number in struct.unpack(f"<{len(packed) // 4}f", packed)], "<f4")
        yield array.reshape(shape).astype(np.float32)


def unpacked(numbers):
    value, shift = 0, 0
    for byte in numbers:
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            yield value
            value, shift = 0, 0
