#!/bin/sh
# Trains the trials of flickr8k-merge-steps.toml and flickr8k-steps.toml and renews results/flickr8k. Given
# again, it goes on where it was. To be called in the project's folder; runs lie in runs/.
#
#     benchmarks/flickr8k-steps.sh ../flickr8k features 2     # corpus, features, how many to train at once
set -eu
here=$(dirname "$0")
growprune train neuraltalk-lstm --data "$1" --features "$2" --out runs/flickr8k/unrewarded-lstm-seed1 \
    --seed 1 --resume --set training.epochs=10 --set loss.self_critical_epochs=0 \
    --set training.optimizer.final_epochs=0  # teaches one of them
for trials in merge-steps steps; do
    python "$here/search.py" "$here/flickr8k-$trials.toml" --data "$1" --features "$2" \
        --out "runs/flickr8k-$trials" --jobs "$3"
    mkdir -p "results/flickr8k/$trials"
    for record in "runs/flickr8k-$trials"/*/record.json; do
        run=${record%/record.json}
        cp "$record" "results/flickr8k/$trials/${run##*/}.json"
    done
done
python "$here/flickr8k.py" results/flickr8k/records/*.json --out results/flickr8k
