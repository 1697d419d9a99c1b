"""What a model would say if it ended at an earlier layer: the logit lens, the tuned lens and the Jacobian lens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.internals import changed
from jaxplain.program import Function, as_function, is_array, public, setting
from jaxplain.program.trace import AUTO, Selected, Shown, Tap, View, look, refuse_hidden, run, shown_of
from jaxplain.types import Array, Pytree

HOWS = ("logit", "tuned", "jacobian")


class _Layer(NamedTuple):
    """One layer of a lens: its path, where it is, and its value."""

    path: str
    selected: Selected
    how: Shown
    value: Array


class Lens(Function):
    """A model read at its layers: `(x, *args) -> {path: outputs}`. Made by `lens`."""

    f: Any
    translators: Any
    paths: tuple[str, ...] = setting()
    how: str = setting(default="logit")

    def __call__(self, x: Pytree, *args: Any) -> dict[str, Any]:
        """For each layer, in the order of a run, outputs as those of f."""
        view = look(self.f, (x, *args), "lens")
        layers = self._layers(view)
        return {layer.path: self._read(view, layer, layers[-1], self.translators) for layer in layers}

    def _read(self, view: View, layer: _Layer, last: _Layer, translators: Any) -> Any:
        if self.how == "jacobian":
            rest = lambda h: changed(view, [(layer.selected, layer.how, h)])  # noqa: E731
            return jax.jvp(rest, (layer.value,), (layer.value,))[1]
        value = layer.value
        if self.how == "tuned" and layer is not last:
            own = translators[layer.path]
            bias = jnp.broadcast_to(own["bias"], value.shape)
            value = (value + value @ own["weight"] + bias).astype(value.dtype)
        return changed(view, [(last.selected, last.how, value)])

    def _layers(self, view: View) -> list[_Layer]:
        """The layers that are read; the last one's rest is what all are read with."""
        found = shown_of(view, view.select(self.paths), self.paths, AUTO)
        ordered = sorted(found.items(), key=lambda item: item[1][0].site.route)
        for _, (selected, _) in ordered:
            refuse_hidden(Tap(selected.site, selected.key, keep=True), "lens")
            if selected.site.loops or (selected.leaf is None and len(selected.site.variables) > 1):
                raise ValueError(
                    f"lens: {selected.key!r} is inside a `lax.scan` or holds several arrays. Read layers outside of "
                    "loops, and pick one array of several, as in 'block_*[0]'."
                )
        taps = [Tap(selected.site, selected.call, keep=True) for _, (selected, _) in ordered]
        _, values = run(view.program, view.leaves, [(tap.site.route, tap) for tap in taps], {}, outputs=False)
        layers = [
            _Layer(path, selected, how, how.show(values[selected.call])[selected.leaf or 0])
            for path, (selected, how) in ordered
        ]
        self._check(layers)
        return layers

    def _check(self, layers: Sequence[_Layer]) -> None:
        last = layers[-1]
        for layer in layers:
            if not jnp.issubdtype(layer.value.dtype, jnp.floating):
                raise TypeError(
                    f"lens: {layer.path!r} holds {layer.value.dtype}, and a lens reads floating-point layers."
                )
            if self.how != "jacobian" and layer.value.shape != last.value.shape:
                raise ValueError(
                    f"lens: {layer.path!r} has shape {layer.value.shape}, but the last layer, {last.path!r}, "
                    f"{last.value.shape}: what follows the last one reads all of them. Pass paths of layers of one "
                    "shape, such as those that end each block."
                )
        if self.how == "tuned":
            missing = [layer.path for layer in layers[:-1] if layer.path not in (self.translators or {})]
            if missing:
                raise ValueError(
                    f"lens: the tuned lens has no translator for {', '.join(map(repr, missing))}. Train them by "
                    "`jaxplain.train.tuned_lens(f, paths, rows, key=key)` and pass `translators=` its result."
                )

    def start(self, x: Pytree, *args: Any) -> dict[str, dict[str, Array]]:
        """Translators that change nothing, for each layer but the last."""
        layers = Lens(self.f, None, self.paths, "logit")._layers(look(self.f, (x, *args), "lens"))
        return {
            layer.path: {
                "weight": jnp.zeros((layer.value.shape[-1],) * 2, layer.value.dtype),
                "bias": jnp.zeros(layer.value.shape[-1], layer.value.dtype),
            }
            for layer in layers[:-1]
        }

    def divergences(self, translators: Mapping[str, Any], x: Pytree, *args: Any) -> Array:
        """KL(model || lens) in nats, its mean over positions, for each layer but the last."""
        read = Lens(self.f, translators, self.paths, "tuned")(x, *args)
        outputs = list(read.values())
        if not all(is_array(output) and jnp.issubdtype(output.dtype, jnp.floating) for output in outputs):
            raise TypeError("lens: the function has to return logits, one array with an axis of tokens at the end.")
        wanted = jax.lax.stop_gradient(jax.nn.log_softmax(outputs[-1]))
        gaps = [jnp.exp(wanted) * (wanted - jax.nn.log_softmax(output)) for output in outputs[:-1]]
        return jnp.stack([gap.sum(axis=-1).mean() for gap in gaps])


