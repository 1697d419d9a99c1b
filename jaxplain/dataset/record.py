"""What is known of one explained example: the attribution, what it explains, the score, and how far to trust it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import is_background, replacement, tokens_alone
from jaxplain.dataset.target import is_label, require_one_input, require_target, set_aside
from jaxplain.explain import explain_rows
from jaxplain.explain.gradient import ExpectedGradients, IntegratedGradients
from jaxplain.program import (
    Function,
    as_function,
    escaped,
    is_hosted,
    leaves_by_parts,
    needs_key,
    setting,
    total,
    with_own_errors,
)
from jaxplain.program.trace import Compiled
from jaxplain.readout import wide
from jaxplain.score import ModelScore
from jaxplain.types import Array, Pytree

NAME = "explain_dataset"


class Record(Function):
    """An explanation that returns a dictionary of all that is known of an example. Made by `as_record`.

    attribution: as `reduce` and `dtype` leave it; whole: as the method gave it, where an aggregate wants it and
    `attribution` is something else; finite: whether neither has NaN or infinities. Where they are known: target,
    label, prediction, score, baseline_score, gap, and the further fields of a method that returns more.
    """

    explain: Any
    reduce: Any
    prepare: Any = None
    target: str | int | None = setting(default=None)
    dtype: str | None = setting(default=None)
    whole: bool = setting(default=False)

    @property
    def needs_key(self) -> bool:
        """As the explanation."""
        return needs_key(self.explain)

    @property
    def name(self) -> str:
        """The explanation's name, for errors."""
        return str(getattr(self.explain, "name", type(self.explain).__name__))

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Explain one example, `(x, *args)` or `(key, x, *args)`, and note what is known of it."""
        key, x, args = (inputs[0], inputs[1], inputs[2:]) if self.needs_key else (None, inputs[0], inputs[1:])
        x = x if self.prepare is None else _traced(self.prepare, x)
        facts, args = Facts(self.explain, self.target)(key, x, *args)
        result = self.explain(x, *args) if key is None else self.explain(key, x, *args)
        return self.finish(result, facts)

    def finish(self, result: Any, facts: dict[str, Any]) -> dict[str, Any]:
        """The dictionary, from what the explanation returned and the facts known without it."""
        attribution, more = _taken_apart(result)
        if "baseline_score" in facts and "gap" not in more:
            more = {**more, "gap": total(attribution) - (facts["score"] - facts["baseline_score"])}
        kept = attribution if self.reduce is None else self.reduce(attribution)
        if self.dtype is not None:
            kept = jax.tree.map(lambda leaf: leaf.astype(self.dtype) if check.is_floating(leaf) else leaf, kept)
        record = {**facts, **more, "attribution": kept, "finite": _finite((attribution, kept))}
        if self.whole and not (self.reduce is None and self.dtype is None):
            record["whole"] = attribution
        return record


class Facts(Function):
    """What is known of an example before it is explained."""

    explain: Any
    target: str | int | None = setting(default=None)

    def __call__(self, key: Any, x: Pytree, *args: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The facts by name, and the arguments with which the explanation is called."""
        score = find_score(self.explain)
        facts: dict[str, Any] = {}
        # A score of text has places and tokens after x, and is asked for its value as a whole.
        outputs = wide(score.outputs(x, *args[1:])) if type(score) is ModelScore else None
        if self.target is not None:
            own = set_aside(args, self.target, outputs)
            if is_label(own):
                facts["label"] = own
            args = (self.target, *args[1:])
        if outputs is not None:
            facts["prediction"] = _prediction(score, outputs)
        if self.target == "predicted":
            if outputs is None or outputs.ndim > 1:
                raise ValueError(
                    f"{NAME}: target='predicted' needs a score of a model with one row of outputs [K] (made by logit, "
                    f"probability, log_probability or margin); {self._shown(outputs)}. Pass the targets with the data."
                )
            args = (_choice(score, outputs, facts["prediction"]), *args[1:])
        if args and is_label(args[0]):
            facts["target"] = jax.tree.map(jnp.asarray, args[0])
        value = _value(score, outputs, x, args)
        if value is not None:
            facts["score"] = value
            start = _start(self.explain, key, x)
            if start is not None:
                facts["baseline_score"] = wide(score(start, *args))
        return facts, args

    def _shown(self, outputs: Any) -> str:
        return "this explanation holds none" if outputs is None else f"its outputs have shape {outputs.shape}"


def with_target(e: Any, x: Pytree, args: tuple[Any, ...], target: str | int) -> tuple[Any, ...]:
    """The arguments behind x that an explanation of a batch is called with, once a target takes its place.

    Args:
        e: The explanation.
        x: Inputs `[B, ...]`.
        args: What the data hold behind them.
        target: 'predicted', or one class for all.

    Raises:
        ValueError: As `explain_dataset` with the same target.
    """
    require_target(target, e, find_score(e))
    return jax.jit(jax.vmap(lambda x, args: Facts(e, target)(None, x, *args)[1]))(x, args)


