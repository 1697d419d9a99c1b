"""ROAD: do "most relevant first" and "least relevant first" rank methods alike?

Digits blended with crops of two photographs (the absolute difference, as in MNIST-M), so that no value is a natural
background; the source's eight rankings of pixels (integrated gradients and guided backpropagation, each by itself,
smoothed, smoothed squared and as variance) and three more. Removing a good ranking's most relevant pixels first should
cost accuracy early, its least relevant ones first late: both orders judge the same rankings. Where removed pixels
become a fixed value (the mean colour, or black), the shape of what was removed shows; linear imputation hides it.

The consistency is Spearman's correlation between the two orders' rankings of methods by accuracy, averaged over the
shares removed; intervals are bootstrapped over 200 images. Expect imputation to be the more consistent: with MNIST's
digits 0.84 [0.74, 0.87] for the eight against 0.47 [0.37, 0.58] with the mean and 0.05 [-0.08, 0.17] with zeros; the
few small images of --quick do not show it.

    python examples/road_consistency.py [--quick] [--data FOLDER] [--output FOLDER]    (--data: MNIST's IDX files)

Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods"; Ganin et al. 2016.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_sample_image

import jaxplain
from jaxplain import data, models, plot, train

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
EIGHT = tuple(f"{base}{kind}" for base in ("IG", "guided") for kind in ("", ", smooth", ", squared", ", variance"))


class Correct(jaxplain.Function):
    """1 where the label has the largest logit, 0 elsewhere: the mean over examples is the accuracy."""

    margin: object

    def __call__(self, x, label):
        return 1.0 * (self.margin(x, label) > 0)


def on_photographs(part, seed):
    """Each digit as the difference from a crop of a photograph: `[N, H, W, 3]` in [0, 1]."""
    rng, zoom = np.random.default_rng(seed), 2
    photographs = [load_sample_image(name) / 255.0 for name in ("china.jpg", "flower.jpg")]
    images = np.asarray(part.inputs)
    if images.shape[1] < 16:
        images = images.repeat(2, 1).repeat(2, 2)
    side = images.shape[1]
    out = np.empty((*images.shape[:3], 3), np.float32)
    for index, image in enumerate(images):
        photograph = photographs[rng.integers(2)]
        row, column = (rng.integers(length - zoom * side) for length in photograph.shape[:2])
        crop = photograph[row : row + zoom * side, column : column + zoom * side]
        out[index] = np.abs(crop.reshape(side, zoom, side, zoom, 3).mean((1, 3)) - image)
    return dataclasses.replace(part, inputs=out)


def attributions(f, x, y, quick):
    """What eleven methods say (eight if quick), `[B, H, W, 3]` each."""
    noise = {"sigma": 0.1, "samples": 2 if quick else 16}
    methods = {"random": jaxplain.evaluate.random_attribution()}
    methods |= {"gradient": jaxplain.gradient(f), "input x gradient": jaxplain.input_x_gradient(f)}
    for base, e in (("IG", jaxplain.integrated_gradients(f, steps=8)), ("guided", jaxplain.guided_backprop(f))):
        methods[base] = e
        if base == "guided" or not quick:
            methods[f"{base}, smooth"] = jaxplain.smoothgrad(e, **noise)
            methods[f"{base}, squared"] = jaxplain.smoothgrad_squared(e, **noise)
            methods[f"{base}, variance"] = jaxplain.vargrad(e, **noise)
    return {name: jaxplain.explain_batch(e, x, y, key=jax.random.key(4)) for name, e in methods.items()}


def consistency(by_order, names, rows):
    """The orders' agreement on all examples (first) and on each of the bootstrap's draws, `[draws, shares]`."""
    first, last = (jnp.stack([by_order[order][name] for name in names]) for order in ("morf", "lerf"))

    def agreement(draw):
        morf, lerf = (scores[:, draw].mean(1).T for scores in (first, last))
        return jax.vmap(jaxplain.evaluate.spearman)(-morf, lerf)  # NaN at a share at which all methods tie

    return np.asarray(jax.lax.map(agreement, rows))


def interval(draws):
    return "{:.2f} [{:.2f}, {:.2f}]".format(draws[0], *np.percentile(draws[1:], [2.5, 97.5]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Consistency of removal orders with and without imputation.")
    parser.add_argument("--quick", action="store_true", help="few epochs, images and samples; too few for the claim")
    parser.add_argument("--data", type=Path, help="a folder with MNIST's test files; by default scikit-learn's digits")
    parser.add_argument("--output", type=Path, default=Path("road_consistency"), help="where figures go")
    arguments = parser.parse_args()
    splits = data.load_idx_folder(arguments.data, test=2000) if arguments.data else data.digits()
    training, test = on_photographs(splits.train, 0), on_photographs(splits.test, 1)
    count, epochs = (24, 5) if arguments.quick else (200, 6 if arguments.data else 40)
    x, y = jnp.asarray(test.inputs[:count]), jnp.asarray(test.targets[:count])
    module = models.cnn(10, widths=(16, 32), dense=64)
    settings = {"key": jax.random.key(3), "optimizer": optax.adam(2e-3), "epochs": epochs, "progress": False}
    fitted = train.fit(module.apply, module.init(jax.random.key(2), x[:1]), training, **settings)
    outputs = np.asarray(train.predict(module.apply, fitted.params, test.inputs))
    print(f"test accuracy {np.mean(outputs.argmax(1) == test.targets):.1%}")

    found = attributions(jaxplain.logit(module.apply, fitted.params), x, y, arguments.quick)
    correct = Correct(jaxplain.margin(module.apply, fitted.params))
    removals = {"imputed": None, "zeros": 0.0}
    if not arguments.quick:
        removals["mean colour"] = jnp.broadcast_to(training.inputs.mean((0, 1, 2)), x.shape[1:])
    arguments.output.mkdir(parents=True, exist_ok=True)
    scores, fractions = {}, FRACTIONS[1::3] if arguments.quick else FRACTIONS
    for removal, baseline in removals.items():
        scores[removal] = {}
        for order in ("morf", "lerf"):
            m = jaxplain.evaluate.road_curve(correct, fractions=fractions, order=order, baseline=baseline)
            curves = {
                n: jaxplain.evaluate.evaluate_batch(m, x, a, y, key=jax.random.key(5)).score for n, a in found.items()
            }
            scores[removal][order] = curves
        means = {name: float(curve.mean()) for name, curve in scores[removal]["morf"].items()}
        better = [mean < means["random"] for name, mean in means.items() if name != "random"]
        claim = f": {all(better)}" if removal == "imputed" else f" for {sum(better)} of {len(better)} methods"
        print(f"{removal}: accuracy falls faster than where pixels are removed at random{claim}")

    rows = jnp.asarray(np.vstack([np.arange(count), np.random.default_rng(0).integers(count, size=(500, count))]))
    for names in (tuple(found),) if arguments.quick else (EIGHT, tuple(found)):
        shares = {removal: consistency(by_order, names, rows) for removal, by_order in scores.items()}
        values = {removal: np.nanmean(agreement, axis=1) for removal, agreement in shares.items()}
        lines = {f"{removal}, {len(names)} rankings": agreement[0] for removal, agreement in shares.items()}
        figure = plot.curves(lines, x=fractions, control=(), xlabel="share removed", ylabel="consistency")
        figure.savefig(arguments.output / f"consistency_{len(names)}.png", dpi=150)
        print(f"consistency of {len(names)} rankings: " + ", ".join(f"{k} {interval(v)}" for k, v in values.items()))
        for fixed in tuple(values)[1:]:
            gap = values["imputed"] - values[fixed]
            claim = f", above 0: {np.percentile(gap[1:], 2.5) > 0}" if names == EIGHT and arguments.data else ""
            print(f"  imputed minus {fixed}: {interval(gap)}{claim}")


if __name__ == "__main__":
    main()
