"""A watermark on one class: attributions cluster by it, a concept test confirms it, training without it removes it.

Three of four training 3s carry a mark in a corner, so that a network learns to answer 3 where the mark is. Spectral
clusters of the attributions of the 3s (SpRAy) show it as a strategy of its own, the mark tested as a concept raises the
logit of 3, and where its pixels are blanked in training and after, digits with a mark are answered as those without.

Expect: the cluster holds the marked 3s with a purity above .95; the concept's p is at most .01; the share of marked
test digits that are wrongly called 3 falls from more than a quarter to below .05.

    python examples/clever_hans.py [--quick] [--output FOLDER]

Source: Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn".
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import concept, data, keep_programs, report, train

TARGET = 3


def network(params, x):
    with jax.named_scope("hidden"):
        h = jax.nn.relu(x.reshape(len(x), -1) @ params["a"])
    return h @ params["b"]


def start(key):
    sizes = {"a": (64, 64), "b": (64, 10)}
    return {n: jax.random.normal(jax.random.fold_in(key, i), s) / s[0] ** 0.5 for i, (n, s) in enumerate(sizes.items())}


def mark(images):
    marked = np.array(images)
    marked[:, :2, :3] = 1.0
    return marked


def blank(images):
    return np.asarray(images) * (mark(np.zeros_like(images)) == 0)


def wrong(params, images, labels):
    """The share of the others than 3s that are called 3."""
    answers = np.asarray(network(params, jnp.asarray(images[labels != TARGET]))).argmax(1)
    return float((answers == TARGET).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Clusters of attributions unmask a watermark.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and random concepts")
    parser.add_argument("--output", type=Path, default=Path("clever_hans"), help="where the page goes")
    arguments = parser.parse_args()
    splits = data.digits()
    images, labels, test = splits.train.inputs, splits.train.targets, splits.test
    threes = np.flatnonzero(labels == TARGET)
    carries = np.isin(np.arange(len(images)), np.delete(threes, np.s_[::4]))
    given = np.where(carries[:, None, None, None], mark(images), images)
    settings = {"key": jax.random.key(1), "epochs": 20 if arguments.quick else 60, "optimizer": optax.adam(3e-3)}
    trained = train.fit(network, start(jax.random.key(0)), (given, labels), **settings).params
    f = jaxplain.logit(network, trained)
    maps = jaxplain.explain_batch(jaxplain.integrated_gradients(f), given[threes], TARGET)
    clusters = concept.spray(maps, key=jax.random.key(2))
    suspect = int(clusters.labels[carries[threes]][0])
    mine = clusters.labels == suspect
    purity = max((carries[threes] == mine).mean(), (carries[threes] != mine).mean())
    print(clusters)
    body, head = jaxplain.split(f, "hidden")
    values = jax.jit(jax.vmap(lambda x: body(x, TARGET)))
    examples = np.concatenate([mark(test.inputs[:40]), test.inputs[:40], images[~carries][:800]])
    rows = np.zeros(len(examples), int)
    rows[:40], rows[40:80] = 1, -1
    found = concept.concept_vectors(values(examples), {"mark": rows}, how="mean")
    asked, pool = test.inputs[40:240], np.arange(len(examples)) >= 80
    given_key = {"key": jax.random.key(3), "pool": pool, "samples": 999 if arguments.quick else 9999}
    result = concept.tcav(head, found, values(asked), asked, TARGET, **given_key)
    print(result)
    mended = train.fit(network, start(jax.random.key(0)), (blank(given), labels), **settings).params
    before, after = wrong(trained, mark(test.inputs), test.targets), wrong(mended, blank(test.inputs), test.targets)
    print(f"other digits with a mark that are called 3: {before:.2f}, trained without it {after:.2f}")
    print(f"the marked digits are a cluster, purity {purity:.2f}: {bool(purity >= 0.95)}")
    print(f"the concept test confirms it: {bool(result.corrected[0] <= 0.01 and result.means[0] > 0)}")
    print(f"training without it removes it: {before > 0.25 and after < 0.05}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    sections = [report.clusters_section(clusters, given[threes]), report.concept_section(result)]
    print(report.report(arguments.output / "clever_hans.html", sections, title="A network that reads a watermark"))


if __name__ == "__main__":
    keep_programs()
    main()
