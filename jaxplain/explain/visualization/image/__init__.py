"""Image parameterisations: what an optimised input is made of.

Each offers `init(key) -> theta` and `render(theta) -> x`, for inputs of any number of channels: `pixels`, `fourier`,
`pyramid`, `cppn` and `maco` for images and signals, `vector` for rows of a table and embedding sequences, `ball` around
a given input; `alpha` adds a channel of opacity, `batch` optimises several together, `start` begins at a given input.
"""

from jaxplain.explain.visualization.image.colour import colour_matrix
from jaxplain.explain.visualization.image.compose import Several, alpha, batch, shape_of, start
from jaxplain.explain.visualization.image.pattern import cppn, pyramid
from jaxplain.explain.visualization.image.pixel import ball, pixels, vector
from jaxplain.explain.visualization.image.spectrum import fourier, maco

__all__ = [
    "Several",
    "alpha",
    "ball",
    "batch",
    "colour_matrix",
    "cppn",
    "fourier",
    "maco",
    "pixels",
    "pyramid",
    "shape_of",
    "start",
    "vector",
]
