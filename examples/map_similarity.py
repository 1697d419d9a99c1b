"""How alike are two explanations? It depends on the similarity, and on ties in the background.

Explains digits by two networks that have nothing in common: both are drawn at random and not trained. The table says
how alike their explanations are, averaged over images: by the structural similarity (SSIM) and by Spearman's
correlation, of signed and of absolute values, the latter on all pixels and on the digit's own ("ink"), without a
background of tied zeros. Expect (--quick) absolute values of input x gradient to correlate by 0.91 on all pixels and by
0.39 on the ink, signed ones by 0.06 both times: both networks share the background's zeros, and that is most of it.

    python examples/map_similarity.py [--quick] [--output FOLDER]
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import data, evaluate, models, plot


class Unrelated(jaxplain.Function):
    """White noise that is another for every model: no explanation can be less alike."""

    score: object

    def __call__(self, x, label):
        bits = jax.lax.bitcast_convert_type(self.score(x, label), jnp.uint32)
        return jax.random.normal(jax.random.fold_in(jax.random.key(5), bits), x.shape)


NOISE, MODULE = jax.random.key(7), models.cnn(10, widths=(8, 16), dense=64)
METHODS = {
    "random": Unrelated,
    "gradient": jaxplain.gradient,
    "smoothgrad": lambda f: partial(jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.15, samples=50), NOISE),
    "integrated_gradients": partial(jaxplain.integrated_gradients, steps=16),
    "input_x_gradient": jaxplain.input_x_gradient,
    "lrp_epsilon": lambda f: jaxplain.lrp(f, jaxplain.relevance.epsilon(1e-3)),
    "lrp_z_plus": lambda f: jaxplain.lrp(f, jaxplain.relevance.z_plus()),
}
COLUMNS = ("SSIM", "SSIM, absolute", "signed", "absolute", "signed, ink", "absolute, ink")


def explained(method, apply, params):
    """An explanation stacked with the input, which says where the ink is."""
    e = method(jaxplain.logit(apply, params))
    return lambda x, label: jnp.stack([e(x, label), x])


def structural(a, b):
    """The better of a map and its negative, which stretches to one minus the map's."""
    ends = [jnp.percentile(values, jnp.array([1.0, 99.0])) for values in (a, b)]
    a, b = (jnp.clip((v - v0) / jnp.maximum(v1 - v0, 1e-12), 0, 1) for v, (v0, v1) in zip((a, b), ends, strict=True))
    similarity = partial(evaluate.structural_similarity, a, data_range=1.0, window=5)
    return jax.vmap(similarity)(jnp.stack([b, 1 - b])).max()


def similarities(first, second):
    """The columns, of two explanations stacked with their input; in stacks, which compile once."""
    (a, x), (b, _) = first, second
    a, b, where = jnp.stack([a, jnp.abs(a)]), jnp.stack([b, jnp.abs(b)]), jnp.stack([x > -1, x > 0])
    ranks = jax.vmap(lambda w: jax.vmap(lambda u, v: evaluate.spearman(u, v, where=w))(a, b))(where)
    return jnp.concatenate([jax.vmap(structural)(a, b), ranks.ravel()])


def drawn(key, x):
    """Parameters as before training; biases are not zero, so that the background is not dead."""
    bias = lambda leaf: leaf if leaf.ndim > 1 else 0.1 * jax.random.normal(key, leaf.shape)  # noqa: E731
    return jax.tree.map(bias, MODULE.init(key, x))


def main() -> None:
    parser = argparse.ArgumentParser(description="How alike explanations of two unrelated networks are.")
    parser.add_argument("--quick", action="store_true", help="few images and methods")
    parser.add_argument("--output", type=Path, default=Path("map_similarity"), help="where the figure goes")
    arguments = parser.parse_args()
    images = data.digits().test.take(slice(16 if arguments.quick else 128))
    pair = [jax.jit(drawn)(jax.random.key(seed), images.inputs[:1]) for seed in range(2)]
    table = {}
    for name in ("random", "gradient", "input_x_gradient") if arguments.quick else METHODS:
        first, second = (explained(METHODS[name], MODULE.apply, params) for params in pair)
        alike = jax.jit(jax.vmap(lambda x, k, a=first, b=second: similarities(a(x, k), b(x, k))))
        table[name] = dict(zip(COLUMNS, np.asarray(alike(images.inputs, images.targets)).T, strict=True))
        print(f"{name:22s}" + ", ".join(f"{column} {np.nanmean(v):.2f}" for column, v in table[name].items()))
    every, ink = (np.nanmean(table["input_x_gradient"][column]) for column in ("absolute", "absolute, ink"))
    print(f"the background makes up most of input x gradient's likeness: {every - ink > ink}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot.scores_table(table).savefig(arguments.output / "map_similarity.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
