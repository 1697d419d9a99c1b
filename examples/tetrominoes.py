"""Which methods find the pixels that decide, where it is known which do (XAI-TRIS)?

Images of a T or an L on white or correlated noise; networks that tell them apart; and for every method the share of its
largest values that lie on the tetrominoes (precision) and 1 minus the earth mover's distance to them, on images that
the network gets right. The source finds that popular methods often do not significantly beat edge detectors and random
maps. A method beats them here where the 95 % interval of its difference from the best of the three lies above zero.
Expect the suppressor of the linear model, first of all, to have weight and no share by its pattern.

    python examples/tetrominoes.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxplain
from jaxplain import data, evaluate, models, pattern, plot, relevance, train

KEY, CONTROLS = jax.random.key(0), ("sobel", "laplace", "random")
JUDGES = {"precision": evaluate.relevance_rank_accuracy(), "1 - distance": evaluate.earth_movers_distance()}


class Convolutions(nn.Module):
    """The source's network for 8x8: four convolutions of 2x2 with four channels, each pooled by its maximum."""

    @nn.compact
    def __call__(self, x, train=False):
        for _ in range(4):
            x = nn.max_pool(nn.relu(nn.Conv(4, (2, 2), padding=1)(x)), (2, 2), strides=(2, 2))
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


NETWORKS = {"perceptron": models.mlp(2, widths=(32, 16, 8)), "convolutions": Convolutions()}


def methods(f, patterns):
    """Explanations of one score, by name."""
    return {
        "gradient": jaxplain.gradient(f),
        "smoothgrad": jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=16),
        "gradient x input": jaxplain.input_x_gradient(f),
        "integrated gradients": jaxplain.integrated_gradients(f, steps=32),
        "expected gradients": jaxplain.expected_gradients(f, samples=32),
        "deconvolution": jaxplain.deconvnet(f),
        "guided": jaxplain.guided_backprop(f),
        "LRP epsilon": jaxplain.lrp(f, relevance.epsilon()),
        "LRP alpha 2 beta 1": jaxplain.lrp(f, relevance.alpha_beta()),
        "DeepLIFT": jaxplain.deep_lift(f),
        "occlusion": jaxplain.occlusion(f, window=2),
        "Shapley sampling": jaxplain.shapley_sampling(f, samples=16),
        "PatternNet": pattern.pattern_net(f, patterns),
        "PatternAttribution": pattern.pattern_attribution(f, patterns),
        "sobel": evaluate.edge_attribution("sobel"),
        "laplace": evaluate.edge_attribution("laplace"),
        "random": evaluate.random_attribution(),
    }


def suppressor(output):
    """A linear model of (signal + noise, noise): what each method says of the second, which only takes noise out."""
    signal, noise = jax.random.normal(KEY, (2, 4096))
    f, rows = lambda x: x @ jnp.array([1.0, -1.0]), jnp.stack([signal + noise, noise], 1)
    e = methods(f, pattern.estimate_patterns(f, rows))
    names = ("gradient", "LRP epsilon", "PatternNet", "PatternAttribution")
    bars = {name: np.abs(jaxplain.explain_batch(e[name], rows[:256])).mean(0) for name in names}
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots(1, len(names), sharey=True)
    for ax, (name, sizes) in zip(axes, bars.items(), strict=True):
        ax.bar(("signal", "suppressor"), sizes)
        ax.set_title(name, fontsize=9)
        print(f"{name:>20}: signal {sizes[0]:.2f}, suppressor {sizes[1]:.2f}")
    figure.savefig(output / "suppressor.png", dpi=120)


def judged(name, scenario, background, count, epochs):
    """For each method the judges' values on test images that a trained network gets right, and its maps."""
    splits = data.tetrominoes(KEY, 10_000, scenario=scenario, background=background).split(KEY, test=0.1)
    net, seen, test = NETWORKS[name], splits.train, splits.test
    settings = {"key": KEY, "optimizer": optax.adam(2e-3), "epochs": epochs, "batch_size": 512, "progress": False}
    params = train.fit(net.apply, net.init(KEY, seen.inputs[:1]), (seen.inputs, seen.targets), **settings).params
    right = np.asarray(net.apply(params, test.inputs).argmax(-1) == test.targets)
    test, f = test.take(np.flatnonzero(right)[:count]), jaxplain.logit(net.apply, params)
    patterns = pattern.estimate_patterns(f, seen.inputs[:2000], seen.targets[:2000], batch_size=500)
    print(f"{scenario}, {background} noise, {name}: {100 * right.mean():.0f} % right")
    values, maps = {}, {}
    for method, e in methods(f, patterns).items():
        maps[method] = np.abs(jaxplain.explain_batch(e, test.inputs, test.targets, key=KEY))
        found = {j: np.asarray(evaluate.evaluate_batch(m, maps[method], test.truth)) for j, m in JUDGES.items()}
        values[method] = {j: 1 - v if "distance" in j else v for j, v in found.items()}
    return values, maps, test


def main() -> None:
    parser = argparse.ArgumentParser(description="Methods on tetrominoes, beside edges and random maps.")
    parser.add_argument("--quick", action="store_true", help="one scenario, one network")
    parser.add_argument("--output", type=Path, default=Path("tetrominoes"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    suppressor(options.output)
    scenarios = ("linear",) if options.quick else ("linear", "multiplicative", "translation_rotation", "xor")
    networks = tuple(NETWORKS)[: 1 if options.quick else 2]
    count, epochs = (40, 40) if options.quick else (100, 150)
    beaten = {}
    for scenario in scenarios:
        for background in ("white", "correlated"):
            for name in networks:
                values, maps, test = judged(name, scenario, background, count, epochs)
                for judge in JUDGES:
                    best = max(CONTROLS, key=lambda c, v=values, j=judge: v[c][j].mean())
                    for method in [m for m in values if m not in CONTROLS]:
                        pair = values[method][judge], values[best][judge]
                        found = evaluate.paired_difference(*pair, key=KEY, samples=2000)
                        beaten.setdefault((background, judge), {}).setdefault(method, []).append(found)
    for (background, judge), found in beaten.items():
        print(f"{judge} on {background} noise, above the best of {', '.join(CONTROLS)} in each setting (95 %):")
        for method, differences in found.items():
            texts = " ".join(f"{d.mean:+.2f} [{d.low:+.2f} {d.high:+.2f}]" for d in differences)
            print(f"{method:>22}: {sum(d.low > 0 for d in differences)} of {len(differences)}: {texts}")
        lost = [d.low <= 0 for m, ds in found.items() if not m.startswith("Pattern") for d in ds]
        print(f"{'popular methods':>22}: not better in {sum(lost)} of {len(lost)} cases")
    figure = plot.heatmaps(test.inputs[:3], {m: v[:3] for m, v in maps.items()}, test.targets[:3])
    figure.savefig(options.output / "tetrominoes.png", dpi=120)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
