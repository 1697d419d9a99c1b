"""What every figure has to be, whatever it was given: drawn whole, nothing cut off, no text over another."""

import warnings

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def whole(figure):
    """The figure, drawn without a warning: its edges are empty, and no level or upright text lies over another."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    assert (np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) == 255).all(), "cut off"
    assert figure.get_label()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(label) for axis in figure.findobj(Axis) for label in _outside(axis)}
    texts = [text for text in texts if id(text) not in hidden and text.get_rotation() % 90 == 0]
    boxes = np.array([text.get_window_extent().extents for text in texts])
    low, high = boxes[:, None, :2] + 1.5, boxes[:, None, 2:] - 1.5
    over = ((low < boxes[None, :, 2:]) & (boxes[None, :, :2] < high)).all(axis=-1) & ~np.eye(len(texts), dtype=bool)
    clash = [(texts[a].get_text(), texts[b].get_text()) for a, b in np.argwhere(over)]
    assert not clash, clash[:3]
    return figure


def _outside(axis):
    """Labels of ticks that lie beyond the axis and are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    slack = 1e-6 * (high - low)
    return [tick.label1 for tick in ticks if not low - slack <= tick.get_loc() <= high + slack]
