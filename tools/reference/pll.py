"""Pseudo-log-likelihood by brute force: the reference that tamis is held to.

    python tools/reference/pll.py MODEL_DIR [--masking single|strided] [--stride 7] [--window-tokens 128]
        [--evaluator ort|numpy] [--input FILE|-]
    python tools/reference/pll.py --goldens                          (rewrites tests/goldens/pll.json; takes minutes)

Input: one JSON object a line with "text" and optionally "id". Output: one JSON object a line with its windows (ids and
surprisals, nats) and nll_token. One row at a time: no batch, no padding. Written from the definitions (Salazar et al. 2020,
eq. 1), not from tamis: its own windows (UAX #29 from `uniseg`), its own log-softmax in float64, special tokens known by their
place. `--evaluator numpy` runs the graph in onnx's ReferenceEvaluator, without ONNX Runtime (tiny models only).
Needs tools/fixtures/requirements.txt.
"""

import argparse
import json
import math
import pathlib
import random
import sys

import numpy as np
import onnx
import tokenizers
from uniseg.sentencebreak import sentences
from uniseg.wordbreak import words

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Tokens:
    """A model's tokenizer in which special tokens are ordinary text."""

    def __init__(self, folder):
        read = lambda name: json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        raw, names = read("tokenizer.json"), read("tokenizer_config.json")
        shipped = tokenizers.Tokenizer.from_str(json.dumps(raw | {"truncation": None, "padding": None}))
        text_of = lambda token: token["content"] if isinstance(token, dict) else token
        self.mask = shipped.token_to_id(text_of(names["mask_token"]))
        bare, wrapped = (shipped.encode("a", add_special_tokens=flag).ids for flag in (False, True))
        at = wrapped.index(bare[0])
        self.before, self.after = wrapped[:at], wrapped[at + len(bare):]
        special = {text_of(v) for k, v in names.items() if k.endswith("_token") and v}
        special |= {text_of(v) for v in names.get("additional_special_tokens", [])}
        special |= {token["content"] for token in raw["added_tokens"] if token["special"]}
        # No text holds noncharacters by accident: under such names nothing special can be matched.
        hidden = lambda text: "\U0010ffff" * 40 + str(sorted(special).index(text)) if text in special else text
        for token in raw["added_tokens"]:
            if token["content"] in special:
                token |= {"content": hidden(token["content"]), "normalized": False, "lstrip": False, "rstrip": False}
        model = raw["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {hidden(piece): index for piece, index in model["vocab"].items()}
        else:
            model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token"):
            model["unk_token"] = hidden(model["unk_token"])
        raw |= {"post_processor": None, "truncation": None, "padding": None}
        self.plain = tokenizers.Tokenizer.from_str(json.dumps(raw))

    def encode(self, text):
        """Ids, and for each the character at which it starts, white space skipped."""
        found = self.plain.encode(text, add_special_tokens=False)
        starts = []
        for start, end in found.offsets:
            piece = text[start:end]
            starts.append(end - len(piece.lstrip()) if piece.strip() else start)
        return found.ids, starts


def starts_of(segments):
    places, at = [], 0
    for segment in segments:
        places.append(at)
        at += len(segment)
    return places


def first_tokens(starts, places):
    """Indices of tokens that are the first at or after one of the places."""
    return {next((i for i, start in enumerate(starts) if start >= place), None) for place in places} - {None}


def windows(text, starts, limit):
    """INTERFACE.md: cut at sentence ends where one is near enough, else between words, else when full."""
    count = len(starts)
    if count <= limit:
        return [(0, count)] if count else []
    by_sentence = first_tokens(starts, starts_of(sentences(text)))
    by_word = first_tokens(starts, starts_of(words(text)))
    cuts, start = [], 0
    while count - start > limit:
        span = range(start + limit // 2 + 1, start + limit + 1)
        end = max(by_sentence.intersection(span), default=None) or max(by_word.intersection(span), default=start + limit)
        cuts.append((start, end))
        start = end
    return cuts + [(start, count)]


def evaluator(folder, kind):
    path = str(folder / "model.onnx")
    if kind == "numpy":
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(path)
        names = [value.name for value in onnx.load(path).graph.input]
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

    def logits(ids):
        row = np.array([ids], dtype=np.int64)
        known = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        return session.run(["logits"], {name: known[name] for name in names})[0][0]

    return logits


def surprisal(scores, index):
    scores = scores.astype(np.float64)
    peak = scores.max()
    return float(peak + math.log(np.exp(scores - peak).sum()) - scores[index])


def score_window(logits, tokens, ids, masking, stride):
    row = tokens.before + ids + tokens.after
    offset, n = len(tokens.before), len(ids)
    groups = [[i] for i in range(n)] if masking == "single" else [list(range(g, n, stride)) for g in range(min(stride, n))]
    nll = [None] * n
    for group in groups:
        masked = list(row)
        for i in group:
            masked[offset + i] = tokens.mask
        out = logits(masked)
        for i in group:
            nll[i] = surprisal(out[offset + i], ids[i])
    return nll


def score(logits, tokens, text, masking, stride, limit):
    ids, starts = tokens.encode(text)
    made = []
    for start, end in windows(text, starts, limit):
        nll = score_window(logits, tokens, ids[start:end], masking, stride)
        made.append({"ids": ids[start:end], "nll": nll})
    flat = [value for window in made for value in window["nll"]]
    return {"windows": made, "nll_token": math.fsum(flat) / len(flat) if flat else None}


LONG = (
    "The first people came to this place by water. They found a long river, and they made their home there! "
    "What did they know of the other side? Not much, but some of them would go and see it for themselves. "
    "After many days two came back, and all the others had to hear about it: \"Is it true?\" they said. "
    "It was. The work went on; new words were used for new things, and old words were lost... "
)

TEXTS = [
    "", " ", "\n\t \n", "a", ".", "the", "the of and", "Hello, world!", "[MASK]", "[SEP]", "<mask>", "</s>", "a [MASK] b",
    "the [SEP] of [CLS] and [PAD] to <mask> in </s><s> <pad> [UNK] <unk>", "▁[MASK]▁", "|||PHONE||| call me",
    "👩‍👩‍👧‍👦 emoji 🎉🎉 and flags 🇫🇷", "我是中国人的一个大来上", "のはをにたとるいか", "שלום לכל העולם", "مرحبا بالعالم",
    "при свете", "e\u0301 é ﬃ ①", "UPPER lower MiXeD", "don't can't won't it's", "3.14 1,000,000 10%", "a\u0000b", "zero\u200bwidth",
    "x" * 120, "supercalifragilisticexpialidocious", "the the the the the the the", "(((((((((", LONG, LONG * 3, "word " * 40 + "end",
    "No sentence ends here but there are many words that go on and on " * 4,
    "a" * 70, "的" * 60, "One. Two. Three. Four. Five. Six. Seven. Eight. Nine. Ten. " * 3, " leading and trailing  spaces  ",
]


def goldens():
    """Windows of 24 and 128 for all texts and both maskings; 510 for the lengths around it. The bundled model: fewer cases."""
    out = []
    fixtures = ROOT / "tests" / "fixtures" / "models"
    for folder in (fixtures / "tiny-bert-wordpiece", fixtures / "tiny-unigram-mask-piece", fixtures / "tiny-bpe", ROOT / "models" / "tamis-en"):
        name = folder.name
        tokens, logits = Tokens(folder), evaluator(folder, "numpy")
        check = evaluator(folder, "ort")
        cases = [(text, m, w) for text in TEXTS for m, w in (("single", 24), ("strided", 24), ("strided", 128))]
        if name == "tamis-en":
            cases = [case for case in cases if len(case[0]) < 140 and case[2] == 24] + [(LONG, "strided", 128), (LONG, "single", 24)]
        for n in (510, 511, 512, 513) if name != "tamis-en" else ():
            drawn = random.Random(n)
            text = " ".join(drawn.choice(["a", "the", "of", "and", "to", "in"]) for _ in range(n))
            if name == "tiny-bpe" and len(tokens.encode(text)[0]) != n:
                text = "a" + " the" * (n - 1)
            assert len(tokens.encode(text)[0]) == n, (name, n)
            cases.append((text, "strided", 510))
        for text, masking, limit in cases:
            made = score(logits, tokens, text, masking, 7, limit)
            again = score(check, tokens, text, masking, 7, limit)
            for one, two in zip(made["windows"], again["windows"]):
                assert np.abs(np.array(one["nll"]) - np.array(two["nll"])).max() < 1e-4, (name, text)
            for window in made["windows"]:
                window["nll"] = [round(value, 6) for value in window["nll"]]
            out.append({"model": name, "text": text, "masking": masking, "stride": 7, "window_tokens": limit} | made)
        print(name, len(out), file=sys.stderr)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in out)
    (ROOT / "tests" / "goldens" / "pll.json").write_text(f"[\n{lines}\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    parser.add_argument("--goldens", action="store_true")
    parser.add_argument("--masking", choices=["single", "strided"], default="single")
    parser.add_argument("--stride", type=int, default=7)
    parser.add_argument("--window-tokens", type=int, default=128)
    parser.add_argument("--evaluator", choices=["ort", "numpy"], default="ort")
    parser.add_argument("--input", default="-")
    options = parser.parse_args()
    if options.goldens:
        return goldens()
    if options.model is None:
        parser.error("MODEL_DIR is needed")
    tokens, logits = Tokens(options.model), evaluator(options.model, options.evaluator)
    stream = sys.stdin if options.input == "-" else open(options.input, encoding="utf-8")
    for number, line in enumerate(stream):
        document = json.loads(line)
        made = score(logits, tokens, document["text"], options.masking, options.stride, options.window_tokens)
        print(json.dumps({"id": document.get("id", str(number)), "text": document["text"]} | made, ensure_ascii=False))


if __name__ == "__main__":
    main()
