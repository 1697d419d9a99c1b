"""A closer look at the quickstart's network: what is in it, where it errs, and how many steps its explanations need.

Trains the quickstart's network and draws its layers, parameters, first filters and activations, its confusion matrix
and the images that it is least sure of, and for each class the image that it responds to most. Expect the completeness
gap of integrated gradients to fall about as one over the steps, as on any network of ReLUs: relative to the score's
difference from about 5e-3 (median) with 16 steps to 1e-4 with 1,024; and ten images of which each has its own class.

    python examples/closer_look.py [--quick] [--data IDX_FOLDER] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from quickstart import KEY, explained, load, trained

import jaxplain
from jaxplain import plot, report, train

CAPTIONS = {
    "What each class responds to most": "Not digits, though the network calls each of them its class with certainty: "
    "it was trained on clean digits and uses strokes where they tell classes apart, wherever they lie. Networks "
    "trained under noise have to look at whole digits, and show them: `feature_visualization.py`."
}


def gaps(f, x, labels):
    """The largest and the median gap with a fixed number of steps, relative to the score's difference."""
    for steps in (16, 64, 256, 1024):
        found, _ = explained(jaxplain.integrated_gradients_with_gap(f, steps=steps), x, labels)
        relative = np.abs(found["gap"] / (found["score"] - found["baseline_score"]))
        print(f"  {steps:5d} steps: relative gap {np.median(relative):.1e} median, {relative.max():.1e} worst")
        yield np.median(relative)


def most_excited(f, shape):
    """For each class the image that its logit is highest for."""
    penalties = (jaxplain.regulariser.total_variation(2.0),)
    settings = {"transforms": (jaxplain.transform.jitter(1),), "regularisers": penalties}
    ascent = jaxplain.activation_maximization(f, image=jaxplain.image.pixels(shape), **settings)
    return jax.jit(jax.vmap(ascent, (None, 0)))(KEY, jnp.arange(10))


def main() -> None:
    parser = argparse.ArgumentParser(description="What is in the quickstart's network.")
    parser.add_argument("--quick", action="store_true", help="train for fewer epochs, look at 64 images")
    parser.add_argument("--data", type=Path, help="a folder of IDX files, such as MNIST's")
    parser.add_argument("--output", type=Path, default=Path("closer_look"), help="where the figures and the page go")
    arguments = parser.parse_args()
    splits = load(arguments.data)
    apply, result = trained(splits, arguments.quick)
    test = splits.test.take(slice(64)) if arguments.quick else splits.test
    x, labels, names = test.inputs, test.targets, test.class_names
    f = jaxplain.logit(apply, result.params)
    print("integrated gradients with a fixed number of steps:")
    medians = list(gaps(f, x[:64], labels[:64]))
    print(f"64 times the steps, less than a tenth of the gap: {bool(medians[-1] < medians[0] / 10)}")
    best = most_excited(f, x.shape[1:])
    own = train.predict(apply, result.params, best.image).argmax(1) == jnp.arange(10)
    print(f"each class's image is of its class: {bool(own.all())}")
    probabilities = jax.nn.softmax(train.predict(apply, result.params, x))
    unsure = np.argsort(jax.vmap(jaxplain.margin(apply, result.params))(x, labels))[:8]
    figures = {
        "Samples": plot.samples(x, labels, limit=16),
        "Layers": plot.layer_table(jaxplain.layers(f)(x[0], labels[0])),
        "Parameters": plot.parameter_histograms(result.params),
        "First-layer filters": plot.filters(result.params["params"]["conv_0"]["kernel"]),
        "Activations": plot.activations(jaxplain.capture(f, "conv_*")(x[0], labels[0])[1]),
        "Confusion matrix": plot.confusion_matrix(labels, probabilities.argmax(1), names=names),
        "Least sure": plot.predictions(x[unsure], probabilities[unsure], labels[unsure], names=names),
        "What each class responds to most": plot.activation_gallery(best.image, range(10), best.value),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.output / f"{name.lower().replace(' ', '_')}.png", dpi=150)
    sections = [(name, [CAPTIONS[name], figure] if name in CAPTIONS else figure) for name, figure in figures.items()]
    print("report:", report.report(arguments.output / "report.html", sections, title="A closer look"))


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
