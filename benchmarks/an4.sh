#!/bin/sh
# Trains AN4's small recogniser on the whole official training set, scores it on the test split, and
# renews results/an4. Given again, it goes on where it was. To be called in the project's folder.
#
#     benchmarks/an4.sh ../an4 runs/an4 0 1 2     # corpus, folder of the runs, seeds
set -eu
data=$1 out=$2
shift 2
here=$(dirname "$0")
both='data.train_splits=["train", "dev"]'
words="$out/words.json"
mkdir -p "$out"
growprune train an4-aligner --data "$data" --out "$out/aligner" --set "$both" --resume
test -e "$words" || growprune data align "$out/aligner" --data "$data" --out "$words"
for seed in "$@"; do
    run="$out/an4-small-final-seed$seed"
    growprune train an4-small-final --data "$data" --out "$run" --seed "$seed" --resume \
        --set "data.mix_words.words=$words"
    growprune evaluate "$run"
    growprune evaluate "$run" --split test --beam 16 --lm-order 3
    cp "$run/record.json" "results/an4/records/an4-small-final-seed$seed.json"
done
python "$here/an4.py" results/an4/records/*.json --out results/an4
