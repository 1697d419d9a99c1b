"""A sound over seconds and hertz: where samples, frames and bands lie, and where a tone is."""

import matplotlib
import numpy as np
import pytest

from jaxplain import plot
from shared.figures import whole

RATE = 8000
TIME = np.arange(4000) / RATE
WAVE = np.where((TIME > 0.2) & (TIME < 0.3), np.sin(2 * np.pi * 1500 * TIME), 0.0)
RED = matplotlib.colormaps["RdBu_r"]


def meshes(axes):
    return [part for part in axes.collections if hasattr(part, "get_coordinates")]


def test_the_spectrogram_has_a_tone_where_it_sounds():
    figure = plot.sound(WAVE, np.zeros(4000), rate=RATE, window=256, hop=128)
    top, below = figure.axes[:2]
    np.testing.assert_allclose(top.lines[0].get_xdata(), TIME)
    np.testing.assert_allclose(top.get_xlim(), (0, 0.5))
    assert (top.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("amplitude", "frequency (Hz)", "time (s)")
    power, corners = meshes(below)[0].get_array(), meshes(below)[0].get_coordinates()
    band, frame = np.unravel_index(np.argmax(power), power.shape)
    low, high = corners[band, frame], corners[band + 1, frame + 1]
    assert low[1] <= 1500 <= high[1]
    assert 0.2 <= low[0] <= high[0] <= 0.3
    assert corners[0, 0, 0] == pytest.approx(0.5 * 128 / RATE)  # the first frame's middle is at sample 128
    assert np.ptp(power) <= 80 + 1e-9


def test_attributions_of_bands_lie_over_the_spectrogram():
    values = np.zeros((4, 8))
    values[1, 2], values[3, 7] = 2.0, -1.0
    figure = plot.sound(WAVE, values[..., None], rate=RATE, spectrogram=RANDOM.random((8, 16)), units="margin")
    _, below, bar = figure.axes
    grey, over = meshes(below)
    np.testing.assert_allclose(over.get_coordinates()[2, 1], [0.125, 1000])  # of 0.5 s and 4000 Hz
    np.testing.assert_allclose(grey.get_coordinates()[2, 1], [0.0625, 500])
    np.testing.assert_allclose(over.get_array(), values.T)
    np.testing.assert_allclose(over.get_alpha(), np.abs(values).T / 2)
    assert over.get_clim() == (-2, 2)
    assert bar.get_ylabel() == "attribution (margin)"


RANDOM = np.random.default_rng(0)


def test_several_maps_have_a_panel_each():
    when = np.zeros(4000)
    when[1600:2400] = 1.0
    maps = {"when": when, "where": RANDOM.normal(size=(6, 5)), "random": RANDOM.normal(size=(6, 5))}
    figure = plot.sound(WAVE, maps, rate=RATE, frequencies=[100, 200, 400, 800, 1600], window=500, hop=600, stretch=400)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    over = "; grey: spectrogram, darker is more"
    assert titles == ["when", f"where{over}", f"random{over}"]
    top, second = figure.axes[:2]
    (stretches,) = meshes(top)
    np.testing.assert_allclose(np.ravel(stretches.get_array()), [0, 0, 0, 0, 400, 400, 0, 0, 0, 0])
    np.testing.assert_allclose(stretches.get_coordinates()[0, :, 0], (400 * np.arange(11) - 0.5) / RATE)
    corners = meshes(second)[1].get_coordinates()
    np.testing.assert_allclose(corners[:, 0, 1], [50, 150, 300, 600, 1200, 2000])
    np.testing.assert_allclose(corners[0, :2, 0], [-50 / RATE, 550 / RATE])
    assert figure.axes[3].get_ylabel() == "attribution,\nsums of 400 samples"


@pytest.mark.slow
def test_any_sound_is_drawn_whole():
    for figure in (
        plot.sound([0, 0], [0, 0], rate=1),
        plot.sound(np.zeros(300, int), np.zeros((1, 1)), rate=44100),
        plot.sound(
            RANDOM.normal(size=16000), {"a" * 60: -RANDOM.random(16000), "π": RANDOM.normal(size=(99, 40))}, rate=16000
        ),
    ):
        whole(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.sound(WAVE[:, None], WAVE, rate=8000), r"`waveform` has shape \(4000, 1\); it has to be \[N\]"),
        (lambda: plot.sound(WAVE, WAVE[:9], rate=8000), "`attributions` holds 9 samples, but `waveform` has 4000"),
        (lambda: plot.sound(WAVE, np.ones((2, 3, 4)), rate=8000), r"it has to be \[T, F\] or \[T, F, 1\]"),
        (lambda: plot.sound(WAVE * np.nan, WAVE, rate=8000), "sound: `waveform` has 4000 NaN"),
        (lambda: plot.sound(WAVE, {}, rate=8000), "`attributions` is empty"),
        (lambda: plot.sound(WAVE, WAVE, rate=-1), "`rate` has to be finite and positive"),
        (lambda: plot.sound(WAVE, WAVE, rate=8000, window=5000), "`window` is 5000, but the sound has 4000"),
        (lambda: plot.sound(WAVE, np.ones((9, 4)), rate=8000, hop=900), "the last of 9 frames begins after"),
        (lambda: plot.sound(WAVE, np.ones((9, 2)), rate=8000, frequencies=[5, 4]), "`frequencies` have to rise"),
        (lambda: plot.sound(WAVE, np.ones((9, 4)), rate=8000, frequencies=[4, 5]), "holds 2, but a map has 4 bands"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
