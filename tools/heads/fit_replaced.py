"""Makes a detector of replaced tokens out of a masked language model, and holds its scores against the exact score.

    python tools/heads/fit_replaced.py fit MODEL_DIR --train FILE.jsonl[.zst] --held FILE.jsonl[.zst] --out DIR
        [--windows 3000] [--documents 300] [--tokens 112] [--steps 3000]
    tamis score DIR/pipeline.toml --input DIR/documents.jsonl > scored.jsonl
    python tools/heads/fit_replaced.py compare scored.jsonl

A detector as ELECTRA's discriminator (Clark et al. 2020, section 2) says of each token whether another stands in its place. ELECTRA trains the whole encoder
for that. Here the encoder stays as it is and a small network is fitted on top: of the state t that the model's vocabulary is multiplied with, the
embedding e of the token that stands there, and their product, [t, e, t·e] → 256 → 1. So it says what a masked language model knows about replaced tokens
without being trained for it, at one pass a text.

Replacements come from the model itself: 15% of a window's tokens are masked, and each is drawn from the model's own distribution; a draw of the
very token is no replacement. Half of the held-out documents go to the figures on tokens that are printed, all of them to DIR/documents.jsonl.
DIR gets model.onnx (`logits [B,T]`, for `kind = "token-classifier"` without `labels`), the tokenizer's files, and the pipeline.

`compare`: over documents, Pearson's and Spearman's coefficients of `.nll_token`, `.flagged_rate` and `.max_log_odds` with the exact score's
`pll.nll_token`, and how many lie on another side of the medians.

Needs tools/train/requirements.txt. Minutes on two cores. For graphs like tools/train/export.py's: one Gather of `input_ids`, one product that makes the logits.
"""

import argparse
import io
import json
import pathlib
import shutil
import sys

import numpy as np

SHARE = 0.15
PIPELINE = """# The exact score and a detector of replaced tokens beside it, for tools/heads/fit_replaced.py.
name = "replaced"
[models.default]
path = {base}
[models.detector]
path = {detector}
head_check = "warn"
[signals.pll]
kind = "pll"
model = "default"
masking = "single"
window_tokens = 128
[signals.replaced]
kind = "token-classifier"
model = "detector"
window_tokens = 128
[[rules]]
name = "any"
signal = "pll.nll_token"
max = 100.0
"""


def lines(path):
    data = path.read_bytes()
    if path.suffix == ".zst":
        import zstandard

        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    return (json.loads(line)["text"] for line in data.decode().splitlines())


class Texts:
    """Pieces of texts, one of each, of about so many tokens, cut where a token begins."""

    def __init__(self, folder, tokens):
        import tokenizers

        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokens = tokens
        names = json.loads((folder / "tokenizer_config.json").read_text())
        number = lambda key: self.tokenizer.token_to_id(names[key]["content"] if isinstance(names[key], dict) else names[key])
        self.mask = number("mask_token")
        self.special = {number(key) for key in names if key.endswith("_token") and names[key]}

    def pieces(self, path, count):
        found = []
        for text in lines(path):
            encoded = self.tokenizer.encode(text, add_special_tokens=False)
            if len(encoded.ids) > self.tokens:
                found.append(text[: encoded.offsets[self.tokens][0]].strip())
            if len(found) == count:
                break
        return found

    def rows(self, pieces):
        """Rows of one length: pieces that have fewer tokens again are left out."""
        made = [self.tokenizer.encode(piece).ids for piece in pieces]
        length = int(np.median([len(row) for row in made]))
        return np.array([row[:length] for row in made if len(row) >= length], dtype=np.int64)


