"""The main job, end to end: train a CNN on real digits, explain every test image, check the explanations, look at them.

Trains on scikit-learn's 1,797 handwritten digits (or on a folder of IDX files, MNIST's format), explains the whole test
split with three methods, scores them beside a random control, and writes figures and one HTML page. Expect an accuracy
of at least 97 % (digits, and MNIST's 10,000-image file divided 8,000 / 2,000); integrated gradients that add up to the
score's difference within 1e-3 or say that they do not; and deletion and insertion of integrated gradients and
SmoothGrad better than random (the 95 % bootstrap interval of the paired difference excludes 0).

    python examples/quickstart.py [--quick] [--data IDX_FOLDER] [--output FOLDER]
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import aggregate, data, models, plot, report, train

KEY = jax.random.key(0)


def load(folder: Path | None) -> Any:
    """The digits, or the images of a folder (with a single part, its last fifth is the test set)."""
    if folder is None:
        return data.digits(validation=0.1)
    single = not list(folder.glob("train*"))
    return data.load_idx_folder(folder, test=0.2 if single else None, validation=0.1)


def trained(splits: Any, quick: bool) -> tuple[Any, Any]:
    """A CNN and the result of its training."""
    module = models.cnn(10, widths=(16, 32), dense=64, dropout=0.25)
    params = module.init(KEY, splits.train.inputs[:1])
    settings = {"optimizer": optax.adam(2e-3), "epochs": 12 if quick else 40, "patience": 8}
    result = train.fit(module.apply, params, splits.train, key=KEY, validation=splits.validation, **settings)
    return functools.partial(module.apply, train=False), result


def in_batches(e: Any, x: np.ndarray, labels: np.ndarray, size: int = 256) -> Any:
    """Explain a dataset batch by batch; example i draws from the key folded with i, whatever the batches are."""
    rows = [slice(start, start + size) for start in range(0, len(x), size)]
    index = np.arange(len(x))
    parts = [jaxplain.explain_batch(e, x[r], labels[r], key=KEY, index=index[r]) for r in rows]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def show_gaps(f: Any, x: np.ndarray, labels: np.ndarray) -> None:
    """How the completeness gap falls with a fixed number of steps: about as 1/steps on a network of ReLUs."""
    scale = np.abs(jax.vmap(lambda x, k: f(x, k) - f(jnp.zeros_like(x), k))(x, labels))
    for steps in (16, 64, 256, 1024):
        found = in_batches(jaxplain.integrated_gradients_with_gap(f, steps=steps), x, labels)
        relative = np.abs(found.gap) / scale
        print(f"  {steps:5d} steps: relative gap {np.median(relative):.1e} median, {relative.max():.1e} worst")


def checked(f: Any, attributions: dict[str, Any], smooth: Any, x: np.ndarray, labels: np.ndarray) -> Any:
    """Scores of the three methods and of the random control."""
    steady = {"saliency": jaxplain.saliency(f), "smoothgrad": smooth, "random": jaxplain.evaluate.random_attribution()}
    steady["integrated gradients"] = jaxplain.integrated_gradients(f, steps=8)
    metrics: dict[str, Any] = {
        "deletion": jaxplain.evaluate.deletion(f, steps=32),
        "insertion": jaxplain.evaluate.insertion(f, steps=32),
        "completeness": jaxplain.evaluate.completeness(f, relative=True),
        "max sensitivity": {n: jaxplain.evaluate.max_sensitivity(e, radius=0.05, samples=4) for n, e in steady.items()},
    }
    return jaxplain.evaluate.score_table(attributions, metrics, x, labels, key=KEY)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, explain, check and look, on handwritten digits.")
    parser.add_argument("--quick", action="store_true", help="train for fewer epochs, explain 64 images")
    parser.add_argument("--data", type=Path, help="a folder of IDX files, such as MNIST's")
    parser.add_argument("--output", type=Path, default=Path("quickstart"), help="where the figures and the page go")
    arguments = parser.parse_args()
    splits = load(arguments.data)
    apply, result = trained(splits, arguments.quick)
    test = splits.test.take(slice(64)) if arguments.quick else splits.test
    x, labels, names = test.inputs, test.targets, test.class_names
    accuracy, diagnosis = train.assess(apply, result.params, splits.test)[1], train.diagnose(result.history)
    print(f"test accuracy: {accuracy:.1%}\n{diagnosis}")

    f = jaxplain.logit(apply, result.params)
    careful = in_batches(jaxplain.integrated_gradients_with_gap(f, steps=16, tolerance=1e-3), x, labels)
    smooth = jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=16)
    attributions = {
        "saliency": in_batches(jaxplain.saliency(f), x, labels),
        "integrated gradients": careful.attribution,
        "smoothgrad": in_batches(smooth, x, labels),
    }
    used = np.percentile(careful.steps, [50, 90, 100]).astype(int).tolist()
    print(f"integrated gradients: relative gap below 1e-3 for {careful.reached.mean():.1%} of {len(x)} images;")
    print(f"  gradients used (50th, 90th, 100th percentile): {used}; with a fixed number:")
    show_gaps(f, x[:64], labels[:64])
    table = checked(f, attributions, smooth, x, labels)
    print(table)

    margins = jax.vmap(jaxplain.margin(apply, result.params))(x, labels)
    batch = {"attribution": careful.attribution, "label": labels, "score": margins, "index": np.arange(len(x))}
    parts = aggregate.combine(classes=aggregate.moments(10), unsure=aggregate.top_k(8, largest=False))
    overall = aggregate.aggregate_batches(parts, [batch])
    unsure, one_each = overall["unsure"].indices, np.unique(labels, return_index=True)[1]
    means = {"mean attribution": overall["classes"].mean[labels[one_each]]}
    image = jaxplain.image.pixels(x.shape[1:])
    settings = {
        "transforms": (jaxplain.transform.jitter(1),),
        "regularisers": (jaxplain.regulariser.total_variation(2.0),),
    }
    ascent = jaxplain.activation_maximization(f, image=image, **settings)
    best = jax.jit(jax.vmap(ascent, (None, 0)))(KEY, jnp.arange(10))
    probabilities = jax.nn.softmax(train.predict(apply, result.params, x))
    figures = {
        "Samples": plot.samples(x, labels, limit=16),
        "Learning curves": plot.learning_curves(result.history, diagnosis),
        "Layers": plot.layer_table(jaxplain.layers(f)(x[0], labels[0])),
        "Parameters": plot.parameter_histograms(result.params),
        "First-layer filters": plot.filters(result.params["params"]["conv_0"]["kernel"]),
        "Activations": plot.activations(jaxplain.capture(f, "conv_*")(x[0], labels[0])[1]),
        "Confusion matrix": plot.confusion_matrix(labels, probabilities.argmax(1), names=names),
        "Least sure": plot.predictions(x[unsure], probabilities[unsure], labels[unsure], names=names),
        "Attributions": plot.heatmaps(x, attributions, labels, names=names, limit=6),
        "Classes": plot.heatmaps(x[one_each], means, labels[one_each], names=names, limit=10),
        "What each class responds to most": plot.activation_gallery(best.image, range(10), best.value),
        "Scores": plot.scores_table(table),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.output / f"{name.lower().replace(' ', '_')}.png", dpi=150)
    facts = {"images explained": len(x), "test accuracy": f"{accuracy:.1%}", "diagnosis": str(diagnosis)}
    page = report.report(arguments.output / "report.html", list(figures.items()), title="Quickstart", facts=facts)
    print("report:", page)


if __name__ == "__main__":
    main()
