"""The main job, end to end: train a CNN on real digits, explain every test image, check the explanations, look at them.

Trains on scikit-learn's 1,797 handwritten digits (or on a folder of IDX files, MNIST's format), explains the whole test
split with three methods, scores them beside a random control, and writes figures and one HTML page. Expect an accuracy
of at least 97 % (digits, and MNIST's 10,000-image file divided 8,000 / 2,000); integrated gradients that add up to the
score's difference within 1e-3 or say that they do not; and deletion and insertion of integrated gradients and
SmoothGrad better than random (the 95 % bootstrap interval of the paired difference excludes 0).

    python examples/quickstart.py [--quick] [--data IDX_FOLDER] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import numpy as np
import optax

import jaxplain
from jaxplain import aggregate, data, evaluate, models, plot, report, train

KEY = jax.random.key(0)


def load(folder):
    """The digits, or the images of a folder (with a single part, its last fifth is the test set)."""
    test = None if folder and list(folder.glob("train*")) else 0.2
    return data.load_idx_folder(folder, test=test, validation=0.1) if folder else data.digits(validation=0.1)


def trained(splits, quick):
    """A CNN and the result of its training."""
    module = models.cnn(10, widths=(16, 32), dense=64, dropout=0.25)
    settings = {"validation": splits.validation, "optimizer": optax.adam(2e-3), "epochs": 12 if quick else 40}
    start = module.init(KEY, splits.train.inputs[:1])
    return module.apply, train.fit(module.apply, start, splits.train, key=KEY, patience=8, **settings)


def explained(e, x, labels):
    """All that is known of every image, and each class's mean attribution; image i draws from the key folded with i."""
    return jaxplain.explain_dataset(e, (x, labels), key=KEY, out="memory", aggregate=aggregate.moments(10))


def checked(f, methods, attributions, x, labels):
    """Scores of the three methods and of the random control."""
    steady = {**methods, "integrated gradients": jaxplain.integrated_gradients(f, steps=8)}
    steady["random"] = evaluate.random_attribution()
    metrics = {
        "deletion": evaluate.deletion(f, steps=32),
        "insertion": evaluate.insertion(f, steps=32),
        "completeness": evaluate.completeness(f, relative=True),
        "max sensitivity": {n: evaluate.max_sensitivity(e, radius=0.05, samples=4) for n, e in steady.items()},
    }
    return evaluate.score_table(attributions, metrics, x, labels, key=KEY)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, explain, check and look, on handwritten digits.")
    parser.add_argument("--quick", action="store_true", help="train for fewer epochs, explain 64 images")
    parser.add_argument("--data", type=Path, help="a folder of IDX files, such as MNIST's")
    parser.add_argument("--output", type=Path, default=Path("quickstart"), help="where the figures and the page go")
    (arguments := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    splits = load(arguments.data)
    apply, result = trained(splits, arguments.quick)
    test = splits.test.take(slice(64)) if arguments.quick else splits.test
    x, labels, names = test.inputs, test.targets, test.class_names
    accuracy, diagnosis = train.assess(apply, result.params, splits.test)[1], train.diagnose(result.history)
    print(f"test accuracy: {accuracy:.1%}\n{diagnosis}")
    f = jaxplain.logit(apply, result.params)
    methods = {
        "saliency": jaxplain.saliency(f),
        "integrated gradients": jaxplain.integrated_gradients_with_gap(f, steps=16, tolerance=1e-3),
        "smoothgrad": jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=16),
    }
    found = {name: explained(e, x, labels) for name, e in methods.items()}
    attributions = {name: explanations["attribution"] for name, (explanations, _) in found.items()}
    careful, by_class = found["integrated gradients"]
    print(f"integrated gradients: relative gap below 1e-3 for {careful['reached'].mean():.1%} of {len(x)} images;")
    print("  gradients used (50th, 90th, 100th percentile):", np.percentile(careful["steps"], [50, 90, 100]))
    table = checked(f, methods, attributions, x, labels)
    classes, first = np.unique(labels, return_index=True)
    means = {"mean attribution": by_class.mean[classes]}
    figures = {
        "Learning curves": plot.learning_curves(result.history, diagnosis),
        "Attributions": plot.heatmaps(x, attributions, labels, names=names, limit=6),
        "Classes": plot.heatmaps(x[first], means, classes, names=names, limit=10),
        "Scores": plot.scores_table(table),
    }
    for name, figure in figures.items():
        figure.savefig(arguments.output / f"{name.lower().replace(' ', '_')}.png", dpi=150)
    facts = {"images explained": len(x), "test accuracy": f"{accuracy:.1%}", "diagnosis": str(diagnosis)}
    known = {"predicted": careful["prediction"], "scores": careful["score"], "gaps": careful["gap"], "names": names}
    sections = [*figures.items(), report.examples_section(x, attributions, labels, **known)]
    page = report.report(arguments.output / "report.html", sections, title="Quickstart", facts=facts)
    print(f"{table}\nreport: {page}")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
