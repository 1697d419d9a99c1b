"""The linear datamodeling score on MNIST: 5,000 training examples, subsets of one half, every method on the same masks.

The recipes of dattri's benchmark: multinomial regression (SGD 0.01, 20 epochs of batches of 64) and a network of
784-128-64-10 ReLU units (SGD 0.01, momentum 0.9, 50 epochs). All that is drawn comes from one seed. The regression
takes a minute on a CPU, the network six with 50 queries; all 500 queries are for an accelerator. Where dattri is
installed, its products, TracIn and explicit influence of the regression are computed from the same weights, too.

    python bench/datamodels.py FOLDER [--model regression|network] [--queries 50] [--masks 50] [--quick]

FOLDER holds MNIST's IDX files (of the two pairs, either serves).

Measured on two cores with jax 0.10.2 (the 10,000-image files, 50 queries; the score over 50 % subsets): the
regression, 20 subsets: gradient dot 0.56, TracIn 0.58. dattri 0.3.0 has the same scores: its values are equal to 3.3e-7
and 3.1e-7 of the largest, those of its explicit influence (of 300 examples) to 3.9e-7. The network, 50 subsets,
metasmoothness -0.12 (ReLU, 3,950 steps): EK-FAC 0.52, Arnoldi 0.32, unrolled 0.31, TRAK-1 0.30, TracIn 0.22, gradient
dot 0.21, cosine 0.10, random -0.04: where training is not smooth, the exact derivative is not the best prediction.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.harness import installed
from jaxplain import data, influence, train

SIZES = {"regression": (784, 10), "network": (784, 128, 64, 10)}
RECIPES = {
    "regression": {"epochs": 20, "optimizer": optax.sgd(0.01)},
    "network": {"epochs": 50, "optimizer": optax.sgd(0.01, momentum=0.9)},
}


def apply(params: Any, x: Any) -> Any:
    hidden = x.reshape(len(x), -1)
    for index, layer in enumerate(params):
        hidden = hidden @ layer["w"] + layer["b"][None]
        hidden = jax.nn.relu(hidden) if index + 1 < len(params) else hidden
    return hidden


def start(key: Any, sizes: tuple[int, ...]) -> Any:
    keys, pairs = jax.random.split(key, len(sizes)), list(itertools.pairwise(sizes))
    return [
        {"w": jax.random.uniform(k, pair, minval=-1, maxval=1) / pair[0] ** 0.5, "b": jnp.zeros(pair[1])}
        for k, pair in zip(keys, pairs, strict=False)
    ]


def methods(run: Any, asked: Any, held: Any) -> dict[str, Any]:
    params, key = run(), jax.random.key(5)
    examples = (run.data.inputs[0], run.data.targets)
    queries = influence.query_scores(apply, asked, influence.log_odds, higher_is_better=True)
    epochs = jax.jit(lambda run: run.trajectory()[1])(run.replace("every", run.steps // 5))
    one, given = jax.tree.map(lambda a: a[None], params), (apply, params, examples, queries)
    return {
        "unrolled": lambda: influence.unrolled(run, queries, masks=0),
        "EK-FAC, chosen damping": lambda: influence.influence_function(*given, solver="ekfac", held_out=held),
        "Arnoldi, chosen damping": lambda: influence.influence_function(
            *given, solver="arnoldi", steps=100, held_out=held, batch_size=500
        ),
        "TRAK-1": lambda: influence.trak(apply, one, examples, asked, key=key, damping=1e-2, batch_size=500),
        "TracIn": lambda: influence.tracin(apply, epochs, examples, queries, batch_size=500),
        "gradient cosine": lambda: influence.gradient_similarity(*given, similarity="cosine", batch_size=500),
        "gradient dot": lambda: influence.gradient_similarity(*given, batch_size=500),
        "random": lambda: jax.random.normal(key, (len(asked[1]), run.count)),
    }


def compare_with_dattri(run: Any, asked: Any, masks: Any, scores: Any) -> None:
    """Equal to dattri on the same weights and masks: gradient dot, TracIn, and explicit influence of 300 examples."""
    from bench import influence_peers

    data, params = (run.data.inputs[0], run.data.targets), run()
    queries = influence.query_scores(apply, asked, influence.log_odds, higher_is_better=True)
    kept = jax.jit(lambda run: run.trajectory()[1])(run.replace("every", run.steps // 5))
    count = len(jax.tree.leaves(kept)[0])
    each = [jax.tree.map(lambda leaf, index=index: leaf[index], kept) for index in range(count)]
    few, rates = jax.tree.map(lambda a: a[:300], data), [1 / (1 + index) for index in range(count)]
    settings = {"curvature": "hessian", "damping": 30.0}
    ours = {
        "gradient dot": influence.gradient_similarity(apply, params, data, queries),
        "TracIn": influence.tracin(apply, kept, data, queries, learning_rates=jnp.array(rates)),
        "explicit": influence.influence_function(apply, params, few, queries, **settings),
    }

    def layers(params: Any) -> list[tuple[Any, Any]]:
        return [(layer["w"], layer["b"]) for layer in params]

    given = ("ReLU", data, asked)
    theirs = {
        "gradient dot": influence_peers.dattri_tracin([layers(params)], *given, [1.0], True),
        "TracIn": influence_peers.dattri_tracin([layers(p) for p in each], *given, rates, True),
        "explicit": influence_peers.dattri_explicit(layers(params), "ReLU", few, asked, 30.0, True),
    }
    for name, compute in theirs.items():
        began = time.perf_counter()
        right, values = compute(), np.asarray(ours[name].values)
        took, apart = time.perf_counter() - began, float(np.abs(right - values).max() / np.abs(right).max())
        text = f"dattri's {name}: {apart:.1e} of the largest value apart; {took:.1f} s"
        if name != "explicit":
            both = [influence.linear_datamodeling_score(v, masks, scores, samples=5).mean for v in (values, right)]
            text += f"; scores {both[0]:.3f} and {both[1]:.3f}"
        print(text, flush=True)
        assert apart < 1e-4, name


def main() -> None:
    parser = argparse.ArgumentParser(description="The linear datamodeling score of every method on MNIST.")
    parser.add_argument("folder", type=pathlib.Path, help="MNIST's IDX files")
    parser.add_argument("--model", choices=SIZES, default="regression")
    parser.add_argument("--queries", type=int, help="at most 500: all on an accelerator, 50 on a CPU")
    parser.add_argument("--masks", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="500 examples, 2 epochs, 5 queries: a check of the script")
    parser.add_argument("--only", nargs="+", default=[], help="names of methods; all by default")
    options = parser.parse_args()
    splits = data.load_idx_folder(options.folder, test=500)
    count, recipe = 500 if options.quick else 5000, RECIPES[options.model]
    x, y = (jnp.asarray(a[:count]) for a in (splits.train.inputs, splits.train.targets))
    number = options.queries or (5 if options.quick else 50 if jax.default_backend() == "cpu" else 500)
    asked = tuple(jnp.asarray(a[:number]) for a in (splits.test.inputs, splits.test.targets))
    initial = start(jax.random.key(0), SIZES[options.model])
    recipe |= {"epochs": 2} if options.quick else {}
    run = train.training_run(apply, initial, (x, y), key=jax.random.key(1), batch_size=64, **recipe)
    queries = influence.query_scores(apply, asked, influence.log_odds, higher_is_better=True)
    smooth = float(influence.metasmoothness(run, key=jax.random.key(2)))
    print(f"{options.model}: {run.steps} steps, metasmoothness {smooth:.3f}", flush=True)
    pairs = []
    for seed, count in ((3, 10 if options.quick else options.masks), (4, max(10, options.masks // 4))):
        masks, began = influence.random_masks(jax.random.key(seed), count, run.count), time.perf_counter()
        pairs.append((masks, jax.block_until_ready(influence.retrain(run, masks, queries))))
        print(f"{count} retrainings without half: {time.perf_counter() - began:.1f} s", flush=True)
    for name, attribute in methods(run, asked, pairs[1]).items():
        if options.only and name not in options.only:
            continue
        began = time.perf_counter()
        values = attribute()
        took = time.perf_counter() - began
        score = influence.linear_datamodeling_score(values, *pairs[0], samples=200)
        print(
            f"{name:26s}{score.mean:6.3f} [{score.low:.3f}, {score.high:.3f}], worst {score.worst:6.3f}; {took:.1f} s",
            flush=True,
        )
    if options.model == "regression" and installed("dattri"):
        compare_with_dattri(run, asked, *pairs[0])


if __name__ == "__main__":
    main()
