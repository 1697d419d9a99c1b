"""Label randomization: a network that learnt random labels should be explained otherwise than one that learnt digits.

Trains two networks on digits and, with the same settings, two on the same images with their labels shuffled. If an
explanation shows what was learnt, those of the first pair (two seeds of one training) are more alike than those across
the pairs. What draws the input whatever the network, such as LRP-z-plus, is nearly as alike across as within.

Expect of Spearman's correlation of absolute values on scikit-learn's digits (--quick): for the gradient 0.27 between
two seeds and 0.10 between true and random labels, guided backpropagation 0.53 and 0.33, and for input x gradient and
LRP-z-plus above 0.9 both times, with differences of 0.02 and less. The printed intervals are bootstrapped over images.

    python examples/label_randomization.py [--quick] [--data FOLDER] [--output FOLDER]    (--data: MNIST's IDX files)

Source: Adebayo et al. 2018, "Sanity checks for saliency maps", section 4 (data randomization test).
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, plot, train
from jaxplain.explain.backward import relevance

METHODS = {
    "gradient": jaxplain.gradient,
    "guided_backprop": jaxplain.guided_backprop,
    "input_x_gradient": jaxplain.input_x_gradient,
    "lrp_z_plus": lambda f: jaxplain.lrp(f, relevance.z_plus()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Explanations of networks trained on true and on random labels.")
    parser.add_argument("--quick", action="store_true", help="few epochs and images")
    parser.add_argument("--data", type=Path, help="a folder with MNIST's test files; by default scikit-learn's digits")
    parser.add_argument("--output", type=Path, default=Path("label_randomization"), help="where the figure goes")
    arguments = parser.parse_args()
    splits = data.load_idx_folder(arguments.data, test=2000) if arguments.data else data.digits()
    epochs = 10 if arguments.quick else 8 if arguments.data else 40
    count = 32 if arguments.quick else 128
    x, y = jnp.asarray(splits.test.inputs[:count]), jnp.asarray(splits.test.targets[:count])
    module, trained = models.cnn(10, widths=(8, 16), dense=64), []
    shuffled = dataclasses.replace(splits.train, targets=np.random.default_rng(0).permutation(splits.train.targets))
    for seed, part in enumerate((splits.train, splits.train, shuffled, shuffled)):
        settings = {"key": jax.random.key(seed), "optimizer": optax.adam(3e-3), "epochs": epochs, "progress": False}
        params = train.fit(module.apply, module.init(jax.random.key(seed), x[:1]), part, **settings).params
        right = np.asarray(train.predict(module.apply, params, part.inputs)).argmax(1) == part.targets
        print(f"{'true' if seed < 2 else 'random'} labels: {right.mean():.1%} of the training set fitted")
        trained.append((module.apply, params))

    table, gaps, settings = {}, {}, {"recipes": (0, 0, 1, 1), "similarity": "absolute_spearman"}
    for name, method in METHODS.items():
        result = jaxplain.evaluate.compare_models(method, trained, (x, y), **settings)
        table[name] = {"two seeds": result.similarity[0, 1], "true and random labels": result.between}
        gaps[name] = gap = jaxplain.evaluate.paired_difference(*table[name].values(), key=jax.random.key(9))
        means = ", ".join(f"{title} {np.nanmean(values):.2f}" for title, values in table[name].items())
        print(f"{name:18s}{means}, difference {gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}]")
    print(f"the gradient sees what was learnt: {gaps['gradient'].low > 0}")
    print(f"and more of it than LRP-z-plus: {gaps['gradient'].low > gaps['lrp_z_plus'].high}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot.scores_table(table).savefig(arguments.output / "label_randomization.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
