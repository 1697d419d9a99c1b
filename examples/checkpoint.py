"""From a checkpoint to a picture of why the model answers as it does, in five statements.

Three kinds of files, one way: Orbax checkpoints of a Linen and of an NNX model, and a Hugging Face safetensors file in
PyTorch's layout. Each is loaded by one call, and `picture` takes five statements from there to a figure, the scaling of
the raw pixels included. Models and files are made first, from scikit-learn's digits; yours would be there already.

Expect three figures, and for each the claim that the loaded model answers as the saved one (test accuracy about 92 %).

    python examples/checkpoint.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

import jaxplain
from jaxplain import models, plot, train

LINEN = models.mlp(10, widths=(32,))
SHAPES = jax.eval_shape(LINEN.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
NAMES = {f"params/{flax}/kernel": f"{torch}.weight" for flax, torch in (("dense_0", "fc1"), ("head", "fc2"))}
NAMES |= {f"params/{flax}/bias": f"{torch}.bias" for flax, torch in (("dense_0", "fc1"), ("head", "fc2"))}


class Network(nnx.Module):
    """A perceptron in NNX, from images `[B, 8, 8, 1]` to logits `[B, 10]`."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.head = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.gelu(self.hidden(x.reshape(len(x), -1))))


def picture(apply: Any, params: Any, pixels: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    x = pixels[..., None].astype(np.float32) / 16
    f = jaxplain.logit(apply, params)
    e = jaxplain.integrated_gradients(f, steps=64)
    attributions = jaxplain.explain_batch(e, x, labels)
    figure = plot.heatmaps(x, {"integrated gradients": attributions}, labels)
    return figure, apply(params, x)


def from_linen(path: Path) -> tuple[Any, Any]:
    return LINEN.apply, train.load(path, SHAPES)


def from_nnx(path: Path) -> tuple[Any, Any]:
    apply, params = models.from_nnx(Network(nnx.Rngs(1)))
    return apply, train.load(path, params)


def from_safetensors(path: Path) -> tuple[Any, Any]:
    return LINEN.apply, models.load_safetensors(path, SHAPES, names=NAMES, layout="torch")


def write_files(output: Path, data: tuple[Any, Any], epochs: int) -> dict[str, tuple[Any, Any]]:
    """Train the models, save them in three files, and return what each file should give."""
    settings = {"key": jax.random.key(0), "epochs": epochs, "optimizer": optax.adam(3e-3)}
    linen = train.fit(LINEN.apply, LINEN.init(jax.random.key(1), data[0][:1]), data, **settings).params
    apply, start = models.from_nnx(Network(nnx.Rngs(0)))
    network = train.fit(apply, start, data, **settings).params
    train.save(output / "linen", linen, overwrite=True)
    train.save(output / "nnx", network, overwrite=True)
    leaves = {path: linen["params"][path.split("/")[1]][path.split("/")[2]] for path in NAMES}
    save_file({NAMES[path]: np.array(leaf.T, order="C") for path, leaf in leaves.items()}, output / "safetensors")
    return {"linen": (LINEN.apply, linen), "nnx": (apply, network), "safetensors": (LINEN.apply, linen)}


def main() -> None:
    parser = argparse.ArgumentParser(description="From a checkpoint to a figure in five statements.")
    parser.add_argument("--quick", action="store_true", help="train for 10 epochs instead of 40")
    parser.add_argument("--output", type=Path, default=Path("checkpoint"), help="where files and figures go")
    arguments = parser.parse_args()
    digits, output = load_digits(), arguments.output
    x, labels = digits.images[..., None].astype(np.float32) / 16, digits.target
    saved = write_files(output, (x[:1500], labels[:1500]), 10 if arguments.quick else 40)
    for name, load in (("linen", from_linen), ("nnx", from_nnx), ("safetensors", from_safetensors)):
        figure, logits = picture(*load(output / name), digits.images[1500:1506], labels[1500:1506])
        figure.savefig(output / f"{name}.png")
        accuracy = train.assess(*saved[name], (x[1500:], labels[1500:]))[1]
        same = np.allclose(logits, saved[name][0](saved[name][1], x[1500:1506]), atol=1e-5)
        print(f"{name}: test accuracy {accuracy:.1%}; the loaded model answers as the saved one: {same}")
    print(f"figures in {output}")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
