"""ROAD (Rong et al. 2022): remove the pixels that a method ranks highest; how fast does a network's accuracy fall?

Digits blended with crops of two photographs (the absolute difference, as in MNIST-M of Ganin et al. 2016), so that no
value is a natural background; the source's eight rankings of pixels (integrated gradients and guided backpropagation,
each by itself, smoothed, smoothed squared and as variance) and three more. Where removed pixels become a fixed value
(the mean colour, or black), the shape of what was removed shows; linear imputation hides it. Expect the accuracy under
imputation to fall faster for every method than where pixels are removed at random.

    python examples/road.py [--quick] [--data FOLDER] [--output FOLDER]    (--data: MNIST's IDX files)
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
from jaxplain import data, evaluate, models, plot, train


def on_photographs(part, seed):
    """Each digit as the difference from a crop of a photograph: `[N, H, W, 3]` in [0, 1]."""
    rng, photographs = np.random.default_rng(seed), [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    images = part.inputs if part.inputs.shape[1] >= 16 else part.inputs.repeat(2, 1).repeat(2, 2)
    side, crops = images.shape[1], []
    for _ in images:
        photograph = photographs[rng.integers(2)]
        row, column = (rng.integers(length - 2 * side) for length in photograph.shape[:2])
        crop = photograph[row : row + 2 * side, column : column + 2 * side] / 255.0
        crops.append(crop.reshape(side, 2, side, 2, 3).mean((1, 3)))
    return dataclasses.replace(part, inputs=np.abs(np.stack(crops) - images).astype(np.float32))


def attributions(f, x, y, quick):
    """What eleven methods say (eight if quick), `[B, H, W, 3]` each; 'random' is the first."""
    methods = {"random": evaluate.random_attribution(), "gradient": jaxplain.gradient(f)}
    methods["input x gradient"] = jaxplain.input_x_gradient(f)
    noisy = {"smooth": jaxplain.smoothgrad, "squared": jaxplain.smoothgrad_squared, "variance": jaxplain.vargrad}
    for base, e in {"IG": jaxplain.integrated_gradients(f, steps=8), "guided": jaxplain.guided_backprop(f)}.items():
        methods[base] = e
        kinds = {} if quick and base == "IG" else noisy
        methods |= {f"{base}, {n}": kind(e, sigma=0.1, samples=2 if quick else 16) for n, kind in kinds.items()}
    return {name: jaxplain.explain_batch(e, x, y, key=jax.random.key(4)) for name, e in methods.items()}


def accuracies(margin, found, x, y, **settings):
    """In both orders, for every method: 1 or 0 for each image and share removed, `[2, methods, B, shares]`."""
    correct = lambda x, label: 1.0 * (margin(x, label) > 0)  # noqa: E731
    metrics = [evaluate.road_curve(correct, order=order, **settings) for order in ("morf", "lerf")]
    curve = lambda m, a: evaluate.evaluate_batch(m, x, a, y, key=jax.random.key(5)).score  # noqa: E731
    return jnp.stack([jnp.stack([curve(m, a) for a in found.values()]) for m in metrics])


def judged(options):
    """Names of the methods, shares removed, and for each way of removal what `accuracies` says of them."""
    splits = data.load_idx_folder(options.data, test=2000) if options.data else data.digits()
    training, test = on_photographs(splits.train, 0), on_photographs(splits.test, 1)
    count, epochs = (24, 5) if options.quick else (200, 6 if options.data else 40)
    x, y, module = test.inputs[:count], test.targets[:count], models.cnn(10, widths=(16, 32), dense=64)
    settings = {"key": jax.random.key(3), "optimizer": optax.adam(2e-3), "epochs": epochs, "progress": False}
    params = train.fit(module.apply, module.init(jax.random.key(2), x[:1]), training, **settings).params
    print(f"test accuracy {train.assess(module.apply, params, test)[1]:.1%}")
    found = attributions(jaxplain.logit(module.apply, params), x, y, options.quick)
    removals = {"imputed": None, "zeros": 0.0, "mean colour": np.full_like(x[0], training.inputs.mean((0, 1, 2)))}
    fractions = tuple(tenths / 10 for tenths in (range(2, 10, 3) if options.quick else range(1, 10)))
    margin, scores = jaxplain.margin(module.apply, params), {}
    for removal in list(removals)[: 2 if options.quick else 3]:
        scores[removal] = accuracies(margin, found, x, y, baseline=removals[removal], fractions=fractions)
        random, *others = scores[removal][0].mean((1, 2))
        better = [bool(mean < random) for mean in others]
        claim = f": {all(better)}" if removal == "imputed" else f" for {sum(better)} of {len(better)} methods"
        print(f"{removal}: accuracy falls faster than where pixels are removed at random{claim}")
    return list(found), fractions, scores


def options(name):
    parser = argparse.ArgumentParser(description="Pixels removed in the order of their attribution.")
    parser.add_argument("--quick", action="store_true", help="few epochs, images and samples; too few for the claim")
    parser.add_argument("--data", type=Path, help="a folder with MNIST's test files; by default scikit-learn's digits")
    parser.add_argument("--output", type=Path, default=Path(name), help="where figures go")
    (given := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    return given


def main() -> None:
    names, fractions, scores = judged(given := options("road"))
    for removal, (first, _) in scores.items():
        lines = dict(zip(names, first.mean(1), strict=True))
        figure = plot.curves(lines, x=fractions, xlabel="share removed", ylabel="accuracy")
        figure.savefig(given.output / f"{removal.replace(' ', '_')}.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
