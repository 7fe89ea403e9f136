#!/usr/bin/env bash
# Owns the order of a training run on one large GPU that is reached through a narrow door: half an hour in calls of ten minutes, 64 MiB in (the
# repository's own files counted in), 16 MiB a file out, PyTorch there and nothing installable. Each stage is one call; README.md says why.
#
#   here, before:  tools/train/gpu.sh pieces CORPUS EVAL   packs var/gpu/{core,more-1,more-2,eval}, each what one call can carry
#   call 1:        tools/train/gpu.sh begin OUT            carry var/gpu/core; 500 s of training
#   call 2:        tools/train/gpu.sh go-on OUT            carry var/gpu/more-1; 500 s more, with more books
#   call 3:        tools/train/gpu.sh end OUT              carry var/gpu/more-2 and var/gpu/eval; the decay, 240 s; evaluation; export
#   here, after:   tools/train/gpu.sh take OUT CORPUS      export again from what came back, and check it with ONNX Runtime here
#
# Every call ends well inside its ten minutes and leaves in OUT what the next machine would need: a machine that was lost between calls costs
# no more than the bits below bf16 of the optimizer's moments. To go on with such pieces, carry them as var/gpu/portable.
# TRY=1 runs every stage with a tiny model for seconds, on a CPU: the smoke test. PYTHON names the interpreter.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
stage=${1:?say which stage: pieces, begin, go-on, end or take}
python=${PYTHON:-python3}
gpu=${GPU_DIR:-var/gpu}
data=$gpu/data run=$gpu/run
export PYTHONUNBUFFERED=1

settings=(--preset gpu)
leg=500 decay=240 limits=()
if [ -n "${TRY:-}" ]; then
    settings+=(--set shape=tiny --set tokens_per_batch=520 --set batches_per_step=2 --set warmup_steps=8 --set report_steps=5 --device cpu --threads 1)
    leg=6 decay=6 limits=(--blimp-pairs 2 --sentences 6 --windows 2)
fi

unpack() {
    local folders=()
    for name in core more-1 more-2; do
        [ ! -d "$gpu/$name" ] || folders+=("$gpu/$name")
    done
    "$python" tools/train/pack.py unpack "$data" "${folders[@]}"
}

train() { # OUT ARGUMENTS...
    local out=$1 from=()
    shift
    [ ! -d "$gpu/portable" ] || from=(--from-portable "$gpu/portable")
    "$python" tools/train/train.py "$data" "$run" "${settings[@]}" "${from[@]}" --portable "$run/portable" "$@"
    mkdir -p "$out/portable"
    cp "$run"/portable/portable-*.bin "$out/portable/"
    cp "$run/curve.csv" "$run/curve.svg" "$run/run.json" "$out/"
}

case $stage in
pieces)
    corpus=${2:?where the corpus pack is} evaluation=${3:?where the evaluation archives are}
    "$python" tools/train/prepare.py "$corpus" "$gpu/source" --tokenizer models/tamis-en/tokenizer.json
    "$python" tools/train/pack.py pack "$gpu/source" "$gpu/core"
    # The further books are a source of their own here, so that they travel apart; unpacked, they join the other books.
    "$python" tools/train/prepare.py "$corpus" "$gpu/extra" --tokenizer models/tamis-en/tokenizer.json --books-extra --only-extra
    "$python" tools/train/pack.py pack "$gpu/extra" "$gpu/all-more" --streams books --prefix more-
    mkdir -p "$gpu/more-1" "$gpu/more-2" "$gpu/eval"
    pieces=("$gpu"/all-more/*.xz)
    half=$(((${#pieces[@]} + 1) / 2))
    mv "${pieces[@]:0:half}" "$gpu/more-1/"
    [ "${#pieces[@]}" -le "$half" ] || mv "${pieces[@]:half}" "$gpu/more-2/"
    rm -r "$gpu/all-more"
    cp "$evaluation"/{blimp-shared20,ewt-dev,fast-detect-half}.tar.xz "$gpu/eval/"
    cp "$corpus/MANIFEST.md" "$gpu/eval/"
    git ls-files -z | du -cb --files0-from=- | tail -1 | sed 's/total/bytes of tracked files, which travel with every call/'
    du -sb "$gpu"/core "$gpu"/more-1 "$gpu"/more-2 "$gpu"/eval
    ;;
begin | go-on)
    out=${2:?where the results go}
    unpack
    # Windows of 512 positions from the first leg's second half on, about.
    train "$out" --seconds "$leg" --long-from 2000
    ;;
end)
    out=${2:?where the results go}
    unpack
    train "$out" --decay-within "$decay" --seconds "$((decay + 30))" --long-from 2000
    device=$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')
    [ -z "${TRY:-}" ] || device=cpu
    # From here on everything that matters has been copied; what fails below can be done again elsewhere.
    "$python" tools/train/evaluate.py "$gpu/eval" "$data" "$run/checkpoint.pt" "$gpu/eval" "$out/metrics.json" --device "$device" \
        ${limits[@]:+"${limits[@]}"} || echo "*** the evaluation failed; evaluate here from what came back" >&2
    ;;
take)
    out=${2:?where the results of the last call are} corpus=${3:?where the corpus pack is}
    mkdir -p "$run"
    cat "$out"/portable/portable-*.bin >"$run/checkpoint.pt"
    touch "$run/DONE"
    cp "$out/curve.csv" "$out/curve.svg" "$out/run.json" "$run/"
    "$python" tools/train/export.py "$gpu/source" "$run" "$corpus/MANIFEST.md" "$gpu/model" --metrics "$out/metrics.json"
    echo "look at $run/curve.svg; then: make model-card MODEL=$gpu/model …, and copy it to models/tamis-en if it is better"
    ;;
*)
    echo "gpu.sh: no stage is called $stage" >&2
    exit 64
    ;;
esac
