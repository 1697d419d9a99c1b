"""Which attribution foretells a retraining? The linear datamodeling score of several methods, from a seed.

Four recipes on scikit-learn's digits (1,024 training examples, 64-32-10 network, momentum 0.9, 20 epochs): tanh or
ReLU, batches of 128 or 32. Each is trained again without 1 % and without half of the examples, and each method's
predictions are ranked against what became of the margins of 50 queries.

Expect of tanh in batches of 128 (--quick too): the derivative through training 0.99 (worst query 0.97) at 1 %, 0.87 at
50 %; influence functions 0.8, EK-FAC 0.7, TracIn 0.4, the others less. Metasmoothness says where to expect less of all.

    python examples/datamodels.py [--quick] [--output FOLDER]    (3 minutes on two cores)

Source: Ilyas and Engstrom 2025, "MAGIC"; Park et al. 2023, "TRAK", section 4.
"""

import argparse
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from jaxplain import data, influence, keep_programs, plot, train


def network(params, x, activation):
    return activation(x.reshape(len(x), -1) @ params["a"] + params["c"][None]) @ params["b"] + params["d"][None]


NETWORKS = {name: functools.partial(network, activation=f) for name, f in (("tanh", jnp.tanh), ("ReLU", jax.nn.relu))}
OPTIMIZERS = {rate: optax.sgd(rate, momentum=0.9) for rate in (0.05, 0.1)}  # made once: recipes share what is compiled
SEEDS = [("ReLU", 128, 0.05, seed) for seed in (0, 1, 2)]  # the further ones are for the median of the first row
RECIPES = [("tanh", 128, 0.05, 0), ("tanh", 32, 0.05, 0), *SEEDS, ("ReLU", 32, 0.1, 0)]
kept = jax.jit(lambda run: run.trajectory())
ends_of = jax.jit(lambda run, keys: jax.lax.map(lambda k: run.replace("params", start(k)).replace("key", k)(), keys))


def start(key):
    a, b = (jax.random.normal(jax.random.fold_in(key, n), (n, m)) / n**0.5 for n, m in ((64, 32), (32, 10)))
    return {"a": a, "b": b, "c": jnp.zeros(32), "d": jnp.zeros(10)}


def methods(apply, run, examples, queries, asked, best, held):
    """Name to a function that attributes; `best` is the reported masks, for the best damping that there could be."""
    (last, epochs), key = kept(run.replace("every", run.steps // 10)), jax.random.key(5)
    given, ends = (apply, last.params, examples, queries), ends_of(run, jax.random.split(key, 10))
    one, settings = jax.tree.map(lambda a: a[:1], ends), {"key": key, "damping": 1e-2}
    return {
        "influence, best damping": lambda: influence.influence_function(*given, held_out=best),
        "influence, chosen damping": lambda: influence.influence_function(*given, held_out=held),
        "EK-FAC": lambda: influence.influence_function(*given, held_out=held, solver="ekfac"),
        "TRAK-1": lambda: influence.trak(apply, one, examples, asked, **settings),
        "TRAK-10": lambda: influence.trak(apply, ends, examples, asked, **settings),
        "TracIn": lambda: influence.tracin(apply, epochs, examples, queries),
        "gradient cosine": lambda: influence.gradient_similarity(*given, similarity="cosine"),
        "gradient dot": lambda: influence.gradient_similarity(*given),
        "random": lambda: jax.random.normal(key, (len(asked[1]), run.count)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The linear datamodeling score of several methods.")
    parser.add_argument("--quick", action="store_true", help="one recipe, fewer masks and queries")
    parser.add_argument("--output", type=Path, default=Path("datamodels"), help="where the figure goes")
    arguments = parser.parse_args()
    splits, table, scores = data.digits(), {}, {}
    examples = tuple(jnp.asarray(a[:1024]) for a in (splits.train.inputs, splits.train.targets))
    count, masks = (16, 30) if arguments.quick else (50, 100)
    asked = tuple(jnp.asarray(a[:count]) for a in (splits.test.inputs, splits.test.targets))
    for name, batch, rate, seed in RECIPES[:1] if arguments.quick else RECIPES:
        apply, title = NETWORKS[name], f"{name} B{batch}"
        settings = {"epochs": 20, "batch_size": batch, "optimizer": OPTIMIZERS[rate]}
        run = train.training_run(apply, start(jax.random.key(seed)), examples, key=jax.random.key(seed + 1), **settings)
        queries = influence.query_scores(apply, asked, influence.log_odds, higher_is_better=True)
        smooth = float(influence.metasmoothness(run, key=jax.random.key(3), samples=3))
        print(f"{title}, seed {seed}: metasmoothness {smooth:.3f}; without 1 %; without 50 %; seconds")
        sets = ((1, masks, 0.01), (2, masks, 0.5), (3, 30, 0.01))  # two are reported, the last chooses dampings
        draws = [influence.random_masks(jax.random.key(k), m, 1024, fraction=f) for k, m, f in sets]
        ends = jnp.split(influence.retrain(run, jnp.concatenate(draws), queries), [masks, 2 * masks])
        pairs = list(zip(draws, ends, strict=True))
        rows = {"unrolled": functools.partial(influence.unrolled, run, queries, masks=0)}
        rows |= {} if seed else methods(apply, run, examples, queries, asked, *pairs[::2])
        for method, attribute in rows.items():
            began, values, ended = time.perf_counter(), attribute(), time.perf_counter()
            few, half = (influence.linear_datamodeling_score(values, *pair, samples=100) for pair in pairs[:2])
            text = "; ".join(f"{s.mean:5.2f} [{s.low:.2f}, {s.high:.2f}], worst {s.worst:5.2f}" for s in (few, half))
            print(f"  {method:26s}{text}; {ended - began:4.1f} s", flush=True)
            scores.setdefault((title, method), []).append(round(few.mean, 3))
            table[f"{title}, seed {seed}: {method}"] = {"1 %": few.per_query, "50 %": half.per_query}
    first = {method: values[0] for (title, method), values in scores.items() if title == "tanh B128"}
    print("unrolled at 1 %, by seed:", {title: v for (title, method), v in scores.items() if method == "unrolled"})
    print(f"the derivative through training foretells best: {max(first, key=first.get) == 'unrolled'}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot.scores_table(table).savefig(arguments.output / "datamodels.png", dpi=120)


if __name__ == "__main__":
    keep_programs()
    main()
