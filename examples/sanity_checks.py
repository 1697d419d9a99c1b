"""Sanity checks for saliency maps: which methods notice that the model has been replaced by a random one.

Trains five small networks on digits and replaces their layers by freshly initialised ones, from the head down. A map
that explains the model has to change; guided backpropagation hardly does, since it draws the edges of the input.

Expect of MNIST (97.1 % accuracy), once all but the first convolution is random, rank correlations of 0.25 +- 0.09 for
the gradient (absolute values), 0.00 +- 0.08 for Grad-CAM (signed) and 0.54 +- 0.05 for guided backpropagation, and SSIM
of 0.11 +- 0.02, 0.22 +- 0.07 and 0.44 +- 0.02: the 95 % interval over five seeds of guided minus gradient excludes 0
for both, 0.30 [0.23, 0.36] and 0.33 [0.29, 0.36]. Of scikit-learn's digits (the default) the gap is wider.

    python examples/sanity_checks.py [--quick] [--output FOLDER] [--data FOLDER]    (--data: MNIST's IDX files)
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr, t

import jaxplain
from jaxplain import data, models, plot, train


def ssim(a: np.ndarray, b: np.ndarray, window: int = 5) -> float:
    """Structural similarity of two maps that are stretched to [0, 1] (Wang et al. 2004, equation 13)."""
    a, b = ((v - v.min()) / (np.ptp(v) or 1) for v in (a, b))
    mean_a, mean_b = (uniform_filter(v, window) for v in (a, b))
    var_a, var_b = (uniform_filter(v * v, window) - m * m for v, m in ((a, mean_a), (b, mean_b)))
    covariance = uniform_filter(a * b, window) - mean_a * mean_b
    above = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    return float(np.mean(above / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))))


METHODS = {
    "gradient": jaxplain.gradient,
    "Grad-CAM": lambda f: jaxplain.grad_cam(f, "conv_1", relu=False),
    "guided": jaxplain.guided_backprop,
}
MEASURES = {"rank correlation": lambda a, b: spearmanr(a, b, axis=None).statistic, "SSIM": ssim}
CASCADE, SEEDS = ("head", "dense", "conv_1", "conv_0"), 5


def maps(apply: Any, params: Any, x: Any, labels: Any) -> dict[str, np.ndarray]:
    """Each method's maps `[B, H, W]`: gradients by size, since their sign hangs on the input's; a CAM with its sign."""
    f = jaxplain.logit(apply, params)
    found = {name: np.asarray(jaxplain.explain_batch(method(f), x, labels)) for name, method in METHODS.items()}
    return {name: value if value.ndim == 3 else np.abs(value).sum(-1) for name, value in found.items()}


def similarities(seed: int, splits: Any, epochs: int, count: int) -> tuple[np.ndarray, float]:
    """[method, depth of the cascade, measure], and the test accuracy."""
    module = models.cnn(10, widths=(16, 32), dense=64)
    x, labels = jnp.asarray(splits.test.inputs[:count]), splits.test.targets[:count]
    fresh = [module.init(jax.random.key(100 * seed + place), x[:1]) for place in range(2)]
    settings = {"key": jax.random.key(seed), "optimizer": optax.adam(1e-3), "epochs": epochs, "progress": False}
    fitted = train.fit(module.apply, fresh[0], splits.train, **settings)
    accuracy = train.assess(module.apply, fitted.params, splits.test)[1]
    params, rows = dict(fitted.params["params"]), []
    before = maps(module.apply, fitted.params, x, labels)
    for layer in CASCADE:
        params[layer] = fresh[1]["params"][layer]
        after = maps(module.apply, {"params": params}, x, labels)
        rows.append([[np.mean([*map(m, before[n], after[n])]) for m in MEASURES.values()] for n in METHODS])
    return np.array(rows).transpose(1, 0, 2), accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description="Which maps notice that the model has become random.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and examples")
    parser.add_argument("--output", type=Path, default=Path("sanity_checks"), help="where the figures go")
    parser.add_argument("--data", type=Path, help="a folder with MNIST's test files; by default scikit-learn's digits")
    arguments = parser.parse_args()
    splits = data.load_idx_folder(arguments.data, test=0.2) if arguments.data else data.digits()
    epochs, count = (2, 64) if arguments.data else (4, 24) if arguments.quick else (15, 100)
    runs = [similarities(seed, splits, epochs, count) for seed in range(SEEDS)]
    table, accuracies = map(np.stack, zip(*runs, strict=True))  # [seed, method, depth, measure] and [seed]
    print(f"test accuracy {accuracies.mean():.1%}; random down to {', '.join(CASCADE)}:")
    half = t.ppf(0.975, SEEDS - 1) * table.std(0, ddof=1) / np.sqrt(SEEDS)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for place, measure in enumerate(MEASURES):
        for row, name in enumerate(METHODS):
            cells = zip(table.mean(0)[row, :, place], half[row, :, place], strict=True)
            print(f"{measure:17s}{name:10s}" + "".join(f"{mean:8.2f} +- {width:.2f}" for mean, width in cells))
        values = dict(zip(METHODS, table[..., place].swapaxes(0, 1), strict=True))
        figure = plot.curves(values, control=(), x=range(1, 5), xlabel="made random down to", ylabel=measure)
        figure.axes[0].set_xticks(range(1, 5), CASCADE)
        figure.savefig(arguments.output / f"{measure.lower().replace(' ', '_')}.png", dpi=150)
        gap = values["guided"][:, 2] - values["gradient"][:, 2]  # all but the first convolution
        low, high = gap.mean() + np.array([-1, 1]) * t.ppf(0.975, SEEDS - 1) * gap.std(ddof=1) / np.sqrt(SEEDS)
        print(f"{measure}: guided minus gradient {gap.mean():.2f} [{low:.2f}, {high:.2f}], above 0: {low > 0}")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
