"""The networks that `feature_visualization.py` explains: trained on digits and on shaken copies of them.

The copies are turned, scaled, moved and noisy: under noise, what counts is whole strokes (of many pixels). Printed is
how sure such a network is of real digits under transforms that its training did not use. Expect of the CNN a test
accuracy of 97 % or more, and a mean probability of 0.9 or more (0.95). Without --quick a network is trained beside it
that saw the digits as often without shaking: it is no less sure (0.98, and 98.9 % against 98.1 %).

    python examples/shaken_digits.py [--quick] [--model MODEL] [--data FOLDER OF IDX FILES] [--output FOLDER]
"""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, plot, train, transform

KEY = jax.random.key(7)
UNSEEN = (transform.rotate(10.0), transform.noise(0.1), transform.blur(0.5))


def load(folder):
    """The small digits, or those of a folder of IDX files (of MNIST's test file alone, a fifth is the test set)."""
    test = None if folder and any(folder.glob("*train-images*")) else 0.2
    return data.load_idx_folder(folder, test=test) if folder else data.digits()


def shifts(side):
    """Shifts that bring in black, where `transform.jitter` brings in the other edge."""
    return transform.pad(side // 8), transform.crop(side)


def moved(transforms, key, x):
    for number, move in enumerate(transforms):
        x = move(jax.random.fold_in(key, number), x)
    return x


def shaken(examples, key, copies):
    """Copies of the images, each moved by a draw of its own."""
    size, side = examples.inputs.shape[:2]
    keys = [jax.random.split(jax.random.fold_in(key, copy), size) for copy in range(copies)]
    shakes = transform.rotate(15.0), transform.scale(0.85, 1.15), transform.noise(0.19 if side < 20 else 0.5)
    move = jax.jit(jax.vmap(functools.partial(moved, (*shakes, *shifts(side)))))
    return [move(part, examples.inputs) for part in keys]


def network(name, seed, examples, still=False):
    """Train on the digits and on shaken copies of them, or (still) on as many copies as they are."""
    key, side = jax.random.key(seed), examples.inputs.shape[1]
    copies, epochs = (6, 12) if side < 20 else (3, 4)
    seen = [examples.inputs] * copies if still else shaken(examples, key, copies)
    inputs, targets = np.concatenate([examples.inputs, *seen]), np.tile(examples.targets, copies + 1)
    steps = epochs * len(inputs) // 64
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, steps))
    nets = {"cnn": models.cnn(10, widths=(16, 32), dense=48), "resnet": models.resnet(10, widths=(8, 16, 32), depth=1)}
    module = (nets | {"transformer": models.transformer(10, patch=side // 4, width=48)})[name]
    settings = {"key": key, "optimizer": optimizer, "epochs": epochs, "batch_size": 64}
    params = train.fit(module.apply, module.init(key, inputs[:1]), (inputs, targets), **settings).params
    return jaxplain.logit(functools.partial(module.apply, train=False), params)


@jax.jit
def sure(f, images, labels):
    """The class's mean probability over images and 16 draws of the transforms that the optimisation did not use."""

    def draw(key):
        return jax.vmap(lambda x, k: jax.nn.softmax(f.outputs(moved(UNSEEN, key, x)))[k])(images, labels).mean()

    return jax.lax.map(draw, jax.random.split(KEY, 16)).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks trained on shaken digits.")
    parser.add_argument("--quick", action="store_true", help="only the network that is explained")
    parser.add_argument("--model", default="cnn", choices=("cnn", "resnet", "transformer"))
    parser.add_argument("--data", type=Path, help="a folder of IDX files (MNIST) in place of the small digits")
    parser.add_argument("--output", type=Path, default=Path("shaken_digits"))
    options = parser.parse_args()
    splits = load(options.data)
    for still in (False,) if options.quick else (False, True):
        f = network(options.model, 0, splits.train, still)
        right = train.assess(f.apply, f.params, splits.test)[1]
        sureness = float(sure(f, splits.test.inputs[:80], splits.test.targets[:80]))
        title = f"{options.model} {'still' if still else 'shaken'}"
        print(f"{title}: test accuracy {right:.1%} (97 % or more: {right >= 0.97})")
        print(f"  real digits under unseen transforms {sureness:.4f} (0.9 or more: {sureness >= 0.9})")
    options.output.mkdir(parents=True, exist_ok=True)
    plot.samples(shaken(splits.train, KEY, 1)[0], splits.train.targets, limit=16).savefig(options.output / "shaken.png")


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
