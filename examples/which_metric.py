"""Which metrics rank methods as the truth does?

An additive score of a table's features has attributions known in closed form. Nine explanations of it are ranked by
their accuracy (correlation with the true attribution) and by ten metrics that do not know the truth; controls take
part. Expect the metrics of faithfulness to rank as the truth does (Spearman's correlation of the rankings 0.97 to 1 for
deletion, insertion and the correlations, 0.85 for infidelity, 0.81 for completeness), whether features are removed to
zeros or to the mean, and metrics of complexity (0.46) and robustness (-0.28) not: the input itself is a very stable
explanation, and a sparse one can be wrong. `grid.csv` and `comparison.png` hold the whole grid.

    python examples/which_metric.py [--quick] [--output FOLDER]
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxplain
from jaxplain import data, plot


class Accuracy(jaxplain.Function):
    """Pearson's correlation with the true attribution."""

    score: object

    @property
    def better(self):
        return "higher"

    def __call__(self, x, attribution):
        return jaxplain.evaluate.pearson(attribution, self.score.attribution(x))


METHODS = {
    "integrated_gradients": partial(jaxplain.integrated_gradients, steps=32),
    "integrated, 2 steps": partial(jaxplain.integrated_gradients, steps=2),
    "integrated, from ones": partial(jaxplain.integrated_gradients, steps=32, baseline=1.0),
    "expected_gradients": partial(jaxplain.expected_gradients, samples=32),
    "input_x_gradient": jaxplain.input_x_gradient,
    "gradient": jaxplain.gradient,
    "saliency": jaxplain.saliency,
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.5, samples=16),
    "vargrad": lambda f: jaxplain.vargrad(jaxplain.gradient(f), sigma=0.5, samples=16),
}
METRICS = {
    "deletion": jaxplain.evaluate.deletion,
    "insertion": jaxplain.evaluate.insertion,
    "faithfulness_estimate": jaxplain.evaluate.faithfulness_estimate,
    "faithfulness_correlation": partial(jaxplain.evaluate.faithfulness_correlation, samples=64),
    "sensitivity_n": partial(jaxplain.evaluate.sensitivity_n, sizes=(1, 2, 4), samples=32),
    "infidelity": partial(jaxplain.evaluate.infidelity, perturbation="removal", shares=True, samples=64),
    "completeness": jaxplain.evaluate.completeness,
    "max_sensitivity": partial(jaxplain.evaluate.max_sensitivity, radius=0.05, samples=8),
    "sparseness": jaxplain.evaluate.sparseness,
    "entropy": jaxplain.evaluate.entropy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Which metrics rank methods as the truth does.")
    parser.add_argument("--quick", action="store_true", help="fewer examples")
    parser.add_argument("--output", type=Path, default=Path("which_metric"), help="where the figure and the grid go")
    arguments = parser.parse_args()
    synthetic = data.additive_tabular(jax.random.key(0), 1000)
    count = 32 if arguments.quick else 256
    x = jnp.asarray(synthetic.data.inputs[:count])

    metrics = {"accuracy": Accuracy(synthetic.score), **METRICS}
    table = jaxplain.evaluate.compare(synthetic.score, METHODS, metrics, (x,), jax.random.key(1), samples=500)
    print(table)
    agreement = dict(zip(table.metrics, table.rank_agreement[0], strict=True))
    print("\nagreement with the ranking by accuracy:")
    for metric, value in sorted(agreement.items(), key=lambda item: -item[1]):
        print(f"  {metric:36s} {value:6.2f}")
    faithful = [v for m, v in agreement.items() if "(zeros)" in m]
    others = [agreement[m] for m in ("max_sensitivity", "sparseness", "entropy")]
    print(f"metrics of faithfulness rank as the truth does, others do not: {min(faithful) > max(others)}")

    arguments.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.output / "grid.csv")
    plot.comparison(table).savefig(arguments.output / "comparison.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
