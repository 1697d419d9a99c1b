"""Which part of a sound decided? Occlusion of the spectrogram, and of the waveform beside it.

By default the sounds are synthetic: noise, a hum that says nothing, and a short tone whose pitch is the class. Expect
an accuracy above 95 %, the highest window of the spectrogram on the tone in at least 95 %, the highest stretch of the
waveform inside it in at least 80 % (at random: about 5 and 20 %). With `--data` they are the spoken digits of
`fsdd.npz` in that folder, one speaker held out: expect an accuracy of 65 to 85 %. In both, hiding the highest first
beats a random order. Writes `speech_0.png` to `speech_2.png`, a sound each, over seconds and hertz: which stretches of
its waveform, and which parts of its spectrogram, speak for the predicted class (red) or against it (blue).

    python examples/speech.py [--data FOLDER] [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxplain
from jaxplain import models, plot, train

RATE, FRAME, HOP = 8000, 256, 128


def spectrogram(wave: jax.Array) -> jax.Array:
    """The logarithm of the power in each frame and band, `[frames, bands, 1]`, about standardised."""
    frames = jnp.arange(0, wave.shape[0] - FRAME + 1, HOP)[:, None] + jnp.arange(FRAME)[None, :]
    power = jnp.abs(jnp.fft.rfft(wave[frames] * jnp.hanning(FRAME)[None, :]))[:, :128] ** 2
    return (jnp.log(power.reshape(-1, 64, 2).mean(axis=2) + 1e-3) / 4)[..., None]


def tones(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Waveforms of 0.5 s with a tone of 0.1 s somewhere: the waveforms, classes, and True where the tone is."""
    noise, start, label = jax.random.split(jax.random.key(seed), 3)
    starts, labels = jax.random.randint(start, (count, 1), 0, 3200), jax.random.randint(label, (count,), 0, 4)
    time = jnp.arange(4000)[None, :]
    truth, turns = (time >= starts) & (time < starts + 800), 2 * jnp.pi * time / RATE
    wave = jnp.where(truth, jnp.sin(turns * 700 * (1 + labels)[:, None]), 0.5 * jnp.sin(turns * 250))
    return np.asarray(wave + 0.3 * jax.random.normal(noise, truth.shape)), np.asarray(labels), np.asarray(truth)


def digits(folder: Path) -> list[tuple[np.ndarray, np.ndarray, None]]:
    """Spoken digits of 0.6 s and unit power: waveforms and digits, and those of the speaker who is held out."""
    with np.load(folder / "fsdd.npz") as file:
        parts = np.split(file["samples"].astype(np.float32), np.cumsum(file["lengths"])[:-1])
        labels, names = file["labels"].astype(np.int32), file["names"]
    waves = np.stack([np.pad(part[:4800], (0, max(0, 4800 - len(part)))) for part in parts])
    waves, held = waves / waves.std(axis=1, keepdims=True), np.char.startswith(names, "theo")
    return [(waves[part], labels[part], None) for part in (~held, held)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Which part of a sound decided?")
    parser.add_argument("--data", type=Path, help="a folder with fsdd.npz")
    parser.add_argument("--output", type=Path, default=Path("speech"))
    parser.add_argument("--quick", action="store_true", help="fewer sounds and epochs")
    arguments = parser.parse_args()
    sizes = (800, 100) if arguments.quick else (3000, 300)
    (x, y, _), (test, test_labels, planted) = digits(arguments.data) if arguments.data else map(tones, range(2), sizes)
    seen, pictures = (jax.jit(jax.vmap(spectrogram))(waves) for waves in (x, test))
    module = models.cnn(int(y.max()) + 1, widths=(8, 16), dense=32)
    epochs = (20 if arguments.data else 5) if arguments.quick else 30
    settings = {"key": jax.random.key(3), "optimizer": optax.adam(2e-3), "epochs": epochs}
    params = train.fit(module.apply, module.init(jax.random.key(2), seen[:1]), (seen, y), **settings).params
    predicted = np.asarray(train.predict(module.apply, params, pictures)).argmax(1)
    print(f"test accuracy: {np.mean(predicted == test_labels):.1%}")
    f, quiet = jaxplain.margin(module.apply, params), float(jnp.quantile(seen, 0.05))
    heard = lambda wave, target: f(spectrogram(wave), target)  # noqa: E731
    where = jaxplain.explain_batch(jaxplain.occlusion(f, window=(6, 6), stride=3, baseline=quiet), pictures, predicted)
    when = jaxplain.explain_batch(jaxplain.occlusion(heard, window=400, stride=200), test, predicted)
    random = jaxplain.explain_batch(jaxplain.evaluate.random_attribution(), pictures, key=jax.random.key(4))
    if planted is not None:
        frames = np.stack([planted[:, i : i + FRAME].any(1) for i in range(0, 4000 - FRAME + 1, HOP)], 1)
        away = np.arange(64) + 0.5 - (700 + 700 * test_labels)[:, None, None] / RATE * 128
        tone = frames[:, :, None] & (np.abs(away) <= 6)
        flat = lambda values: np.asarray(values).reshape(len(test), -1)  # noqa: E731
        hits = lambda a, truth: np.take_along_axis(flat(truth), flat(a).argmax(1)[:, None], 1).mean()  # noqa: E731
        print(f"highest window on the planted tone: {hits(where, tone):.1%}, random {hits(random, tone):.1%}")
        chance = hits(jax.random.normal(jax.random.key(6), planted.shape), planted)
        print(f"highest stretch of the waveform inside it: {hits(when, planted):.1%}, random {chance:.1%}")
    groups = jnp.arange(pictures.shape[1])[:, None] // 3 * 16 + jnp.arange(64)[None, :] // 4
    removal = jax.jit(jax.vmap(jaxplain.evaluate.deletion(f, baseline=quiet, groups=groups, steps=40)))
    areas = (removal(pictures, a, predicted) for a in (where, random))
    gain = jaxplain.evaluate.paired_difference(*areas, key=jax.random.key(5))
    print(f"deletion: {gain.mean:.2f} against random, 95 % interval [{gain.low:.2f}, {gain.high:.2f}] (below 0)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    layout = {"rate": RATE, "window": FRAME, "hop": HOP, "units": f}
    for label in range(3):
        i = int(np.flatnonzero(test_labels == label)[0])
        maps = {f"said {label}, heard {predicted[i]}: when": when[i], "when, and in which band": where[i]}
        figure = plot.sound(test[i], maps, spectrogram=pictures[i], **layout)
        figure.savefig(arguments.output / f"speech_{label}.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
