"""Breast cancer: which measurements of cell nuclei make a small network call a tumour malignant.

Trains a perceptron on 30 standardised measurements of 569 tumours and explains the log-odds of "malignant" of every
test tumour with integrated gradients, from the mean tumour (0 after standardisation) to the tumour at hand. Three
figures say what the model looks at: `summary.png` (all tumours), `waterfall.png` (the one it is least sure of) and
`dependence.png` (the measurement that matters most). Expect a test accuracy of about 97 %, attributions that add up to
the log-odds' difference to better than 1e-4 of it, and deletion and insertion scores better than those of random
attributions (the 95 % bootstrap interval of the paired difference excludes 0).

    python examples/tabular.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, plot, report, train

MALIGNANT = 0


def main() -> None:
    parser = argparse.ArgumentParser(description="What a network looks at in a tumour's measurements.")
    parser.add_argument("--quick", action="store_true", help="train for fewer epochs")
    parser.add_argument("--output", type=Path, default=Path("tabular"), help="where the figures go")
    arguments = parser.parse_args()
    splits = data.breast_cancer(validation=0.1)
    names = splits.train.feature_names
    x, labels = jnp.asarray(splits.test.inputs), splits.test.targets

    module = models.mlp(2, widths=(32,), activation="gelu")
    params = module.init(jax.random.key(0), x[:1])
    result = train.fit(
        module.apply,
        params,
        splits.train,
        key=jax.random.key(1),
        optimizer=optax.adam(3e-3),
        epochs=10 if arguments.quick else 40,
        validation=splits.validation,
    )
    predicted = np.asarray(train.predict(module.apply, result.params, x)).argmax(1)
    diagnosis = train.diagnose(result.history)
    print(f"test accuracy: {np.mean(predicted == labels):.1%}\n{diagnosis}")

    f = jaxplain.margin(module.apply, result.params)  # of two classes: the log-odds of the first
    attributions = jaxplain.explain_batch(jaxplain.integrated_gradients(f, steps=32), x, MALIGNANT)
    scores = jax.vmap(f, (0, None))(x, MALIGNANT)
    baseline_score = f(jnp.zeros_like(x[0]), MALIGNANT)
    metrics = {
        "deletion": jaxplain.evaluate.deletion(f),
        "insertion": jaxplain.evaluate.insertion(f),
        "completeness gap": jaxplain.evaluate.completeness(f, relative=True),
    }
    found = {"integrated_gradients": attributions}
    table = jaxplain.evaluate.score_table(found, metrics, x, MALIGNANT, key=jax.random.key(2))
    gap = table.values[0, 2].max()
    print(f"{table}\ncompleteness: largest relative gap {gap:.1e} (below 1e-4: {gap < 1e-4})")
    print(f"deletion: {table.verdict('integrated_gradients', 'deletion')} than random")

    measured = splits.input_statistics.invert(splits.test.inputs)  # figures speak in the units of the file
    first, second = np.argsort(-np.abs(attributions).mean(0))[:2].tolist()
    one = int(np.abs(scores).argmin())
    figures = {
        "summary": plot.summary(measured, attributions, names=names),
        "waterfall": plot.waterfall(attributions[one], baseline_score, scores[one], values=measured[one], names=names),
        "dependence": plot.dependence(measured, attributions, first, names=names, colour_by=second),
        "learning_curves": plot.learning_curves(result.history, diagnosis),
        "scores": plot.scores_table(table),
        "confusion_matrix": plot.confusion_matrix(labels, predicted, names=splits.test.class_names),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.output / f"{name}.png", dpi=150)
    sections = [(name.replace("_", " ").capitalize(), figure) for name, figure in figures.items()]
    known = {"predicted": predicted, "scores": scores, "names": splits.test.class_names, "features": names}
    sections.append(report.examples_section(measured, found, labels, **known))
    print("report:", report.report(arguments.output / "report.html", sections, title="Breast cancer"))


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
