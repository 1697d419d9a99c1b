"""Parameter randomization: the order of methods depends on the similarity, and on ties in the background.

Trains five small networks on digits and makes their layers random from the head down, each drawn as before training.
The table says how alike explanations before and after are, averaged over layers, examples and networks: by the
structural similarity (SSIM) for which an order of methods was published, and by Spearman's correlation of signed and of
absolute values, on all pixels and on the digit's own ("ink"), without a background of tied zeros. As in the source, a
map is stretched from its percentiles 1 and 99 to [0, 1], windows are 5 wide, the better of it and its negative counts,
and SmoothGrad's noise is 0.15 of the input's range. Expect of MNIST the published order under SSIM: random (0.04) <
gradient (0.12) < SmoothGrad (0.13) << integrated gradients (0.46) ~ input x gradient (0.46) ~ LRP-epsilon (0.46) <
LRP-z-plus (0.92). The step from gradient to SmoothGrad is uncertain, 0.008 [-0.005, 0.019], and backwards for absolute
values, -0.047 [-0.072, -0.025]. Spearman's correlation orders otherwise: near 0 for all methods if signed;
if absolute, 0.98 and more for all that multiply by the input, and 0.40 on the ink (LRP-z-plus 0.89).

    python examples/parameter_randomization.py [--quick] [--data FOLDER] [--output FOLDER]   (--data: MNIST's IDX files)

Source: Sixt et al. 2020, "When explanations lie", section 4.2; Adebayo et al. 2018, "Sanity checks for saliency maps".
"""

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import optax
from map_similarity import COLUMNS, METHODS, MODULE, drawn, explained, similarities

import jaxplain
from jaxplain import data, evaluate, plot, train

KEPT = lambda params, key: params  # noqa: E731


def interval(values):
    """A mean over networks and examples, `[N, B]`, with its bootstrap interval over both."""
    rng, (networks, examples) = np.random.default_rng(0), values.shape
    rows = [(rng.integers(networks, size=networks), rng.integers(examples, size=examples)) for _ in range(1000)]
    return np.nanmean(values), *np.percentile([np.nanmean(values[np.ix_(*pair)]) for pair in rows], [2.5, 97.5])


def judged(splits, methods, count, epochs, seed):
    """`[B, columns]` for every method, of one network."""
    x, y = splits.test.inputs[:count], splits.test.targets[:count]
    settings = {"key": jax.random.key(seed), "optimizer": optax.adam(2e-3), "epochs": epochs, "progress": False}
    start, fresh = (jax.jit(drawn)(jax.random.key(100 * n + seed), x[:1]) for n in range(2))
    params = train.fit(MODULE.apply, start, splits.train, **settings).params
    print(f"test accuracy {train.assess(MODULE.apply, params, splits.test)[1]:.1%}")
    found, settings = {}, {"initialize": partial(KEPT, fresh), "similarity": similarities}
    for name, method in methods.items():
        m = evaluate.parameter_randomization(partial(explained, method, MODULE.apply), params, **settings)
        found[name] = np.asarray(evaluate.evaluate_batch(m, x, None, y, key=jax.random.key(2)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Parameter randomization under several similarities.")
    parser.add_argument("--quick", action="store_true", help="one network and few images: only large steps are checked")
    parser.add_argument("--data", type=Path, help="a folder with MNIST's test files; by default scikit-learn's digits")
    parser.add_argument("--output", type=Path, default=Path("parameter_randomization"), help="where the figure goes")
    arguments = parser.parse_args()
    splits = data.load_idx_folder(arguments.data, test=2000) if arguments.data else data.digits()
    networks, count = (1, 8) if arguments.quick else (5, 48)
    epochs = 8 if arguments.quick else 4 if arguments.data else 30
    methods = {n: m for n, m in METHODS.items() if not arguments.quick or n[:3] in ("ran", "smo", "inp", "lrp")}
    runs = [judged(splits, methods, count, epochs, seed) for seed in range(networks)]
    values = {name: np.stack([run[name] for run in runs]) for name in methods}  # [networks, B, columns]
    print(" " * 22 + "".join(f"{column:>24s}" for column in COLUMNS))
    for name, value in values.items():
        cells = ["{:8.3f} [{:.3f}, {:.3f}]".format(*interval(value[..., place])) for place in range(len(COLUMNS))]
        print(f"{name:22s}" + "".join(f"{cell:>24s}" for cell in cells))
    print("\nsteps of SSIM (and of absolute values)")
    for first, second in pairwise(values):
        gaps = [interval(values[second][..., place] - values[first][..., place]) for place in range(2)]
        print(f"  {first} -> {second}: " + ", absolute ".join("{:.3f} [{:.3f}, {:.3f}]".format(*gap) for gap in gaps))
    mean = {name: value[..., 0].mean() for name, value in values.items()}
    order = sorted(mean, key=mean.get)
    print(f"random is least alike, LRP-z-plus most: {(order[0], order[-1]) == ('random', 'lrp_z_plus')}")
    if arguments.data and not arguments.quick:
        alike = [mean[name] for name in ("integrated_gradients", "input_x_gradient", "lrp_epsilon")]
        apart = 2 * max(mean["gradient"], mean["smoothgrad"]) < min(alike)
        print(f"gradients << what multiplies by the input, alike: {apart and max(alike) - min(alike) < 0.05}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = {n: dict(zip(COLUMNS, value.reshape(-1, len(COLUMNS)).T, strict=True)) for n, value in values.items()}
    plot.scores_table(table).savefig(arguments.output / "parameter_randomization.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
