"""What a digits network's features mean: a planted concept is found significant, a random one is not.

Every 0 of the training digits carries a bar along its left edge, so that the network reads the bar. Concept vectors of
its hidden layer are fitted from digits with and without a bar, from curves (8 against 1) and from digits chosen by
chance, and tested on the logit of 0: by rank among random concepts put through the same pipeline, and by the published
t-test.

Expect: the bar raises the logit of 0, with a corrected p of .01 at most; the p of the random concept is above .05,
though the t-test calls it significant; the bar is told by its vector with an accuracy above .9 on held-out digits;
three quarters of the heat of the bar's presence lie on the bar.

    python examples/concepts.py [--quick] [--output FOLDER]

Source: Kim et al. 2018, "Interpretability beyond feature attribution" (TCAV).
"""

import argparse
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import concept, data, keep_programs, plot, report, train


def network(params, x):
    h = x.reshape(len(x), -1)
    with jax.named_scope("hidden"):
        h = jnp.tanh(h @ params["a"])
    return jax.nn.relu(h @ params["b"]) @ params["c"]


def start(key):
    sizes = {"a": (64, 48), "b": (48, 32), "c": (32, 10)}
    return {n: jax.random.normal(jax.random.fold_in(key, i), s) / s[0] ** 0.5 for i, (n, s) in enumerate(sizes.items())}


def with_bar(images):
    marked = np.array(images)
    marked[:, :, 0] = 1.0
    return marked


def main() -> None:
    parser = argparse.ArgumentParser(description="A planted concept is significant, a random one is not.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and random concepts")
    parser.add_argument("--output", type=Path, default=Path("concepts"), help="where figure and page go")
    arguments = parser.parse_args()
    splits = data.digits()
    images, labels = splits.train.inputs, splits.train.targets
    marked = np.where((labels == 0)[:, None, None, None], with_bar(images), images)
    settings = {"key": jax.random.key(1), "epochs": 15 if arguments.quick else 40, "optimizer": optax.adam(3e-3)}
    params = train.fit(network, start(jax.random.key(0)), (marked, labels), **settings).params
    f = jaxplain.logit(network, params)
    body, head = jaxplain.split(f, "hidden")
    values = jax.jit(jax.vmap(lambda x: body(x, 0)))

    # 40 digits with a bar and 40 without, 40 curves, 40 by chance, and 800 random digits that chance draws from.
    rest = splits.test.inputs
    rng = np.random.default_rng(0)
    random = images[rng.permutation(len(images))[:800]]
    eights, ones = (images[labels == digit][:40] for digit in (8, 1))
    examples = np.concatenate([with_bar(rest[:40]), rest[:40], eights, ones, random])
    concepts = {name: np.zeros(len(examples), int) for name in ("bar", "curves", "chance")}
    concepts["bar"][:40], concepts["bar"][40:80] = 1, -1
    concepts["curves"][80:120], concepts["curves"][120:160] = 1, -1
    concepts["chance"][160:200], concepts["chance"][200:240] = 1, -1
    pool = np.arange(len(examples)) >= 160
    found = concept.concept_vectors(values(examples), concepts)
    asked = rest[40:240]
    result = concept.tcav(
        head, found, values(asked), asked, 0, key=jax.random.key(2), pool=pool, samples=999 if arguments.quick else 9999
    )
    print(result)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says itself that it rejects too often
        published = concept.tcav_t_test(head, found, values(asked), asked, 0, key=jax.random.key(3), pool=pool)
    print("p of the published t-test:", dict(zip(found.names, np.round(published.p, 4).tolist(), strict=True)))

    seen = concept.concept_score(f, "hidden", found.vectors[0], bias=found.biases[0])
    maps = jaxplain.explain_batch(jaxplain.integrated_gradients(seen), with_bar(asked[:6]), 0)
    on_bar = float(np.abs(maps[:, :, 0]).sum() / np.abs(maps).sum())
    print(f"share of the heat of the bar's presence that lies on it: {on_bar:.2f} of an area of 0.12")
    print(f"the planted concept is found: {bool(result.corrected[0] <= 0.01 and result.means[0] > 0)}")
    print(f"the random one is not: {bool(result.p[2] > 0.05)}")
    print(f"the layer tells the bar on held-out digits: {bool(found.accuracy[0] > 0.9)}")
    print(f"the bar's presence lies on the bar: {on_bar > 0.3}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    figure = plot.heatmaps(with_bar(asked[:6]), maps)
    sections = [report.concept_section(result), report.Section("Where the bar is seen", figure)]
    print(report.report(arguments.output / "concepts.html", sections, title="Concepts of a digits network"))


if __name__ == "__main__":
    keep_programs()
    main()
