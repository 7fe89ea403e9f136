"""tamis against minicons 0.3.39: log-probabilities of sentences, and word by word from left to right.

    python -m venv var/minicons && var/minicons/bin/pip install -r tools/reference/minicons_requirements.txt
    cargo build && var/minicons/bin/python tools/reference/minicons_parity.py [--tamis target/debug/tamis]

Runs offline. The model is the fixture tiny-bert-wordpiece: its weights are taken out of the committed ONNX file, in the order in
which tools/fixtures/make_tiny_models.py makes them, and put into Hugging Face's BertForMaskedLM, so that minicons and tamis run
the same network in two ways. Not part of `make test`: it needs PyTorch. Sentences hold no special tokens, which minicons would
leave out of its sums. Ends with 1 if any sentence differs by more than 1e-4 nats a token.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
from minicons.scorer import MaskedLMScorer
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "fixtures" / "models" / "tiny-bert-wordpiece"
SENTENCES = [
    "The work of the people was long.", "They had to find water, and they did not know where to go!", "Hello, world!",
    "the", "What did they know of the other side? Not much.", "supercalifragilisticexpialidocious words are long words",
    "I don't know what it's all about, he said.", "One, two: three; (four) - five.", "UPPER lower MiXeD 3.14 and 1,000,000",
    "a b c d e f g", "The traveler lost the souvenir.", "The keys to the cabinet are on the table.",
    "new words were used for new things, and old words were lost... and so on and so on, day after day after day",
    "naïve café", "его свет", "的一是", "unhappiness unbelievably counterintuitive antidisestablishmentarianism",
]


def hugging_face():
    """The fixture as a BertForMaskedLM."""
    graph = onnx.load(MODEL / "model.onnx").graph
    floats = (onnx.numpy_helper.to_array(weight) for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT)
    weights = iter([weight for weight in floats if weight.ndim])
    config = json.loads((MODEL / "config.json").read_text())
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    bert = BertForMaskedLM(BertConfig(
        vocab_size=config["vocab_size"], hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=config["max_position_embeddings"], layer_norm_eps=1e-5, hidden_act="gelu"))
    state = bert.state_dict()

    def take(name, transposed=False):
        value = torch.tensor(next(weights)).T if transposed else torch.tensor(next(weights))
        assert state[name].shape == value.shape, (name, state[name].shape, value.shape)
        state[name] = value.contiguous()

    def norm(name):
        take(f"{name}.weight")
        take(f"{name}.bias")

    def linear(name):
        take(f"{name}.weight", transposed=True)
        take(f"{name}.bias")

    embeddings = "bert.embeddings"
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        take(f"{embeddings}.{table}.weight")
    norm(f"{embeddings}.LayerNorm")
    for layer in range(layers):
        name = f"bert.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            linear(f"{name}.{part}")
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense")
        linear(f"{name}.output.dense")
        norm(f"{name}.output.LayerNorm")
    linear("cls.predictions.transform.dense")
    norm("cls.predictions.transform.LayerNorm")
    take("cls.predictions.bias")
    assert next(weights, None) is None
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    bert.load_state_dict(state)
    names = json.loads((MODEL / "tokenizer_config.json").read_text())
    names = {name: value for name, value in names.items() if name.endswith("_token")}
    return bert.eval(), PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"), **names)


def by_tamis(program, masking):
    settings = [f"[models.default]\npath = {json.dumps(str(MODEL))}\ndevice = \"cpu\"\nhead_check = \"warn\"\n[signals.s]\nkind = \"pll\""]
    settings.append(f"masking = {json.dumps(masking)}" + ("\nwords = \"tokenizer\"" if masking != "single" else ""))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "p.toml").write_text("\n".join(settings) + f"\n[cache]\nenabled = false\npath = {json.dumps(str(folder / 'cache'))}\n")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in SENTENCES)
        done = subprocess.run([program, "score", folder / "p.toml"], input=lines, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    signals = [json.loads(line)["signals"] for line in done.stdout.splitlines()]
    return [(-signal["s.nll_token"] * signal["s.tokens"], signal["s.tokens"]) for signal in signals]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tamis", default=str(ROOT / "target" / "debug" / "tamis"))
    options = parser.parse_args()
    bert, tokenizer = hugging_face()
    failed = False
    for metric, masking in (("original", "single"), ("within_word_l2r", "word-l2r")):
        scorer = MaskedLMScorer(bert, "cpu", tokenizer=tokenizer)
        total = lambda values: values.sum(0).item()
        theirs = [scorer.sequence_score([text], reduction=total, PLL_metric=metric)[0] for text in SENTENCES]
        worst_sum = worst_token = 0.0
        for text, (ours, tokens), their in zip(SENTENCES, by_tamis(options.tamis, masking), theirs, strict=True):
            off = abs(ours - their)
            worst_sum, worst_token = max(worst_sum, off), max(worst_token, off / tokens)
            if off / tokens > 1e-4:
                failed = True
                print(f"  {text!r}: tamis {ours:.6f}, minicons {their:.6f}")
        print(f"minicons {metric}, tamis {masking}: {len(SENTENCES)} sentences, largest difference {worst_sum:.1e} nats a sentence, "
              f"{worst_token:.1e} nats a token")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
