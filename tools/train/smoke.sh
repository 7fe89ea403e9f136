#!/usr/bin/env bash
# Owns the trial of the training scripts with a tiny model, on a CPU, in minutes: smoke.sh CORPUS EVAL. Holds that a run in two legs gives the same bits as a
# run in one, that a run carried in small pieces goes on, that what was packed comes back, that the stages of gpu.sh follow on one another, and
# that the exported graph agrees with PyTorch (export.py refuses otherwise). PYTHON names an interpreter with requirements.txt.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
corpus=${1:?where the corpus pack is} evaluation=${2:?where the evaluation archives are}
python=${PYTHON:-var/venv-train/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A few hundred documents of each kind of shard.
"$python" - "$corpus" "$work/corpus" <<'END'
import io, shutil, sys
from pathlib import Path
import zstandard
source, out = map(Path, sys.argv[1:])
out.mkdir()
for name, count in (("train-00", 300), ("books-extra-00", 60), ("dev", 40)):
    lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(open(source / f"{name}.jsonl.zst", "rb")), encoding="utf-8")
    text = "".join(line for line, _ in zip(lines, range(count)))
    (out / f"{name}.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(text.encode()))
shutil.copy(source / "MANIFEST.md", out)
END

export TRY=1 GPU_DIR=$work/gpu PYTHON=$python
tools/train/gpu.sh pieces "$work/corpus" "$evaluation"
"$python" tools/train/pack.py unpack "$work/again" "$GPU_DIR/core"
for stream in modern books dev dev_modern; do
    cmp "$GPU_DIR/source/$stream.u16" "$work/again/$stream.u16"
    cmp "$GPU_DIR/source/$stream.off" "$work/again/$stream.off"
done

train() { # RUN_DIR ARGUMENTS...
    "$python" tools/train/train.py "$work/again" "$@" --preset gpu --set shape=tiny --set tokens_per_batch=520 --set batches_per_step=2 \
        --set warmup_steps=8 --set report_steps=5 --set whole_word=0.5 --device cpu --threads 1 --stable-steps 16 --decay-steps 8 --long-from 4
}
train "$work/whole"
train "$work/legs" --leg-steps 10 --portable "$work/portable"
train "$work/legs"
train "$work/carried" --from-portable "$work/portable"
"$python" - "$work" <<'END'
import sys
import torch
whole, legs, carried = (torch.load(f"{sys.argv[1]}/{name}/checkpoint.pt", weights_only=False)["model"] for name in ("whole", "legs", "carried"))
assert all(torch.equal(whole[key], legs[key]) for key in whole), "a resumed run differs from one in one go"
apart = max((whole[key] - carried[key]).abs().max().item() for key in whole)
assert apart < 0.01, f"a carried run is {apart} away"
print(f"resumed: the same bits; carried with moments in bf16: {apart:.5f} away at most")
END

# The stages as they would be called on the GPU's machine, pieces coming in one after the other.
mv "$GPU_DIR/more-1" "$work/more-1"
mv "$GPU_DIR/more-2" "$work/more-2"
tools/train/gpu.sh begin "$work/out"
mv "$work/more-1" "$work/more-2" "$GPU_DIR/"
tools/train/gpu.sh go-on "$work/out"
tools/train/gpu.sh end "$work/out"
rm -r "$GPU_DIR/run"
tools/train/gpu.sh take "$work/out" "$work/corpus"
test -s "$GPU_DIR/model/model.onnx"
echo "smoke: all stages ran"
