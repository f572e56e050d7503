#!/bin/sh
# Trains Flickr8k's captioners, scores them on dev and test, and renews results/flickr8k. Given again,
# it goes on where it was. To be called in the project's folder.
#
#     benchmarks/flickr8k.sh ../flickr8k features runs/flickr8k 0 1 2    # corpus, features, runs, seeds
#
# COCO=../coco_sample scores them on its photographs as well. RECIPES="neuraltalk-lstm-3" trains some of
# them only. The small ones learn from two LSTMs without rewards, trained here, or from TEACHERS="lstm-seed0
# lstm-seed1", finished runs in the same folder, at DISTILL=1.0 and TEMPERATURE=1.0. Times are measured
# afterwards, on a machine that does nothing else, by benchmarks/captioner_cells.py and
# benchmarks/captioning.py.
set -eu
data=$1 features=$2 out=$3
shift 3
here=$(dirname "$0")
recipes=${RECIPES:-neuraltalk-lstm neuraltalk-lstm-2 neuraltalk-lstm-3 neuraltalk-hlstm \
neuraltalk-hlstm-gp neuraltalk-hlstm-small neuraltalk-hlstm-tiny neuraltalk-lstm-merge neuraltalk-hlstm-merge \
neuraltalk-hlstm-tiny-merge neuraltalk-hlstm-large}
unrewarded="unrewarded-lstm-seed1 unrewarded-lstm-seed2"
mkdir -p "$out"
taught=
for teacher in ${TEACHERS:-$unrewarded}; do taught="$taught${taught:+, }'$out/$teacher'"; done
if test -n "${COCO:-}" && ! test -e "$out/coco-features"; then
    growprune data features "$COCO" -o "$out/coco-features"
fi

train() {  # a recipe, a seed, a folder
    case $1 in *-small | *-tiny) teachers=$taught && train_teachers ;; *) teachers= ;; esac
    growprune train "$1" --data "$data" --features "$features" --out "$3" --seed "$2" --resume \
        ${teachers:+--set "loss.teachers=[$teachers]" --set "loss.distill=${DISTILL:-1.0}" \
        --set "loss.temperature=${TEMPERATURE:-1.0}"}
}

train_teachers() {  # those that are not given
    if test -n "${TEACHERS:-}"; then return; fi
    for teacher in $unrewarded; do
        growprune train neuraltalk-lstm --data "$data" --features "$features" --out "$out/$teacher" \
            --seed "${teacher##*seed}" --resume --set training.epochs=10 \
            --set model.inject=pre --set model.dropout=0.4 \
            --set loss.self_critical_epochs=0 --set training.optimizer.final_epochs=0
    done
}

evaluate() {  # a run, the beginning of the last score's name, and on what, if not on dev and test
    run=$1 score=$2
    shift 2
    if grep -q "\"$score/beam 3, length penalty 0.8\"" "$run/record.json"; then return; fi
    growprune evaluate "$run" "$@"
    growprune evaluate "$run" "$@" --beam 3
    growprune evaluate "$run" "$@" --beam 3 --length-penalty 0.8
}

for recipe in $recipes; do
    for seed in "$@"; do
        run="$out/$recipe-seed$seed"
        train "$recipe" "$seed" "$run"
        evaluate "$run" test
        if test -n "${COCO:-}"; then
            evaluate "$run" ".*: all" --data "$COCO" --features "$out/coco-features" --split all
        fi
    done
done
for recipe in $recipes; do  # only now: they tell whether files here changed
    for seed in "$@"; do
        cp "$out/$recipe-seed$seed/record.json" "results/flickr8k/records/$recipe-seed$seed.json"
    done
done
python "$here/flickr8k.py" results/flickr8k/records/*.json --out results/flickr8k
