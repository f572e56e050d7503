#!/bin/sh
# Trains the trials of an4-steps.toml and renews results/an4. Given again, it goes on where it was. To be
# called in the project's folder; runs lie in runs/.
#
#     benchmarks/an4-steps.sh ../an4 2     # corpus, how many to train at once
set -eu
here=$(dirname "$0")
growprune train an4-aligner --data "$1" --out runs/an4-aligner --resume
test -e runs/an4-words.json || growprune data align runs/an4-aligner --data "$1" --out runs/an4-words.json
trials() { python "$here/search.py" "$here/an4-steps.toml" --data "$1" --out runs/an4-steps --jobs "$2" \
    --only "$3"; }
trials "$1" 1 dense  # teaches others
trials "$1" "$2" "*"
mkdir -p results/an4/steps
for record in runs/an4-steps/*/record.json; do
    run=${record%/record.json}
    cp "$record" "results/an4/steps/${run##*/}.json"
done
python "$here/an4.py" results/an4/records/*.json --out results/an4
