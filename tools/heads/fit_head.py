"""Fits a head on the embeddings of a model and writes it as JSON, for `kind = "embedding"`; tells how it does on texts that it did not see.

    python tools/heads/fit_head.py MODEL_DIR --data FILE.jsonl --positive spam --labels spam --out head.json [--clean FILE.jsonl …]
        [--negatives FILE.jsonl …] [--pooling mean|first] [--window-tokens 128] [--trees] [--limit 0.01] [--thresholds 0.5 …] [--attribution "…"]

`--data`: one JSON object a line with "text" and "label"; those whose label is `--positive` are the positives. A text's fold is the SHA-256 of
its beginning modulo 5: the first 50 letters in lower case, digits and punctuation left out. Fold 0 is held out; so texts from one template stay on one side, and two runs agree. `--negatives`: more texts without positives to fit on, in folds
like the others and weighing like them. `--clean`: more JSON lines with "text" that hold no positives, only to
measure how many of them the head flags.

The encoder is MODEL_DIR/model.onnx: its output `last_hidden_state`, or of a masked language model what its last matrix multiplies (the last
hidden state after the head's transform), found by the rule that tamis uses. Windows, special tokens and the mean over a window's tokens are tamis's own
too (tools/reference/pll.py). `--pooling` and `--window-tokens` must be those of the pipeline.

Linear (default): logistic regression with an L2 penalty by Newton's method, standardised for the fit and folded back; the penalty is the best of
several by log-loss over folds 1 to 4. `--trees`: gradient boosting by scikit-learn, 200 trees of depth 3. Either has one label, by a sigmoid.

Needs tools/heads/requirements.txt. Minutes on two cores.
"""

import argparse
import hashlib
import json
import math
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "reference"))
import pll  # noqa: E402

HIDDEN = ["last_hidden_state", "token_embeddings", "hidden_states"]
PENALTIES = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


def sha256(model):
    """Of model.onnx followed by its weights in files of their own, in the order of their names."""
    graph = onnx.load(model / "model.onnx", load_external_data=False).graph
    names = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"} - {"model.onnx"}
    digest = hashlib.sha256()
    for name in ["model.onnx", *sorted(names)]:
        with open(model / name, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def before_logits(graph):
    """Walks back from the logits over constants added to them, to the product that makes them: its other factor."""
    constants = {tensor.name for tensor in graph.initializer}
    maker = {}
    for node in graph.node:
        maker |= {output: node for output in node.output}
        if all(name in constants or not name for name in node.input):
            constants |= set(node.output)
    value = next((output.name for output in graph.output if output.name == "logits"), graph.output[0].name)
    for _ in range(8):
        node = maker[value]
        varying = [name for name in node.input if name and name not in constants]
        if node.op_type in ("MatMul", "FusedMatMul") and len(varying) == 1:
            return varying[0]
        if node.op_type not in ("Add", "Cast", "Identity") or len(varying) != 1:
            break
        value = varying[0]
    sys.exit(f"the logits are not a product with a matrix ({node.op_type}): export the encoder with last_hidden_state")


class Encoder:
    def __init__(self, folder, pooling):
        self.tokens, self.pooling = pll.Tokens(folder), pooling
        model = onnx.load(folder / "model.onnx")
        names = [output.name for output in model.graph.output]
        self.output = next((name for name in HIDDEN if name in names), None)
        if self.output is None:
            self.output = before_logits(model.graph)
            del model.graph.output[:]
            model.graph.output.append(onnx.helper.make_tensor_value_info(self.output, onnx.TensorProto.FLOAT, None))
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]

    def windows(self, text, limit):
        ids, starts = self.tokens.encode(text)
        made = [ids[start:end] for start, end in pll.windows(text, starts, limit)]
        return made, [self.vector(window) for window in made]

    def vector(self, ids):
        row = np.array([self.tokens.before + ids + self.tokens.after], dtype=np.int64)
        known = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        states = self.session.run([self.output], {name: known[name] for name in self.inputs})[0][0].astype(np.float64)
        return states.mean(0) if self.pooling == "mean" else states[0]


def newton(x, y, penalty):
    """Minimises the log-loss plus penalty/2 times the squared weights; the last one is the bias and is free."""
    x = np.hstack([x, np.ones((len(x), 1))])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-9
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -40, 40)))
        gradient = x.T @ (p - y) + ridge * w
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge), gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def log_loss(z, y):
    return float(np.mean(np.logaddexp(0, np.where(y == 1, -z, z))))


def linear(x, y, folds):
    centre, scale = x.mean(0), x.std(0) + 1e-9
    s = (x - centre) / scale
    losses = {}
    for penalty in PENALTIES:
        out = np.empty(len(y))
        for fold in set(folds):
            w = newton(s[folds != fold], y[folds != fold], penalty)
            out[folds == fold] = s[folds == fold] @ w[:-1] + w[-1]
        losses[penalty] = log_loss(out, y)
        print(f"penalty {penalty:g}: log-loss {losses[penalty]:.4f} over the folds", file=sys.stderr)
    w = newton(s, y, min(losses, key=losses.get))
    weights = w[:-1] / scale
    bias = w[-1] - float(weights @ centre)
    # Six digits keep the file small and move no logit by 1e-4.
    weights = np.array([float(f"{value:.6g}") for value in weights])
    return {"kind": "linear", "weights": [weights.tolist()], "bias": [float(f"{bias:.8g}")]}, lambda x: x @ weights + bias