def opened(model):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def parts(folder):
    """The model with the state before its vocabulary and the tokens' embeddings as outputs, and the names of the two."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    logits = next(node for node in model.graph.node if "logits" in node.output)
    maker = {output: node for node in model.graph.node for output in node.output}
    product = logits if logits.op_type == "MatMul" else maker[logits.input[0]]
    gather = next(node for node in model.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    after = [node for node in model.graph.node if gather.output[0] in node.input]
    embedding = after[0].output[0] if len(after) == 1 and after[0].op_type == "Cast" else gather.output[0]
    return model, product.input[0], embedding


def run(session, outputs, rows, batch=24):
    names = [value.name for value in session.get_inputs()]
    for at in range(0, len(rows), batch):
        part = rows[at : at + batch]
        known = {"input_ids": part, "attention_mask": np.ones_like(part), "token_type_ids": np.zeros_like(part)}
        yield session.run(outputs, {name: known[name] for name in names})


def replaced(session, texts, rows, drawn):
    """The rows with tokens replaced by draws from the model, and which are."""
    ordinary = ~np.isin(rows, list(texts.special))
    chosen = ordinary & (drawn.random(rows.shape) < SHARE)
    masked = np.where(chosen, texts.mask, rows)
    made, at = rows.copy(), 0
    for (logits,) in run(session, ["logits"], masked):
        for row, scores in enumerate(logits):
            for place in np.nonzero(chosen[at + row])[0]:
                # By Gumbel's maximum: the greatest of the scores with such noise is a draw from their softmax.
                made[at + row, place] = int(np.argmax(scores[place] + drawn.gumbel(size=scores.shape[-1])))
        at += len(logits)
    return made, (made != rows).astype(np.float32), ordinary


def features(session, outputs, rows):
    found = [np.concatenate([t, e], -1).astype(np.float16) for t, e in run(session, outputs, rows)]
    return np.concatenate(found)


def auroc(z, y):
    order = np.argsort(z, kind="stable")
    ranks = np.empty(len(z))
    ranks[order] = np.arange(1, len(z) + 1)
    positives = y.sum()
    return (ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def fit(options):
    import onnx
    import torch

    drawn = np.random.default_rng(5)
    torch.manual_seed(5)
    texts = Texts(options.model, options.tokens)
    model, state, embedding = parts(options.model)
    whole = opened(model)
    told = onnx.ModelProto.FromString(model.SerializeToString())
    del told.graph.output[:]
    told.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (state, embedding))
    encoder = opened(told)

    def sample(pieces):
        rows, labels, ordinary = replaced(whole, texts, texts.rows(pieces), drawn)
        x = features(encoder, [state, embedding], rows)
        return torch.from_numpy(x[ordinary]), torch.from_numpy(labels[ordinary])

    x, y = sample(texts.pieces(options.train, options.windows))
    documents = texts.pieces(options.held, options.documents)
    held_x, held_y = sample(documents[: len(documents) // 2])
    print(f"fitting on {len(y)} tokens, {float(y.mean()):.1%} of them replaced; {len(held_y)} held out", file=sys.stderr)
    width = x.shape[1] // 2

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(3 * width, 256), torch.nn.Linear(256, 1)

        def forward(self, x):
            t, e = x[..., :width], x[..., width:]
            return self.outer(torch.relu(self.inner(torch.cat([t, e, t * e], -1)))).squeeze(-1)

    head = Head()
    steps = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.01)
    pace = torch.optim.lr_scheduler.OneCycleLR(steps, 2e-3, options.steps)
    for step in range(options.steps):
        chosen = torch.randint(len(y), (1024,))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(x[chosen].float()), y[chosen])
        steps.zero_grad()
        loss.backward()
        steps.step()
        pace.step()
        if step % 500 == 0:
            print(f"step {step}: {float(loss.detach()):.4f} nats", file=sys.stderr)
    with torch.no_grad():
        z = head(held_x.float()).numpy()
    truth = held_y.numpy()
    print(f"held-out tokens: {len(truth)}, {truth.mean():.1%} replaced; AUROC {auroc(z, truth):.4f}; "
          f"log-loss {float(np.mean(np.logaddexp(0, np.where(truth == 1, -z, z)))):.4f} nats, "
          f"{float(-(truth.mean() * np.log(truth.mean()) + (1 - truth.mean()) * np.log(1 - truth.mean()))):.4f} for who knows the share alone; "
          f"flagged {np.mean(z[truth == 1] > 0):.1%} of the replaced and {np.mean(z[truth == 0] > 0):.2%} of the others")

    options.out.mkdir(parents=True, exist_ok=True)
    make, tensor = onnx.helper.make_node, lambda name, value: onnx.numpy_helper.from_array(value.detach().numpy().astype(np.float32), name)
    graph = model.graph
    del graph.output[:]
    kept = [node for node in graph.node if "logits" not in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    graph.node.extend([
        make("Mul", [state, embedding], ["head.product"]),
        make("Concat", [state, embedding, "head.product"], ["head.input"], axis=-1),
        make("MatMul", ["head.input", "head.inner.weight"], ["head.0"]),
        make("Add", ["head.0", "head.inner.bias"], ["head.1"]),
        make("Relu", ["head.1"], ["head.2"]),
        make("MatMul", ["head.2", "head.outer.weight"], ["head.3"]),
        make("Add", ["head.3", "head.outer.bias"], ["head.4"]),
        make("Squeeze", ["head.4", "head.last"], ["logits"]),
    ])
    graph.initializer.extend([
        tensor("head.inner.weight", head.inner.weight.T.contiguous()), tensor("head.inner.bias", head.inner.bias),
        tensor("head.outer.weight", head.outer.weight.T.contiguous()), tensor("head.outer.bias", head.outer.bias),
        onnx.numpy_helper.from_array(np.array([-1], dtype=np.int64), "head.last"),
    ])
    graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "sequence"]))
    onnx.checker.check_model(model)
    onnx.save(model, options.out / "model.onnx")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(options.model / name, options.out / name)
    config = json.loads((options.model / "config.json").read_text()) | {"architectures": ["ElectraForPreTraining"]}
    (options.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (options.out / "documents.jsonl").write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(documents)))
    quoted = lambda path: json.dumps(str(path.resolve()))
    (options.out / "pipeline.toml").write_text(PIPELINE.format(base=quoted(options.model), detector=quoted(options.out)))


def compare(options):
    told = [json.loads(line)["signals"] for line in options.scored.read_text().splitlines()]
    column = lambda name: np.array([signals[name] for signals in told])
    exact = column("pll.nll_token")
    ranks = lambda values: np.argsort(np.argsort(values, kind="stable"), kind="stable")
    print(f"{len(told)} documents")
    for name in ("replaced.nll_token", "replaced.flagged_rate", "replaced.max_log_odds"):
        values = column(name)
        pearson, spearman = np.corrcoef(exact, values)[0, 1], np.corrcoef(ranks(exact), ranks(values))[0, 1]
        other = np.mean((exact > np.median(exact)) != (values > np.median(values)))
        print(f"{name}: Pearson {pearson:.4f}, Spearman {spearman:.4f}, on another side of the medians {other:.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    deeds = parser.add_subparsers(required=True)
    fitting = deeds.add_parser("fit")
    fitting.add_argument("model", type=pathlib.Path)
    fitting.add_argument("--train", type=pathlib.Path, required=True)
    fitting.add_argument("--held", type=pathlib.Path, required=True)
    fitting.add_argument("--out", type=pathlib.Path, required=True)
    fitting.add_argument("--windows", type=int, default=3000)
    fitting.add_argument("--documents", type=int, default=300)
    fitting.add_argument("--tokens", type=int, default=112)
    fitting.add_argument("--steps", type=int, default=3000)
    fitting.set_defaults(deed=fit)
    comparing = deeds.add_parser("compare")
    comparing.add_argument("scored", type=pathlib.Path)
    comparing.set_defaults(deed=compare)
    options = parser.parse_args()
    options.deed(options)


if __name__ == "__main__":
    main()
