"""A planted wave in noise: when, and in which channel, was the evidence?

Series `[T, C]` of noise hold one wave somewhere in one of their channels; its phase is the class. A small convolutional
network learns it, and the margin of the predicted class is explained by ablation of groups: every stretch of 8 steps of
a channel is replaced by its mean. Expect a test accuracy above 95 %, and the highest group in the planted interval (of
two to three groups out of 24) in at least 95 % of the series, of a random attribution in about 12 %. Writes
`time_series.png`, several series as maps beside where the wave is planted, and `series.png`, the first one as lines.

    python examples/time_series.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import plot, train

STEPS, CHANNELS, WAVE, GROUP = 64, 3, 16, 8


class Network(nn.Module):
    """Two convolutions over time, the largest response of each feature, a dense layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Series `[B, T, C]` to logits."""
        x = nn.relu(nn.Conv(24, (WAVE,))(x))
        x = nn.relu(nn.Conv(24, (5,))(x))
        return nn.Dense(2)(x.max(axis=1))


def series(key: jax.Array, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with a wave at a random place: inputs `[N, T, C]`, classes, and True where the wave is."""
    noise, start, channel, label = jax.random.split(key, 4)
    starts = jax.random.randint(start, (count, 1, 1), 0, STEPS - WAVE + 1)
    channels = jax.random.randint(channel, (count, 1, 1), 0, CHANNELS)
    labels = jax.random.randint(label, (count,), 0, 2)
    place = jnp.arange(STEPS)[None, :, None] - starts
    truth = (place >= 0) & (place < WAVE) & (jnp.arange(CHANNELS)[None, None, :] == channels)
    wave = 2.5 * jnp.sin(2 * jnp.pi * place / WAVE) * (1 - 2 * labels)[:, None, None]
    x = jax.random.normal(noise, truth.shape) + jnp.where(truth, wave, 0)
    return np.asarray(x), np.asarray(labels), np.asarray(truth)


def hits(attributions: jax.Array, truth: np.ndarray) -> np.ndarray:
    """Whether a series' highest group reaches into the planted interval of the planted channel."""
    values = np.asarray(attributions)
    return np.where(truth, values, -np.inf).max(axis=(1, 2)) == values.max(axis=(1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description="Which part of a series decided?")
    parser.add_argument("--quick", action="store_true", help="fewer series and epochs")
    parser.add_argument("--output", type=Path, default=Path("time_series"), help="where the figure goes")
    arguments = parser.parse_args()
    x, labels, _ = series(jax.random.key(0), 1500 if arguments.quick else 6000)
    test, test_labels, truth = series(jax.random.key(1), 200 if arguments.quick else 1000)

    module = Network()
    params = module.init(jax.random.key(2), x[:1])
    epochs = 8 if arguments.quick else 15
    fitted = train.fit(
        module.apply, params, (x, labels), key=jax.random.key(3), optimizer=optax.adam(3e-3), epochs=epochs
    )
    predicted = np.asarray(train.predict(module.apply, fitted.params, test)).argmax(1)
    print(f"test accuracy: {np.mean(predicted == test_labels):.1%} (above 95 %)")

    f = jaxplain.margin(module.apply, fitted.params)
    groups = jnp.arange(STEPS)[:, None] // GROUP * CHANNELS + jnp.arange(CHANNELS)[None, :]
    means = jnp.asarray(x.mean(axis=0))
    e = jaxplain.feature_ablation(f, baseline=means, groups=groups)
    attributions = jaxplain.explain_batch(e, test, predicted)
    random = jax.random.normal(jax.random.key(4), (len(test), groups.size // GROUP))[:, groups]
    found, chance = hits(attributions, truth), hits(random, truth)
    print(f"highest group in the planted interval: {found.mean():.1%} (at least 95 %), random {chance.mean():.1%}")
    areas = [
        np.asarray(jax.jit(jax.vmap(jaxplain.evaluate.deletion(f, baseline=means, groups=groups)))(test, a, predicted))
        for a in (attributions, random)
    ]
    gain = jaxplain.evaluate.paired_difference(*areas, key=jax.random.key(5))
    print(f"deletion: {gain.mean:.2f} against random, 95 % interval [{gain.low:.2f}, {gain.high:.2f}] (below 0)")

    arguments.output.mkdir(parents=True, exist_ok=True)
    tall = lambda series: np.repeat(np.swapaxes(np.asarray(series, float)[:4], 1, 2), 12, axis=1)  # noqa: E731
    columns = {"planted": tall(truth), "ablation": tall(attributions)}
    figure = plot.heatmaps(tall(test), columns, predicted[:4])
    figure.savefig(arguments.output / "time_series.png", dpi=150)
    one = plot.series(test[0], np.asarray(attributions)[0], names=["first", "second", "third"], units=f)
    one.savefig(arguments.output / "series.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