@public
def lens(f: Callable[..., Any], paths: Any, how: str = "logit", *, translators: Any = None) -> Lens:
    """Read the model's outputs off its earlier layers.

    What follows the last of the layers (a normalisation and the unembedding, in a transformer) is found by cutting the
    model there, and reads every layer h_l, by `how`:

    * `"logit"`: rest(h_l), as if the layers between were not there;
    * `"tuned"`: rest(h_l + h_l W_l + b_l), with translators trained to say what the model says;
    * `"jacobian"`: the derivative of everything behind layer l, at h_l, applied to h_l.

    Args:
        f: `f(x, *args) -> outputs`, such as logits `[T, K]`: `lambda x: apply(params, x[None])[0]`, or a score.
        paths: A path or pattern of the layers, as in `capture`, or several: what ends each block, as `"block_*"`.
        how: Which lens.
        translators: For `"tuned"`: `{path: {"weight": [D, D], "bias": [D]}}`, from `jaxplain.train.tuned_lens`.

    Returns:
        `(x, *args) -> {path: outputs}` in the order of a run, outputs as f's. At the last layer the logit and the tuned
        lens are f itself. Cost: one forward pass, and for each layer what follows the last (`"jacobian"`: a derivative
        of what follows the layer).

    Raises:
        ValueError: As in `capture`; layers of several shapes, layers in a `lax.scan`, a missing translator.
        TypeError: A layer of integers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     for block in range(2):
        ...         with jax.named_scope(f"block_{block}"):
        ...             x = x + 1
        ...     return x @ jnp.array([1.0, 2.0])
        >>> {path: float(out) for path, out in lens(f, "block_*")(jnp.zeros(2)).items()}
        {'block_0': 3.0, 'block_1': 6.0}

    Source: nostalgebraist 2020, "Interpreting GPT: the logit lens"; Belrose et al. 2023, "Eliciting latent predictions
    from transformers with the tuned lens", equation 3.
    """
    names = (paths,) if isinstance(paths, str) else paths
    if not isinstance(names, Sequence) or not all(isinstance(path, str) for path in names) or not names:
        raise TypeError(f"lens: `paths` has to be a path such as 'block_*', or several, not {paths!r}.")
    check.choice(how, HOWS, "lens", "how")
    if translators is not None and not isinstance(translators, Mapping):
        raise TypeError(f"lens: `translators` has to be a mapping from paths, not {type(translators).__name__}.")
    if not callable(f):
        raise TypeError(f"lens: `f` has to be a function f(x, *args) -> outputs, not {type(f).__name__}.")
    return Lens(as_function(f), translators, tuple(names), how)
