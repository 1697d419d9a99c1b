"""A sound: its waveform over its spectrogram, and which parts of both decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import DIVERGING, canvas, colour_bar, diverging, largest, open_sides
from jaxplain.plot.caption import drawn
from jaxplain.plot.sequence.stretch import coloured_curve, per_second, stretch_size, stretch_sums
from jaxplain.plot.values import batch, measured, plain

WINDOW = 0.032
"""Seconds of a window of the spectrogram that is made here, rounded to a power of two of samples."""


class Raster(NamedTuple):
    """Edges in seconds of T frames, `[T + 1]`, and in hertz of F bands, `[F + 1]`."""

    seconds: np.ndarray
    hertz: np.ndarray


class Frames(NamedTuple):
    """How a sound of `length` samples is cut into frames and bands."""

    size: int
    hop: int | None
    length: int
    rate: float
    frequencies: np.ndarray | None

    def raster(self, shape: tuple[int, ...]) -> Raster:
        """Where the frames and bands of a map lie."""
        frames, bands = shape
        if self.hop is None:
            seconds = np.asarray(self.length / self.rate * np.arange(frames + 1) / frames)
        else:
            seconds = np.asarray((self.hop * (np.arange(frames + 1) - 0.5) + self.size / 2) / self.rate)
            if seconds[-2] > self.length / self.rate:
                raise ValueError(
                    f"sound: with a `hop` of {self.hop} samples the last of {frames} frames begins after the sound of "
                    f"{self.length} samples has ended."
                )
        if self.frequencies is None:
            return Raster(seconds, np.linspace(0, self.rate / 2, bands + 1))
        if len(self.frequencies) != bands:
            raise ValueError(f"sound: `frequencies` holds {len(self.frequencies)}, but a map has {bands} bands.")
        middles = (self.frequencies[1:] + self.frequencies[:-1]) / 2
        ends = 2 * self.frequencies[[0, -1]] - middles[[0, -1]] if bands > 1 else np.array([0.0, self.rate / 2])
        return Raster(seconds, np.concatenate([[max(0.0, ends[0])], middles, ends[1:]]))


@drawn
def sound(
    waveform: Any,
    attributions: Any,
    *,
    rate: Any,
    spectrogram: Any = None,
    frequencies: Any = None,
    window: int | None = None,
    hop: int | None = None,
    stretch: int | None = None,
    units: Any = None,
) -> Figure:
    """Draw a sound's waveform above its spectrogram, with attributions in colour, over seconds and hertz.

    Attributions of the waveform colour stretches behind it; those of a spectrogram lie over it, the more opaque the
    larger. Red speaks for the score, blue against. A panel without attributions is drawn in black or grey.

    Args:
        waveform: One sound of one channel, `[N]`.
        attributions: Of the waveform's samples, `[N]`, or of a spectrogram's frames and bands, `[T, F]` or `[T, F, 1]`
            (time first); or several under names, `{name: either}`, a panel each.
        rate: Samples in a second.
        spectrogram: What is drawn below attributions of bands, `[T, F]` or `[T, F, 1]`, such as the model's input;
            None takes the logarithm of the power in Hann windows of the waveform.
        frequencies: The bands' frequencies in hertz, rising, `[F]`, such as those of a mel scale; None divides 0 to
            rate / 2 evenly.
        window: Samples of a frame of the spectrogram; None takes 2 `hop` or, without one, about 32 ms.
        hop: Samples from one frame to the next, from which frame i is in the middle of i hop to i hop + window; None
            takes window / 2 for the spectrogram that is made here, and divides the sound evenly for one that is given.
        stretch: Samples whose attributions are added up to one coloured stretch; None takes as few as can be seen.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure, its panels over one time axis. Each map has a scale of its own, since samples and bands divide the
        same score into parts of different sizes.

    Raises:
        ValueError: Wrong shapes, NaN, frequencies that do not rise or are above rate / 2, a window longer than the
            sound.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> wave = np.sin(np.arange(800.0))
        >>> figure = sound(wave, np.ones((10, 16)), rate=8000)
        >>> [axes.get_ylabel() for axes in figure.axes][:2]
        ['amplitude', 'frequency (Hz)']
    """
    wave = batch(waveform, "sound", "waveform", {1: "[N]"})
    frames = _frames(window, hop, len(wave), per_second(rate, "sound"), frequencies)
    maps = _maps(attributions, len(wave))
    power, below = _behind(wave, spectrogram, frames)
    waves: list[tuple[str, Any]] = [one for one in maps.items() if one[1].ndim == 1] or [("", None)]
    bands: list[tuple[str, Any]] = [one for one in maps.items() if one[1].ndim == 2] or [("", None)]
    label = measured("attribution", units, "sound")
    seconds = len(wave) / frames.rate
    count = len(waves) + len(bands)
    figure = canvas(7.4, 0.6 + 1.75 * count, f"A sound of {seconds:.3g} s: waveform and spectrogram with attributions")
    grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, values) in zip(grid, waves, strict=False):
        _draw_wave(figure, axes, wave, values, (frames.rate, stretch, label))
        axes.set_title(name or "waveform", fontsize=9)
    for axes, (name, values) in zip(grid[len(waves) :], bands, strict=True):
        _mesh(axes, below, power, cmap="Greys", norm=_grey(power, values is not None))
        if values is not None:
            _draw_bands(figure, axes, frames.raster(values.shape), values, label)
        axes.set(ylim=(below.hertz[0], below.hertz[-1]), ylabel="frequency (Hz)")
        axes.set_title(f"{name and name + '; grey: '}spectrogram, darker is more", fontsize=9)
    for axes in grid:
        open_sides(axes).tick_params(labelsize=8)
        axes.yaxis.label.set_fontsize(8)
    grid[0].set_xlim(0, seconds)
    grid[-1].set_xlabel("time (s)", fontsize=9)
    return figure


def _frames(window: Any, hop: Any, length: int, rate: float, frequencies: Any) -> Frames:
    hop = None if hop is None else check.count(hop, "sound", "hop")
    if window is None:
        size = min(length, 2 * hop if hop else 2 ** max(1, round(np.log2(max(2.0, rate * WINDOW)))))
    else:
        size = check.count(window, "sound", "window")
        if size > length:
            raise ValueError(f"sound: `window` is {size}, but the sound has {length} samples.")
    hertz = None if frequencies is None else batch(frequencies, "sound", "frequencies", {1: "[F]"})
    if hertz is not None and ((np.diff(hertz) <= 0).any() or hertz[0] < 0):
        raise ValueError("sound: `frequencies` have to rise from 0 or more, in hertz.")
    if hertz is not None and hertz[-1] > 1.001 * rate / 2:
        raise ValueError(
            f"sound: `frequencies` rise to {hertz[-1]:.6g} Hz, but at a `rate` of {rate:.6g} a sound has none above "
            f"{rate / 2:.6g} Hz. Pass both in hertz, and the rate of this waveform."
        )
    return Frames(size, hop, length, rate, hertz)


def _flat(value: Any, argument: str) -> np.ndarray:
    """A map of frames and bands `[T, F]`, without an axis of one channel."""
    array = batch(value, "sound", argument, {2: "[T, F]", 3: "[T, F, 1]"})
    if array.ndim == 3 and array.shape[2] != 1:
        raise ValueError(f"sound: `{argument}` has shape {array.shape}; it has to be [T, F] or [T, F, 1].")
    return array.reshape(array.shape[:2])


def _maps(attributions: Any, length: int) -> dict[str, np.ndarray]:
    """The maps by their names, `[N]` of samples or `[T, F]` of frames and bands."""
    named = attributions if isinstance(attributions, Mapping) else {"": attributions}
    if not named:
        raise ValueError("sound: `attributions` is empty; pass an array or {name: array}.")
    maps = {}
    for name, value in named.items():
        argument = f"attributions[{name!r}]" if isinstance(attributions, Mapping) else "attributions"
        shapes = {1: "[N]", 2: "[T, F]", 3: "[T, F, 1]"}
        array = batch(value, "sound", argument, shapes)
        if array.ndim == 1 and len(array) != length:
            raise ValueError(f"sound: `{argument}` holds {len(array)} samples, but `waveform` has {length}.")
        maps[plain(name)] = array if array.ndim == 1 else _flat(array, argument)
    return maps


def _behind(wave: np.ndarray, spectrogram: Any, frames: Frames) -> tuple[np.ndarray, Raster]:
    """What is drawn in grey: the spectrogram that was given, or the power in decibels in windows of the waveform."""
    if spectrogram is not None:
        given = _flat(spectrogram, "spectrogram")
        return given, frames.raster(given.shape)
    own = frames._replace(hop=frames.hop or -(-frames.size // 2), frequencies=None)
    starts = np.arange(0, len(wave) - own.size + 1, own.hop)
    windows = wave[starts[:, None] + np.arange(own.size)] * np.hanning(own.size + 2)[1:-1]
    power = np.abs(np.fft.rfft(windows)) ** 2
    floor = 1e-8 * power.max() or 1.0
    return 10 * np.log10(np.maximum(power, floor)), own.raster(power.shape)


def _grey(values: np.ndarray, half: bool) -> Normalize:
    """White to black, or `half` of the way, where colours lie over it."""
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    return Normalize(low, low + (2 * span if half else span))


def _mesh(axes: Axes, raster: Raster, values: np.ndarray, **style: Any) -> None:
    axes.pcolormesh(raster.seconds, raster.hertz, values.T, shading="flat", linewidth=0, **style)


def _draw_bands(figure: Figure, axes: Axes, raster: Raster, values: np.ndarray, label: str) -> None:
    norm = diverging(largest(values))
    opacity = np.clip(np.abs(values) / (norm.vmax or 1.0), 0, 1)
    _mesh(axes, raster, values, cmap=DIVERGING, norm=norm, alpha=opacity.T)
    colour_bar(figure, axes, norm, values=values, label=label)


def _draw_wave(
    figure: Figure, axes: Axes, wave: np.ndarray, values: np.ndarray | None, setting: tuple[float, Any, str]
) -> None:
    rate, stretch, label = setting
    axes.set_ylabel("amplitude")
    if values is None:
        axes.plot(np.arange(len(wave)) / rate, wave, color="black", linewidth=0.7)
        return
    size = stretch_size(stretch, len(wave), "sound")
    sums = stretch_sums(values, size)
    norm = diverging(largest(sums))
    coloured_curve(axes, wave, sums, size, norm, step=1 / rate, mark="background")
    colour_bar(figure, axes, norm, values=sums, label=label + (f",\nsums of {size} samples" if size > 1 else ""))
