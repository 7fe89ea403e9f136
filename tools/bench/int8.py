"""How much an int8 model's scores move: with the batch they were computed in, and against single precision.

    python tools/bench/int8.py [MODEL_DIR] [--sentences 24] [--tamis target/release/tamis]

Takes MODEL_DIR-int8 beside the model (by default the bundled one, whose scores mean something) or makes an int8 copy if there is none, and scores the demo's texts twice
with each: one at a time, and all at once in mixed batches. Needs requirements.txt, to make a copy.
"""

import argparse
import pathlib
import statistics
import tempfile

import sentences
from worker import Tamis


def gaps(one, other):
    return [abs(nats - moved) / tokens for (tokens, nats), (_, moved) in zip(one, other)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path, nargs="?", default=pathlib.Path("models/tamis-en"))
    parser.add_argument("--sentences", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tamis", default="target/release/tamis")
    args = parser.parse_args()
    texts, alone, scorers = sentences.sample(args.sentences), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        int8 = args.model.with_name(f"{args.model.name}-int8")
        if not int8.is_dir():
            import make_model

            make_model.quantised(args.model, int8 := pathlib.Path(folder))
        for kind, model in (("fp32", args.model), ("int8", int8)):
            tamis = Tamis(args.tamis, model, args.threads)
            alone[kind] = [tamis.score([text])[0] for text in texts]
            moved = gaps(alone[kind], tamis.score(texts))
            scorers[kind] = tamis.scorer
            print(f"{kind}, {tamis.head()} head: with the batch, {statistics.median(moved):.6f} nats a token in the median, "
                  f"{max(moved):.6f} at most; peak {tamis.peak_mib()} MiB; scorer {tamis.scorer}")
            tamis.close()
    apart = gaps(alone["fp32"], alone["int8"])
    print(f"int8 from fp32: {statistics.median(apart):.6f} nats a token in the median, {max(apart):.6f} at most")
    assert scorers["fp32"] != scorers["int8"], "both precisions have one identity"


if __name__ == "__main__":
    main()
