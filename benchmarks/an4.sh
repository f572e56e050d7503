#!/bin/sh
# Trains AN4's final recognisers on the whole official training set, scores them on the test split,
# and renews results/an4. Given again, it goes on where it was. To be called in the project's folder.
#
#     benchmarks/an4.sh ../an4 runs/an4 0 1 2     # corpus, folder of the runs, seeds
#
# RECIPES="an4-small-final" trains some of them only, or others: an4-small-blocks-final; the dense networks of
# as many weights, an4-small-lstm-final, an4-small-gru-final and an4-small-hlstm-final; on a GPU the
# paper's, deepspeech2-an4-final and deepspeech2-an4-augmented-final.
set -eu
data=$1 out=$2
shift 2
here=$(dirname "$0")
both='data.train_splits=["train", "dev"]'
words="$out/words.json"
mkdir -p "$out"
growprune train an4-aligner --data "$data" --out "$out/aligner" --set "$both" --resume
test -e "$words" || growprune data align "$out/aligner" --data "$data" --out "$words"
for recipe in ${RECIPES:-an4-small-final an4-small-streaming-final an4-medium-final}; do
    for seed in "$@"; do
        run="$out/$recipe-seed$seed"
        case $recipe in
            deepspeech2-an4-final) mixed= ;; # as the paper, of whole utterances
            *) mixed=$words ;;
        esac
        growprune train "$recipe" --data "$data" --out "$run" --seed "$seed" --resume \
            ${mixed:+--set "data.mix_words.words=$mixed"}
        growprune evaluate "$run"
        growprune evaluate "$run" --split test --beam 16 --lm-order 3
    done
done
for record in "$out"/*-final-seed*/record.json; do  # only now: they tell whether files here changed
    run=${record%/record.json}
    cp "$record" "results/an4/records/${run##*/}.json"
done
python "$here/an4.py" results/an4/records/*.json --out results/an4
