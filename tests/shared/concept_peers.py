"""A network, a concept and attributions that peers were asked about, made from sines so that every library has them."""

import numpy as np


def wave(shift, *shape):
    return np.sin(shift + 1.7 * np.arange(np.prod(shape)) + 0.013 * np.arange(np.prod(shape)) ** 2).reshape(shape)


FIRST, SECOND = wave(1, 6, 5), wave(2, 5, 3)
WITH, WITHOUT = wave(3, 30, 6) + np.eye(6)[0], wave(4, 30, 6)
ASKED, TARGET = wave(5, 40, 6), 1
MAPS = np.concatenate([wave(6, 14, 5) + 3 * np.eye(5)[0], wave(7, 10, 5) + 3 * np.eye(5)[1], wave(8, 8, 5) - 2])
NEIGHBOURS = 5
