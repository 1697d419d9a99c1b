"""The three inputs of every picture, each with a small network: an image, a row of a table, a sentence."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import data, models, train

EPOCHS, RATE = 15, 3e-3
WORDS = ("", "awful", "boring", "lovely", "great", *(f"word{i}" for i in range(5, 32)))


@dataclass(frozen=True)
class World:
    """A trained network and one input of it."""

    kind: str
    f: Any
    x: Any
    label: int
    rows: Any  # training inputs: a background
    targets: Any
    layer: str
    groups: Any  # ten features or so that go together
    names: tuple[str, ...]
    axes: tuple[int, ...]  # those of places
    pooled: Any = None  # the score of a network that ends in global pooling
    low: float | None = None
    high: float | None = None

    @property
    def single(self) -> Any:
        """Every value a feature by itself."""
        return jnp.arange(np.size(self.x)).reshape(np.shape(self.x))


def trained(module: Any, inputs: Any, targets: Any) -> Any:
    """The score of a network, trained in seconds."""
    start = module.init(jax.random.key(0), inputs[:1])
    settings = {"key": jax.random.key(1), "optimizer": optax.adam(RATE), "epochs": EPOCHS, "progress": False}
    return jaxplain.logit(module.apply, train.fit(module.apply, start, (inputs, targets), **settings).params)


def image() -> World:
    """A digit of scikit-learn's, and a network of two convolutions."""
    splits = data.digits()
    rows, targets = splits.train.inputs, splits.train.targets
    f = trained(models.cnn(10, widths=(8, 16), dense=32), rows, targets)
    place = np.flatnonzero(splits.test.targets == 3)[0]
    tiles = jnp.arange(8)[:, None, None] // 3 * 3 + jnp.arange(8)[None, :, None] // 3
    shape = {"pooled": pooled(rows, targets), "low": 0.0, "high": 1.0}
    return World("image", f, splits.test.inputs[place], 3, rows, targets, "conv_1", tiles, (), (0, 1), **shape)


class Pooled(nn.Module):
    """Two convolutions, global pooling and a dense layer: what the original class activation map asks for."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """Logits of ten classes."""
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        with jax.named_scope("last"):
            x = nn.relu(nn.Conv(16, (3, 3))(x))
        return nn.Dense(10, name="head")(x.mean(axis=(1, 2)))


def pooled(rows: Any, targets: Any) -> Any:
    """The score of such a network."""
    return trained(Pooled(), rows, targets)


def row() -> World:
    """A tumour, measured by thirty numbers: mean, error and worst of ten quantities."""
    splits = data.breast_cancer()
    rows, targets, names = splits.train.inputs, splits.train.targets, splits.train.feature_names
    f = trained(models.mlp(2, widths=(16,)), rows, targets)
    place = np.flatnonzero(splits.test.targets == 0)[0]
    groups = jnp.arange(30) % 10
    return World("table", f, splits.test.inputs[place], 0, rows, targets, "dense_0", groups, names, ())


def sentence() -> World:
    """Marker words among fillers, and a transformer of one block."""
    drawn, _ = data.marker_tokens(jax.random.key(0), 1000, length=10)
    ids, targets = drawn.inputs[0], drawn.targets
    module = models.transformer(2, vocabulary=32, length=10, width=16, depth=1, heads=2, activation="relu")
    f = trained(module, ids, targets)
    place = np.flatnonzero((targets == 1) & (ids != 0).all(1))[0]
    names = tuple(WORDS[i] for i in ids[place])
    return World("text", f, ids[place], 1, ids, targets, "block_0", jnp.arange(10), names, (0,))


@functools.cache
def worlds() -> tuple[World, World, World]:
    """All three, trained once."""
    return image(), row(), sentence()