def trees(x, y):
    from sklearn.ensemble import GradientBoostingClassifier

    made = GradientBoostingClassifier(n_estimators=200, max_depth=3, learning_rate=0.1, subsample=0.8, random_state=0).fit(x.astype(np.float32), y)
    prior = float(made.init_.class_prior_[1])
    grown = []
    for tree in (estimator[0].tree_ for estimator in made.estimators_):
        grown.append({"label": 0, "feature": np.maximum(tree.feature, 0).tolist(), "threshold": [float(f"{v:.9g}") for v in tree.threshold],
                      "left": tree.children_left.tolist(), "right": tree.children_right.tolist(),
                      "value": [float(f"{made.learning_rate * v:.6g}") for v in tree.value[:, 0, 0]]})
    head = {"kind": "trees", "bias": [math.log(prior / (1 - prior))], "trees": grown}
    return head, lambda x: made.decision_function(x.astype(np.float32))


def auroc(z, y):
    order = np.argsort(z, kind="stable")
    ranks = np.empty(len(z))
    ranks[order] = np.arange(1, len(z) + 1)
    for value in np.unique(z):
        ranks[z == value] = ranks[z == value].mean()
    positives = y.sum()
    return (ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def read(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def beginning(text):
    """What texts from one template have in common, other numbers and names behind them aside."""
    return "".join(letter for letter in text.lower() if letter.isalpha())[:50]


def share(flags):
    return f"{int(flags.sum())} of {len(flags)} ({100 * flags.mean():.2f} %)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--positive", required=True)
    parser.add_argument("--labels", required=True, help="name of the head's one label")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--clean", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--negatives", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--pooling", choices=["mean", "first"], default="mean")
    parser.add_argument("--window-tokens", type=int, default=128)
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--limit", type=float, default=0.01, help="share of negatives that the suggested threshold may flag, over folds 1 to 4")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.5, 0.8, 0.9, 0.95, 0.99])
    parser.add_argument("--attribution", default="")
    options = parser.parse_args()
    encoder = Encoder(options.model, options.pooling)
    documents, vectors, labels, places = read(options.data), [], [], []
    own = len(documents)
    documents += [{"text": document["text"], "label": ""} for path in options.negatives for document in read(path)]
    for number, document in enumerate(documents):
        for vector in encoder.windows(document["text"], options.window_tokens)[1]:
            vectors.append(vector)
            labels.append(float(document["label"] == options.positive))
            places.append(number)
    x, y, places = np.array(vectors), np.array(labels), np.array(places)
    fold_of = [int(hashlib.sha256(beginning(document["text"]).encode()).hexdigest(), 16) % 5 for document in documents]
    folds = np.array([fold_of[place] for place in places])
    kept = folds != 0
    head, logit = trees(x[kept], y[kept]) if options.trees else linear(x[kept], y[kept], folds[kept])

    def by_document(z, where):
        """As `pool = "max"`: the greatest of a document's windows."""
        out = {}
        for place, value in zip(places[where], z):
            out[place] = max(out.get(place, -math.inf), value)
        return np.array(list(out.values())), np.array([float(documents[place]["label"] == options.positive) for place in out])

    if options.trees:
        cut_z, cut_y = by_document(logit(x[kept]), kept)  # optimistic: those trees saw these texts
    else:
        out = np.empty(kept.sum())
        for fold in set(folds[kept]):
            part = linear_without(x[kept], y[kept], folds[kept], fold)
            out[folds[kept] == fold] = part
        cut_z, cut_y = by_document(out, kept)
    cut = float(np.quantile(cut_z[cut_y == 0], 1 - options.limit))
    held, held_own = ~kept & (places >= own), ~kept & (places < own)
    z, truth = by_document(logit(x[held_own]), held_own)
    sigma = lambda value: 1 / (1 + math.exp(-value))
    print(f"fitted on {int((cut_y == 1).sum())} positives and {int((cut_y == 0).sum())} negatives; held out {int(truth.sum())} and {int((truth == 0).sum())}")
    print(f"held out: AUROC {auroc(z, truth):.4f}")
    print(f"above {sigma(cut):.3f} lie {options.limit:.1%} of the negatives of folds 1 to 4, by heads that did not see them")
    clean = {"held-out texts of --negatives": by_document(logit(x[held]), held)[0]} if held.any() else {}
    for path in options.clean:
        best = lambda text: max((logit(np.array([vector]))[0] for vector in encoder.windows(text, options.window_tokens)[1]), default=-math.inf)
        clean[f"clean text {path.name}"] = np.array([best(document["text"]) for document in read(path)])
    for threshold in options.thresholds:
        above = lambda values: share(values > math.log(threshold / (1 - threshold)))
        print(f"above {threshold}: {above(z[truth == 1])} positives found; flagged: {above(z[truth == 0])} negatives" + "".join(
            f", {above(values)} of {name}" for name, values in clean.items()))
    made = {"format": "tamis head 1", "labels": [options.labels], "activation": "sigmoid", "features": x.shape[1], "pooling": options.pooling,
            "window_tokens": options.window_tokens, "encoder_sha256": sha256(options.model)}
    made |= {"attribution": options.attribution} if options.attribution else {}
    options.out.write_text(json.dumps(made | head, ensure_ascii=False, separators=(",", ":")) + "\n")


def linear_without(x, y, folds, fold):
    """Logits of a fold's windows by a head that did not see them."""
    centre, scale = x[folds != fold].mean(0), x[folds != fold].std(0) + 1e-9
    w = newton((x[folds != fold] - centre) / scale, y[folds != fold], 30.0)
    return ((x[folds == fold] - centre) / scale) @ w[:-1] + w[-1]


if __name__ == "__main__":
    main()
