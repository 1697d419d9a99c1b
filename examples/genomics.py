"""Two motifs in random DNA: which letters decided, and which motif does the network look for?

Sequences of 80 letters are drawn from a Markov chain, rich in some dinucleotides as genomes are. Those of class 1 hold
GATAAG and CACGTG somewhere, those of class 0 one of them, or both with their letters shuffled. A small convolutional
network learns the difference, and its margin is explained by the contributions of DeepLIFT against 10 references with
the same dinucleotides, by saturation mutagenesis, and by the gradient. Expect a test accuracy above 95 %, at least
95 % of the 12 highest positions on the planted motifs (15 % at random), and at them the motif's own letter to have the
highest hypothetical contribution in at least 90 %. Writes `genomics.png`, the logo of one sequence, and
`hypothetical.png`, what the other letters would contribute.

    python examples/genomics.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax

import jaxplain
from jaxplain import genomics, plot, train

LENGTH, MOTIFS = 80, ("GATAAG", "CACGTG")
LETTERS = {letter: number for number, letter in enumerate("ACGT")}
CHAIN = np.array([[4, 2, 3, 2], [3, 3, 1, 3], [3, 3, 3, 2], [2, 2, 3, 4]])  # CG is rare


class Network(nn.Module):
    """Motif detectors, where they respond most, and a dense layer that combines them."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Sequences `[B, L, 4]` to logits."""
        x = nn.relu(nn.Conv(32, (8,))(x))
        x = nn.max_pool(x, (8,), (8,)).max(axis=1)
        return nn.Dense(2)(nn.relu(nn.Dense(32)(x)))


def sequences(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One-hot sequences `[N, L, 4]`, classes, and True where a motif is planted, `[N, L]`."""
    random = np.random.default_rng(seed)
    letters, truth = np.zeros((count, LENGTH), int), np.zeros((count, LENGTH), bool)
    steps = np.cumsum(CHAIN / CHAIN.sum(axis=1, keepdims=True), axis=1)
    for place in range(1, LENGTH):
        letters[:, place] = (random.random((count, 1)) > steps[letters[:, place - 1]]).sum(axis=1)
    labels = random.integers(0, 2, count)
    for n in range(count):
        places = random.integers(0, LENGTH // 2 - 6), random.integers(LENGTH // 2, LENGTH - 6)
        motifs = [[LETTERS[letter] for letter in MOTIFS[k]] for k in random.permutation(2)]
        alone = random.integers(0, 3)  # of class 0: which motif keeps its letters' order, or neither
        for k, (place, motif) in enumerate(zip(places, motifs, strict=True)):
            kept = labels[n] == 1 or alone == k
            letters[n, place : place + 6] = motif if kept else random.permutation(motif)
            truth[n, place : place + 6] = kept
    return np.eye(4, dtype=np.float32)[letters], labels, truth


def main() -> None:
    parser = argparse.ArgumentParser(description="Which letters of a sequence decided?")
    parser.add_argument("--quick", action="store_true", help="fewer sequences and epochs")
    parser.add_argument("--output", type=Path, default=Path("genomics"), help="where the figure goes")
    arguments = parser.parse_args()
    x, labels, _ = sequences(0, 3000 if arguments.quick else 12000)
    test, test_labels, truth = sequences(1, 400 if arguments.quick else 1000)
    module, epochs = Network(), 12 if arguments.quick else 20
    params = module.init(jax.random.key(2), x[:1])
    settings = {"key": jax.random.key(3), "optimizer": optax.adam(3e-3), "epochs": epochs}
    params = train.fit(module.apply, params, (x, labels), **settings).params
    predicted = np.asarray(train.predict(module.apply, params, test)).argmax(1)
    print(f"test accuracy: {np.mean(predicted == test_labels):.1%} (above 95 %)")

    chosen = np.flatnonzero((test_labels == 1) & (predicted == 1))[:50]
    x, truth, f = test[chosen], truth[chosen], jaxplain.margin(module.apply, params)
    e = genomics.hypothetical_contributions(f, samples=10)
    hypothetical = np.asarray(jaxplain.explain_batch(e, x, 1, key=jax.random.key(4)))
    changes = np.asarray(jaxplain.explain_batch(genomics.saturation_mutagenesis(f), x, 1))
    slopes = np.asarray(jaxplain.explain_batch(jaxplain.input_x_gradient(f), x, 1))
    maps = {
        "DeepLIFT, shuffled references": (x * hypothetical).sum(axis=2),
        "saturation mutagenesis": -changes.mean(axis=2),
        "input times gradient": slopes.sum(axis=2),
        "random": np.random.default_rng(5).normal(size=truth.shape),
    }
    for name, importance in maps.items():
        share = np.take_along_axis(truth, np.argsort(-importance, axis=1)[:, :12], axis=1).mean()
        print(f"12 highest positions on the motifs, {name}: {share:.1%}")
    wanted = (hypothetical.argmax(axis=2) == x.argmax(axis=2))[truth].mean()
    print(f"the motif's letter has the highest hypothetical contribution: {wanted:.1%} (at least 90 %)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    figure = plot.logo(hypothetical[0], x[0], units=f, title="What each letter contributes to the margin of class 1")
    figure.savefig(arguments.output / "genomics.png", dpi=150)
    plot.logo(hypothetical[0], units=f).savefig(arguments.output / "hypothetical.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
