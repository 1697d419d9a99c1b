"""Sparse autoencoders: a toy in superposition whose features are known, and a layer of a network of the digits.

Five features lie in two dimensions, as the vertices of a pentagon; a TopK autoencoder of five atoms sees their sums
alone. Then the 24 hidden units of a network of the digits are written with 64 features, trained on a stream of its
activations; they are spliced into the network, drawn, and followed to the logits.

Expect that the atoms of the best of the keys are the vertices (mean maximal cosine above .99; random atoms reach .80),
and that the network with the reconstruction in the layer's place keeps most of what the layer does to its loss.

    python examples/dictionary.py [--quick] [--output FOLDER]

Source: Elhage et al. 2022, "Toy models of superposition"; Bricken et al. 2023, "Towards monosemanticity".
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxplain
from jaxplain import concept, data, report, train


def superposition(quick):
    """The atoms of the best key beside the directions that made the activations."""
    angles = 2 * np.pi * np.arange(5) / 5
    truth = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    one, two = jax.random.split(jax.random.key(0))
    codes = jnp.where(jax.random.uniform(one, (8192, 5)) < 0.05, jax.random.uniform(two, (8192, 5)), 0)
    h = (codes @ truth)[jnp.any(codes > 0, axis=1)]  # where nothing is active there is nothing to explain
    settings = {"epochs": 60 if quick else 100, "batch_size": 64, "optimizer": optax.adam(1e-2)}
    runs = [concept.train_autoencoder(h, 5, concept.top_k(1), key=jax.random.key(n), **settings) for n in range(8)]
    best = min(runs, key=lambda run: float(run.history.loss[-1])).dictionary
    cosine = np.max(truth @ np.asarray(best.atoms).T, axis=1).mean()
    print(f"toy: mean maximal cosine of the best of 8 keys {cosine:.4f}; {concept.judge_dictionary(best, h)}")
    print(f"above .99: {bool(cosine > 0.99)}; over keys {concept.stability([r.dictionary for r in runs]):.2f}")
    figure = Figure((4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*np.asarray(h[:500]).T, s=4, color="lightgray")
    for rows, colour, width in ((truth, "tab:orange", 6), (best.atoms, "black", 1.5)):
        axes.plot(*np.stack([np.zeros((5, 2)), rows]).transpose(2, 0, 1), color=colour, linewidth=width)
    axes.set_aspect("equal")
    axes.set_title("features (orange), atoms (black)", fontsize=9)
    return figure


def apply(params, x):
    with jax.named_scope("hidden"):
        h = jax.nn.relu(x.reshape(len(x), -1) @ params["a"] + params["b"][None])
    return h @ params["c"] + params["d"][None]


def digits(quick):
    """A dictionary of the hidden layer: what it is worth, its features, and a circuit."""
    splits = data.digits()
    (x, y), (held, labels) = ((part.inputs, part.targets) for part in (splits.train, splits.test))
    a, c = (jax.random.normal(jax.random.key(n), s) / s[0] ** 0.5 for n, s in ((2, (64, 24)), (3, (24, 10))))
    params = {"a": a, "b": jnp.zeros(24), "c": c, "d": jnp.zeros(10)}
    settings = {"key": jax.random.key(4), "optimizer": optax.adam(3e-3), "epochs": 30, "progress": False}
    params = train.fit(apply, params, (x, y), **settings).params
    loss, image = jaxplain.loss(apply, params), jaxplain.image.pixels((8, 8, 1))
    batches = [(x[i : i + 128], y[i : i + 128]) for i in range(0, len(x), 128)]
    stream = concept.activation_stream(loss, "hidden", batches, batch_size=64, buffer=512)
    settings = {"epochs": 10 if quick else 60, "optimizer": optax.adam(3e-3)}
    settings["site"] = concept.layer_site(loss, "hidden", x[0], y[0])
    d = concept.train_autoencoder(stream, 64, concept.batch_top_k(6), key=jax.random.key(5), **settings).dictionary
    kept = concept.loss_recovered(loss, "hidden", d, held, labels)
    print(f"digits: {d}\nloss {kept.clean:.3f}, spliced {kept.spliced:.3f}, without the layer {kept.ablated:.3f}")
    body, head = jaxplain.split(lambda x: apply(params, x[None]), "hidden", batch_axis=0)
    h = jax.vmap(body)(held)
    logits = concept.logit_weights(d, head, h.mean(axis=0), held[0])
    often = np.argsort(-np.asarray(concept.judge_dictionary(d, h).density))[:6].tolist()
    made = {}
    for number in often:
        score = concept.feature_score(loss, "hidden", d, number, before=True)
        e = jaxplain.activation_maximization(score, image=image, steps=64)
        made[number] = np.asarray(e(jax.random.key(6), 0).image)
    print(concept.feature_circuit(jaxplain.logit(apply, params), {"hidden": d}, held[0], labels[0]))
    settings = {"features": often, "visualizations": made, "logits": logits}
    return report.dictionary_section(d, h, np.asarray(held), facts={"loss recovered": kept.recovered}, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description="Find features in superposition, and in a layer of a network.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--output", type=Path, default=Path("dictionary"), help="where the figures go")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    toy, found = superposition(options.quick), digits(options.quick)
    toy.savefig(options.output / "toy.png", dpi=120)
    found.content[1].savefig(options.output / "digits.png", dpi=120)
    report.report(options.output / "report.html", [("A toy in superposition", toy), found], title="Dictionaries")


if __name__ == "__main__":
    main()