def as_record(e: Any, *, target: Any, reduce: Any, prepare: Any, dtype: Any, whole: bool) -> Record:
    """Wrap an explanation (taken by `as_function`) so that it notes what is known of each example."""
    if reduce is not None and not callable(reduce):
        raise TypeError(
            f"{NAME}: `reduce` is {type(reduce).__name__}; pass a function of one attribution, such as "
            "jaxplain.dataset.channel_sum()."
        )
    if prepare is not None and not callable(prepare):
        raise TypeError(f"{NAME}: `prepare` has to be a function of one example's input, not {check.short(prepare)}.")
    if target is not None and target != "predicted":
        target = check.count(target, NAME, "target", least=0) if not isinstance(target, str) else None
        if target is None:
            raise ValueError(f"{NAME}: `target` has to be None (the data's targets), 'predicted' or one class.")
    name = None
    if dtype is not None:
        try:
            name = str(jnp.dtype(dtype))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{NAME}: `dtype` is {check.short(dtype)}, not a dtype such as 'float16'.") from error
        if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
            raise TypeError(f"{NAME}: `dtype` is {name}; attributions are kept as floating-point numbers.")
    if _adaptive(e):  # its Convergence says what is known of the error
        e = dataclasses.replace(e, with_gap=True)
    if target is not None:
        require_target(target, e, find_score(e))
    if prepare is not None:
        require_one_input(e, "prepare")
    reduce, prepare = (None if function is None else as_function(function) for function in (reduce, prepare))
    return Record(e, reduce, prepare, target, name, whole)


def record_rows(record: Record, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> dict[str, Any]:
    """The records of a batch, by the compiled call of `explain_batch`; `[B, ...]` on every leaf."""
    if is_hosted(record):  # waited for, to hear of the function's own errors
        return with_own_errors(lambda: _rows(record, keys, x, args))
    return _rows(record, keys, x, args)


def _rows(record: Record, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> dict[str, Any]:
    if not _adaptive(record.explain):
        return explain_rows(record, keys, x, args)
    x = prepared(record, x)
    facts, args = _facts(record, keys, x, args)
    return _finish(record, explain_rows(record.explain, keys, x, args), facts)


def prepared(record: Record, x: Pytree) -> Pytree:
    """A batch of inputs as the explanation takes them."""
    return x if record.prepare is None else _prepare(record.prepare, x)


@Compiled
def _prepare(prepare: Any, x: Pytree) -> Pytree:
    return jax.vmap(lambda one: _traced(prepare, one))(x)


def _traced(prepare: Any, x: Pytree) -> Pytree:
    try:
        return prepare(x)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{NAME}: `prepare` runs on the device and has to be written with jax.numpy; what is written with NumPy "
            "belongs into `transform`, which runs on the host."
        ) from error


def _adaptive(e: Any) -> bool:
    return isinstance(e, IntegratedGradients) and e.adaptive


@Compiled
def _facts(record: Record, keys: Array | None, x: Pytree, args: tuple[Any, ...]) -> Any:
    facts = Facts(record.explain, record.target)
    return jax.vmap(lambda key, x, args: facts(key, x, *args))(keys, x, args)


@Compiled
def _finish(record: Record, result: Any, facts: dict[str, Any]) -> dict[str, Any]:
    return jax.vmap(record.finish)(result, facts)


def find_score(e: Any) -> Any:
    """The score that an explanation explains: its field `score`, or that of the explanation it wraps; or None."""
    if not isinstance(e, Function):
        return None
    score = getattr(e, "score", None)
    return score if score is not None else find_score(getattr(e, "explain", None))


def _taken_apart(result: Any) -> tuple[Pytree, dict[str, Any]]:
    """The attribution, and the further fields of a named tuple that holds one."""
    if isinstance(result, tuple) and "attribution" in getattr(result, "_fields", ()):
        more = result._asdict()  # type: ignore[attr-defined]
        taken = sorted(set(more) & {"id", "index", "finite", "whole", "prediction", "label", "target"})
        if taken:
            raise ValueError(
                f"{NAME}: the explanation returns the fields {taken} beside 'attribution'; these names are kept for "
                "what is known of every example. Rename the fields."
            )
        return more.pop("attribution"), more
    return result, {}


def _finite(attribution: Pytree) -> Array:
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(attribution) if check.is_floating(leaf)]
    return jnp.stack(leaves).all() if leaves else jnp.asarray(True)


def _prediction(score: ModelScore, outputs: Array) -> Array:
    """The class of each row of outputs; of one output its sign, and of a regression the value itself."""
    if score.name == "output":
        return outputs
    if outputs.ndim == 0 or outputs.shape[-1] == 1:
        return (outputs.reshape(outputs.shape[:-1]) > 0).astype(jnp.int32)
    return jnp.argmax(outputs, axis=-1).astype(jnp.int32)


def _choice(score: ModelScore, outputs: Array, prediction: Array) -> Array:
    """The predicted class as a target of the score."""
    if score.name == "output":
        return jnp.argmax(outputs).astype(jnp.int32)
    transformed = getattr(score.reduce, "transformed", None)
    single = transformed is not None and jax.eval_shape(transformed, outputs).shape == (1,)
    return jnp.zeros((), jnp.int32) if single else prediction


def _value(score: Any, outputs: Any, x: Pytree, args: tuple[Any, ...]) -> Any:
    """f(x), from the outputs where they are there; None where no score is known."""
    if outputs is not None:
        return wide(score.reduce(outputs, args[0] if args else None, score.name))
    return None if score is None else wide(score(x, *args))


def _start(e: Any, key: Any, x: Pytree) -> Pytree | None:
    """The one baseline of a method that has one and a score of its own; None for others, and for sets of baselines."""
    ids = tokens_alone(x)
    if isinstance(e, IntegratedGradients) and not ids:
        return e.start(key, x)
    baseline = None if isinstance(e, ExpectedGradients) else getattr(e, "baseline", None)
    if baseline is None or getattr(e, "score", None) is None or needs_key(baseline) or is_background(baseline, x):
        return None
    found = replacement(baseline, x, name=NAME)
    return None if ids and not any(found.moves) else found.values  # rows of zeros are those of no ids


def named(record: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a record by name; those of a pytree by their path under it, of escaped names."""
    flat: dict[str, Any] = {}
    for name, tree in record.items():
        if name != "whole":
            for parts, leaf in leaves_by_parts(tree).items():
                flat["/".join((name, *map(escaped, parts)))] = leaf
    return flat
