"""Sets whose true attribution is known in closed form, each with the function that made its targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.data.pixels import checked_size
from jaxplain.data.splits import Dataset
from jaxplain.program import Function, public, shown
from jaxplain.types import Array


@shown
class Synthetic(NamedTuple):
    """A set and its closed-form score; `data.truth` marks what decides, `score.attribution` says how much."""

    data: Dataset
    score: Any


class PatchScore(Function):
    """A linear scorer that reads only the class's patch: f(x, k) = sum_p template_k[p] x[p].

    Attributes:
        templates: `[K, H, W, C]`, signs inside the class's patch and zero outside.
    """

    templates: Array

    def __call__(self, x: Array, target: Any) -> Array:
        """Score one image `[H, W, C]` for class `target`."""
        return jnp.sum(_row(self.templates, target, "PatchScore") * x)

    def attribution(self, x: Array, target: Any, baseline: Any = 0.0) -> Array:
        """The true attribution, template_k (x - baseline): integrated gradients, Shapley values and occlusion alike."""
        return _row(self.templates, target, "PatchScore") * (x - baseline)

    def mask(self, target: Any) -> Array:
        """Which pixels `[H, W, C]` the score of class `target` reads."""
        return _row(self.templates, target, "PatchScore") != 0


@public
def planted_patches(
    key: Array,
    examples: int = 1000,
    *,
    classes: int = 4,
    size: tuple[int, int] = (16, 16),
    channels: int = 1,
    patch: int = 4,
    contrast: float = 0.5,
    noise: float = 0.25,
) -> Synthetic:
    """Draw noise images with a planted patch: class k is a pattern of signs at a place of its own.

    x = 1/2 + (contrast / 2) template_y + noise u with u uniform in [-1, 1]; template_k is +1 and -1 in equal parts
    inside one square of a grid (the classes' squares do not overlap) and 0 elsewhere, so only the squares say anything
    about the class. Classes are equally frequent.

    Args:
        key: PRNG key.
        examples: Number of images N.
        classes: Number of classes K, at most the number of squares.
        size: (H, W) in pixels.
        channels: C.
        patch: Side of a square in pixels, at least 2.
        contrast: Difference between the pattern's two values.
        noise: Amplitude of the noise; contrast / 2 + noise is at most 1/2, which keeps images in [0, 1].

    Returns:
        The set, images `[N, H, W, C]` float32 in [0, 1], with the class's patch as `truth`, and its `PatchScore`, of
        which all attribution lies on the patch. The largest score over classes is the label up to noise. Other
        classes' squares also tell a trained model something (that they are empty): their union is
        `(score.templates != 0).any(0)`.

    Raises:
        ValueError, TypeError: Settings that do not fit together.

    Example:
        >>> data, score = planted_patches(jax.random.key(0), 20)
        >>> data.inputs.shape, int(data.truth[0].sum())
        ((20, 16, 16, 1), 16)
        >>> attribution = score.attribution(data.inputs[0], data.targets[0])
        >>> bool(jnp.isclose(attribution.sum(), score(data.inputs[0], data.targets[0])))
        True
    """
    name = "planted_patches"
    height, width = _checked_patches(name, examples, classes, size, channels, patch)
    for argument, value in (("contrast", contrast), ("noise", noise)):
        check.positive(value, name, argument, zero=argument == "noise")
    if contrast / 2 + noise > 0.5:
        raise ValueError(
            f"{name}: contrast / 2 + noise is {contrast / 2 + noise}; it has to be at most 0.5 for images in [0, 1]."
        )
    places, patterns, labels, background = jax.random.split(key, 4)
    templates = _templates(places, patterns, (height, width, channels), classes, patch)
    targets = _balanced(labels, examples, classes)
    u = jax.random.uniform(background, (examples, height, width, channels), minval=-1.0, maxval=1.0)
    images = 0.5 + contrast / 2 * templates[targets] + noise * u
    truth = np.asarray(templates[targets] != 0)
    data = Dataset(np.asarray(images), np.asarray(targets), truth, class_names=_numbered("class", classes))
    return Synthetic(data, PatchScore(templates))


def _checked_patches(name: str, examples: int, classes: int, size: Any, channels: int, patch: int) -> tuple[int, int]:
    height, width = checked_size(size, name)
    for argument, value, least in (("examples", examples, 1), ("classes", classes, 2), ("channels", channels, 1)):
        check.count(value, name, argument, least)
    check.count(patch, name, "patch", 2)
    squares = (height // patch) * (width // patch)
    if classes > squares:
        raise ValueError(
            f"{name}: {classes} classes need as many squares, but an image of {height}x{width} has {squares} of "
            f"{patch}x{patch}. Make `size` larger, or `patch` or `classes` smaller."
        )
    return height, width


def _templates(places: Array, patterns: Array, shape: tuple[int, int, int], classes: int, patch: int) -> Array:
    """Balanced signs in one square for each class: `[K, H, W, C]`."""
    height, width, channels = shape
    rows, columns = height // patch, width // patch
    squares = jax.random.permutation(places, rows * columns)[:classes]
    area = patch * patch * channels
    signs = jnp.where(jnp.arange(area) % 2 == 0, 1.0, -1.0)
    shuffled = jax.vmap(jax.random.permutation, (0, None))(jax.random.split(patterns, classes), signs)
    shuffled = shuffled.reshape(classes, patch, patch, channels)
    starts = jnp.stack([squares // columns * patch, squares % columns * patch, jnp.zeros_like(squares)], axis=1)
    return jax.vmap(lambda signs, start: jax.lax.dynamic_update_slice(jnp.zeros(shape), signs, start))(shuffled, starts)


class AdditiveScore(Function):
    """An additive function of a table's features: f(x) = sum_i g_i(x_i).

    g_i(x) = linear_i x + quadratic_i x^2 + amplitude_i sin(frequency_i x).

    Attributes:
        linear: `[D]`.
        quadratic: `[D]`.
        amplitude: `[D]`.
        frequency: `[D]`, radians per unit of x.
    """

    linear: Array
    quadratic: Array
    amplitude: Array
    frequency: Array

    def __call__(self, x: Array) -> Array:
        """Score one row `[D]`."""
        return jnp.sum(self.terms(x))

    def terms(self, x: Array) -> Array:
        """Each feature's term g_i(x_i), `[D]`."""
        return self.linear * x + self.quadratic * x**2 + self.amplitude * jnp.sin(self.frequency * x)

    def attribution(self, x: Array, baseline: Any = 0.0) -> Array:
        """The true attribution, g_i(x_i) - g_i(baseline_i): integrated gradients, Shapley values, occlusion alike."""
        return self.terms(x) - self.terms(jnp.broadcast_to(jnp.asarray(baseline, jnp.result_type(x)), jnp.shape(x)))

    def mask(self) -> Array:
        """Which features `[D]` the function depends on."""
        return (self.linear != 0) | (self.quadratic != 0) | (self.amplitude * self.frequency != 0)


@public
def additive_tabular(
    key: Array,
    examples: int = 1000,
    *,
    linear: int = 2,
    quadratic: int = 2,
    sine: int = 2,
    irrelevant: int = 2,
    noise: float = 0.0,
) -> Synthetic:
    """Draw a table whose target is a sum of one-feature terms: y = sum_i g_i(x_i) + noise.

    Features are independent and uniform in [-2, 2]; coefficients have random signs and magnitudes uniform in
    [0.5, 2], a sine's frequency is uniform in [1, 3].

    Args:
        key: PRNG key.
        examples: Number of rows N.
        linear: Number of features with a linear term.
        quadratic: Number of features with a quadratic term.
        sine: Number of features with a sine term.
        irrelevant: Number of features the target does not depend on.
        noise: Standard deviation of the Gaussian noise added to the targets.

    Returns:
        The set, inputs `[N, D]` and targets `[N]` float32, features named by their kind ('sine_1'), `truth` `[N, D]`
        False on irrelevant ones, and its `AdditiveScore`.

    Raises:
        ValueError, TypeError: Numbers below their least (1 example, 0 features of a kind), no feature at all.

    Example:
        >>> data, score = additive_tabular(jax.random.key(0), 5)
        >>> data.inputs.shape, data.feature_names[-1]
        ((5, 8), 'irrelevant_1')
        >>> attribution = score.attribution(data.inputs[0])
        >>> bool(jnp.isclose(attribution.sum(), data.targets[0])), attribution[-2:].tolist()
        (True, [0.0, 0.0])
    """
    name, kinds = "additive_tabular", {"linear": linear, "quadratic": quadratic, "sine": sine, "irrelevant": irrelevant}
    check.count(examples, name, "examples")
    check.positive(noise, name, "noise", zero=True)
    features = sum(check.count(value, name, kind, 0) for kind, value in kinds.items())
    if features == 0:
        raise ValueError(f"{name}: there are no features. Ask for at least one of {', '.join(kinds)}.")
    rows, sizes, signs, frequencies, errors = jax.random.split(key, 5)
    x = jax.random.uniform(rows, (examples, features), minval=-2.0, maxval=2.0)
    magnitude = jax.random.uniform(sizes, (features,), minval=0.5, maxval=2.0)
    coefficient = magnitude * jax.random.rademacher(signs, (features,), dtype=jnp.float32)
    frequency = jax.random.uniform(frequencies, (features,), minval=1.0, maxval=3.0)
    kind = np.repeat(np.arange(4), list(kinds.values()))
    by_kind = [jnp.where(kind == k, coefficient, 0.0) for k in range(3)]
    score = AdditiveScore(by_kind[0], by_kind[1], by_kind[2], jnp.where(kind == 2, frequency, 0.0))
    y = jax.vmap(score)(x) + noise * jax.random.normal(errors, (examples,))
    names = tuple(f"{word}_{i}" for word, value in kinds.items() for i in range(value))
    truth = np.broadcast_to(np.asarray(score.mask()), x.shape)
    return Synthetic(Dataset(np.asarray(x), np.asarray(y), truth, feature_names=names), score)


class MarkerScore(Function):
    """Counts a class's marker words: f(x, k) = sum_t weights[k, x_t] over real tokens.

    Attributes:
        weights: `[K, V]`, 1 where word v marks class k; padding (id 0) and fillers have 0.
    """

    weights: Array

    def __call__(self, x: Array, target: Any, mask: Array | None = None) -> Array:
        """Score one sequence of token ids `[T]` for class `target`, over the tokens where `mask` `[T]` is True."""
        return jnp.sum(self.attribution(x, target, mask))

    def attribution(self, x: Array, target: Any, mask: Array | None = None) -> Array:
        """The true attribution `[T]` of each token relative to padding in its place; exact for any subset of tokens."""
        values = _row(self.weights, target, "MarkerScore").at[x].get(mode="fill", fill_value=jnp.nan)
        return values if mask is None else jnp.where(mask, values, 0.0)


@public
def marker_tokens(
    key: Array,
    examples: int = 1000,
    *,
    classes: int = 2,
    length: int = 16,
    vocabulary: int = 32,
    words: int = 2,
    markers: int = 2,
) -> Synthetic:
    """Draw token sequences in which marker words decide the class and all others are filler.

    Ids: 0 is padding; 1 + k words, ..., (k + 1) words mark class k; the rest are fillers. A sequence of class k has
    `markers` marker words of that class at random places and none of another class. Its length is uniform between
    max(markers, length // 2) and `length`; padding is on the right. Classes are equally frequent.

    Args:
        key: PRNG key.
        examples: Number of sequences N.
        classes: Number of classes K.
        length: Padded length T.
        vocabulary: Number of token ids V, padding included; at least one is a filler.
        words: Number of marker words of each class.
        markers: Number of markers in a sequence, at most `length`.

    Returns:
        The set, inputs `(tokens [N, T] int32, mask [N, T] bool)` with the mask True on real tokens, labels int32
        `[N]`, `truth` `[N, T]` True on markers, and its `MarkerScore`.

    Raises:
        ValueError, TypeError: Settings that do not fit together.

    Example:
        >>> data, score = marker_tokens(jax.random.key(0), 4)
        >>> tokens, mask = data.inputs
        >>> tokens.shape, data.truth.sum(axis=1).tolist()
        ((4, 16), [2, 2, 2, 2])
        >>> float(score(tokens[0], data.targets[0], mask[0]))
        2.0
    """
    name = "marker_tokens"
    settings = {"examples": examples, "length": length, "vocabulary": vocabulary, "words": words, "markers": markers}
    for argument, value in settings.items():
        check.count(value, name, argument)
    fillers = vocabulary - 1 - check.count(classes, name, "classes", 2) * words
    if fillers < 1:
        raise ValueError(
            f"{name}: a vocabulary of {vocabulary} leaves no filler beside padding and {classes} x {words} markers; it "
            f"has to be at least {2 + classes * words}."
        )
    if markers > length:
        raise ValueError(f"{name}: {markers} markers do not fit into a sequence of length {length}.")
    drawn, labels, filling, marking, placing = jax.random.split(key, 5)
    shape, targets = (examples, length), _balanced(labels, examples, classes)
    lengths = jax.random.randint(drawn, (examples,), max(markers, length // 2), length + 1)
    mask = jnp.arange(length)[None, :] < lengths[:, None]
    places = jnp.argsort(jnp.where(mask, jax.random.uniform(placing, shape), 2.0), axis=1)
    truth = jnp.argsort(places, axis=1) < markers  # the real tokens of the lowest draws
    marker = 1 + targets[:, None] * words + jax.random.randint(marking, shape, 0, words)
    filler = jax.random.randint(filling, shape, vocabulary - fillers, vocabulary)
    tokens = jnp.where(mask, jnp.where(truth, marker, filler), 0)
    marked = (jnp.arange(vocabulary) - 1) // words  # the class that a word marks; -1 for padding
    weights = (marked[None, :] == jnp.arange(classes)[:, None]).astype(jnp.float32)
    inputs = np.asarray(tokens, np.int32), np.asarray(mask)
    data = Dataset(inputs, np.asarray(targets), np.asarray(truth), class_names=_numbered("class", classes))
    return Synthetic(data, MarkerScore(weights))


def _balanced(key: Array, examples: int, classes: int) -> Array:
    return jax.random.permutation(key, jnp.arange(examples, dtype=jnp.int32) % classes)


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i}" for i in range(count))


def _row(table: Array, target: Any, name: str) -> Array:
    """The target's row; a concrete label outside the classes is an error, a traced one gives NaN."""
    if not jnp.issubdtype(jnp.result_type(target), jnp.integer) or jnp.shape(target) != ():
        raise TypeError(f"{name}: the target has {check.describe(target)}; pass one integer class.")
    if check.is_concrete(target):
        check.label_range(np.asarray(target), len(table), name)
        return table[target]
    valid = (target >= 0) & (target < len(table))
    return jnp.where(valid, table.at[target].get(mode="clip"), jnp.nan)
