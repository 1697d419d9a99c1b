"""Parameter randomization: the order of methods depends on the similarity, and on ties in the background.

Trains a LeNet on digits and randomizes its five layers from the outputs down, drawing each anew as before training.
The table shows how alike explanations before and after are, averaged over layers and examples: by the structural
similarity of the maps (absolute values, each map divided by its largest), for which the order random < gradient <
SmoothGrad << integrated gradients ~ input x gradient ~ LRP-epsilon < LRP-z-plus was published; and by Spearman's
correlation of signed and of absolute values, on all pixels and on the digit's own ("ink"), without the background whose
zeros tie in every method that multiplies by the input. Expect the published order under the first with --mnist
(gradient and SmoothGrad are close), and near zero for all but LRP-z-plus under the signed correlation. Last, label
randomization: explanations of a model trained on random labels have little in common with the model's.

    python examples/parameter_randomization.py [--quick] [--mnist FOLDER] [--output FOLDER]
"""

import argparse
import dataclasses
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, plot, train
from jaxplain.explain import relevance

UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class LeNet(nn.Module):
    """Two convolutions and three dense layers; biases are not zero, so that the background is not dead."""

    @nn.compact
    def __call__(self, x, train=False):
        def settings(fan):
            bound = 1 / np.sqrt(fan)
            return {"kernel_init": UNIFORM, "bias_init": lambda k, s, d: jax.random.uniform(k, s, d, -bound, bound)}

        side = 5 if x.shape[1] > 16 else 3
        for index, width in enumerate((6, 16)):
            fan = side * side * x.shape[-1]
            x = nn.relu(nn.Conv(width, (side, side), name=f"conv_{index}", **settings(fan))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for index, width in enumerate((120, 84)):
            x = nn.relu(nn.Dense(width, name=f"dense_{index}", **settings(x.shape[1]))(x))
        return nn.Dense(10, name="head", **settings(84))(x)


class Unrelated(jaxplain.Function):
    """White noise that is another for every model: no explanation can be less alike."""

    score: object

    def __call__(self, x, label):
        bits = jax.lax.bitcast_convert_type(self.score(x, label), jnp.uint32)
        return jax.random.normal(jax.random.fold_in(jax.random.key(5), bits), x.shape)


def structural(a, b, window=11):
    a, b = (jnp.abs(m) / jnp.maximum(jnp.abs(m).max(), 1e-12) for m in (a, b))
    return jaxplain.structural_similarity(a, b, data_range=1.0, window=window)


METHODS = {
    "random": Unrelated,
    "gradient": jaxplain.gradient,
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.2, samples=16),
    "integrated_gradients": lambda f: jaxplain.integrated_gradients(f, steps=16),
    "input_x_gradient": jaxplain.input_x_gradient,
    "lrp_epsilon": lambda f: jaxplain.lrp(f, relevance.epsilon(1e-3)),
    "lrp_z_plus": lambda f: jaxplain.lrp(f, relevance.z_plus()),
}


def fitted(module, params, training, epochs):
    optimizer = optax.adam(2e-3)
    return train.fit(module.apply, params, training, key=jax.random.key(1), optimizer=optimizer, epochs=epochs).params


class WithInput(jaxplain.Function):
    """An explanation stacked with the input, which says where the ink is."""

    explain: object

    @property
    def needs_key(self):
        return self.explain.needs_key

    def __call__(self, *inputs):
        return jnp.stack([self.explain(*inputs), inputs[-2]])


def similarities(window, first, second):
    """The structural similarity and Spearman's correlations of two explanations stacked with their input."""
    (a, x), (b, _), rank, size = first, second, jaxplain.spearman, jnp.abs
    every = rank(a, b), rank(size(a), size(b))
    return jnp.stack([structural(a, b, window), *every, rank(a, b, where=x > 0), rank(size(a), size(b), where=x > 0)])


COLUMNS = ("structural", "signed", "absolute", "signed, ink", "absolute, ink")


def main() -> None:
    parser = argparse.ArgumentParser(description="Parameter randomization under several similarities.")
    parser.add_argument("--quick", action="store_true", help="few epochs and images")
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's test files; default: scikit-learn's digits")
    parser.add_argument("--output", type=Path, default=Path("parameter_randomization"), help="where the figure goes")
    arguments = parser.parse_args()
    splits = data.load_idx_folder(arguments.mnist, test=2000) if arguments.mnist else data.digits()
    count, epochs = (8, 2) if arguments.quick else (64, 6 if arguments.mnist else 30)
    x, y = jnp.asarray(splits.test.inputs[:count]), jnp.asarray(splits.test.targets[:count])
    module, window = LeNet(), 11 if arguments.mnist else 5
    fresh = module.init(jax.random.key(0), x[:1])
    params = fitted(module, fresh, splits.train, epochs)
    outputs = np.asarray(train.predict(module.apply, params, splits.test.inputs))
    print(f"test accuracy {np.mean(outputs.argmax(1) == splits.test.targets):.1%}")

    shuffled = np.random.default_rng(0).permutation(splits.train.targets)
    other = fitted(module, fresh, dataclasses.replace(splits.train, targets=shuffled), epochs)
    measure, rows, labels = partial(similarities, window), {}, {}
    for name, method in METHODS.items():
        m = jaxplain.parameter_randomization(
            lambda p, method=method: WithInput(method(jaxplain.logit(module.apply, p))),
            params,
            initialize=lambda key: module.init(key, x[:1]),
            similarity=measure,
        )
        rows[name] = np.asarray(jaxplain.evaluate_batch(m, x, None, y, key=jax.random.key(2)))
        models = [(module.apply, params), (module.apply, other)]
        result = jaxplain.compare_models(method, models, (x, y), key=jax.random.key(3))
        labels[name] = result.within

    table = {n: dict(zip(COLUMNS, r.T, strict=True)) | {"random labels": labels[n]} for n, r in rows.items()}
    for name, row in table.items():
        print(f"{name:22s}" + "".join(f"{column}: {np.nanmean(value):6.3f}  " for column, value in row.items()))
    mean = {name: float(np.nanmean(row["structural"])) for name, row in table.items()}
    alike = [mean[name] for name in ("integrated_gradients", "input_x_gradient", "lrp_epsilon")]
    early = max(mean["gradient"], mean["smoothgrad"])
    order = mean["random"] < mean["gradient"] and early < 0.7 * min(alike) and max(alike) < mean["lrp_z_plus"]
    print(f"random < gradients << input-like methods < LRP-z-plus in structural similarity: {order}")
    first, second = mean["gradient"], mean["smoothgrad"]
    print(f"gradient {first:.3f} < SmoothGrad {second:.3f}: {first < second}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot.scores_table(table).savefig(arguments.output / "parameter_randomization.png", dpi=150)


if __name__ == "__main__":
    main()
