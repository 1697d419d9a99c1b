"""Normalisations, recognised by what they compute: a linear function of x times a root of a second moment of x.

Between the value that is normalised and the result every value has a form: linear in x (x itself, a mean, a centred x),
of second degree (squares, variances, sums of products; a constant such as an epsilon may be added), a scale (a root of
a second moment, or its inverse), or normalised (linear times an inverse scale). How each is written makes no
difference: the variance as a mean of squares or as a product, the mean with weights or a mask, the root as a power.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxplain.program.node.dominance import Dominance
from jaxplain.program.node.facts import MOVES, Facts, Group
from jaxplain.program.node.flat import Step, Value
from jaxplain.program.node.probe import PROBES, evaluate, is_elementwise, name_of
from jaxplain.program.trace import CUSTOM_DERIVATIVES

# fmt: off
_MOVES = MOVES | {
    "concatenate", "dynamic_slice", "gather", "optimization_barrier", "pad", "reduce_precision", "rev", "slice",
    "split", "stop_gradient",
}
_SUMS = frozenset((
    "cumsum", "psum", "psum2", "psum_invariant", "reduce_sum", "reduce_window_sum", "scatter-add", "scatter_add",
))
_LARGEST = frozenset(("reduce_max", "reduce_min", "reduce_window_max"))
_CLOSED = frozenset(("scan", "cond", "while"))
_PRODUCTS = ("dot_general", "conv_general_dilated")
_ADDITIONS = frozenset(("add", "add_any", "sub"))
_BOUNDS = frozenset(("max", "min", "clamp"))
_BESIDE = _MOVES | _ADDITIONS | _BOUNDS | {"mul", "div", "select_n", "abs", "integer_pow", "neg"}
_TESTS = frozenset(("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "is_finite"))
_POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2.0}
# fmt: on


class Form(NamedTuple):
    """What a value is of the value that is normalised.

    kind: "linear", "size" (the absolute value of what is linear), "power" (of degree 2 or -2), "log" (of a power),
    "scale" (1 or -1), "normal", or "test" (whether a scale is what it should be); summed: whether a sum went into it;
    roots: the scales that what is normalised was multiplied by.
    """

    kind: str
    degree: int = 1
    summed: bool = False
    roots: frozenset[Value] = frozenset()


def normalizations(facts: Facts, dominance: Dominance) -> Iterator[Group]:
    """All normalisations of a program; one may be a part of another (x s in x s - mean s)."""
    candidates, normal = scalings(facts), set[Value]()
    for index, step in enumerate(facts.steps):
        varying = facts.varying(step)
        joins = step.name in _ADDITIONS and len(varying) == 2 and normal.issuperset(varying)
        if index in candidates or joins:
            entry = dominance.common(*varying)
            output = step.results[0]
            found = None if entry is None else _typed(facts, dominance, entry, output)
            if found is not None:
                normal.add(output)
                yield from _whole(facts, dominance, *found, output)
        elif len(varying) == 1 and varying[0] in normal and step.name in (*_MOVES, *_ADDITIONS, "mul", "div", "neg"):
            normal.update(step.results)


def scalings(facts: Facts) -> dict[int, Value]:
    """The steps that multiply by one over a sum or its root, or divide by a root: what looks like a normalisation.

    Returns:
        For the index of each step the root, or what was made of it.
    """
    degrees: dict[Value, int] = {}
    found: dict[int, Value] = {}
    for index, step in enumerate(facts.steps):
        varying = facts.varying(step)
        if not varying:
            continue
        root, scaled = _root(facts, step), [value for value in varying if value in degrees]
        if root is not None and (degree := _sums_up(facts, root[0])) != 0:
            degrees[step.results[0]] = degree if root[1] > 0 else -degree
        elif not scaled and _inverts(facts, step) and (degree := _sums_up(facts, varying[0])) != 0:
            degrees[step.results[0]] = -degree
        elif scaled and all(value in degrees or not value.is_floating for value in varying):
            sign = -1 if _inverts(facts, step) else 1
            degrees.update(dict.fromkeys(step.results, sign * degrees[scaled[0]]))
        elif len(varying) == 2 and step.name == "mul" and any(degrees.get(value) == -1 for value in varying):
            found[index] = next(value for value in varying if degrees.get(value) == -1)
        elif len(varying) == 2 and step.name == "div" and degrees.get(step.operands[1]) == 1:
            found[index] = step.operands[1]
    return found


def _sums_up(facts: Facts, value: Value) -> int:
    """1 for a sum over what varies, but for what scales, shifts and bounds it; -1 for one over it; 0 for no sum."""
    degree = 1
    for _ in range(24):
        step = facts.source(value)
        if step is None:
            return 0
        sums = step.name in _SUMS | _LARGEST | _CLOSED
        if sums or (step.name in _PRODUCTS and _squares(facts, step)):
            return degree
        varying = [v for v in facts.varying(step) if v.is_floating]
        if not varying or not (step.name in _BESIDE or _is_rectifier(step)):
            return 0
        value = varying[0]
        degree = -degree if _inverts(facts, step) else degree
    return 0


def _root(facts: Facts, step: Step) -> tuple[Value, float] | None:
    """The value that a step takes a root of, and the exponent; exp(c log(v)) is one."""
    exponent = _exponent(facts, step)
    if exponent is not None and not exponent.is_integer():
        return step.operands[0], exponent
    factor, value = 1.0, step.operands[0] if step.name == "exp" else None
    while value is not None and (before := facts.source(value)) is not None:
        if before.name == "log":
            return before.operands[0], factor
        varying, number = facts.varying(before), _factor(facts, before)
        factor, value = (factor * number, varying[0]) if number is not None and varying else (factor, None)
    return None


def _factor(facts: Facts, step: Step) -> float | None:
    """The number that a step multiplies its one varying operand by."""
    if step.name in (*MOVES, "neg"):
        return -1.0 if step.name == "neg" else 1.0
    numbers = [facts.numbers[value] for value in step.operands if value in facts.numbers]
    if step.name not in ("mul", "div") or len(numbers) != 1 or len(facts.varying(step)) != 1:
        return None
    if step.name == "div":
        return 1 / float(numbers[0]) if step.operands[0] in facts.depends and numbers[0] != 0 else None
    return float(numbers[0])


def _inverts(facts: Facts, step: Step) -> bool:
    """Whether a step is one over its operand, times a constant."""
    return _exponent(facts, step) == -1 or (step.name == "div" and step.operands[0] not in facts.depends)


def _squares(facts: Facts, step: Step) -> bool:
    """Whether a product with weights sums squares, or a product of two values is one of what varies with itself."""
    varying = [value for value in step.operands if value in facts.depends]
    before = facts.source(facts.stripped(varying[0]))
    return len(varying) == 2 or (before is not None and (_exponent(facts, before) == 2 or before.name == "mul"))


class _Found(NamedTuple):
    """A normalisation from its entry on: its steps, and the scales that are constants to relevance."""

    entry: Value
    inside: list[int]
    held: dict[Value, int]


def _typed(facts: Facts, dominance: Dominance, entry: Value, output: Value) -> _Found | None:
    """The steps from an entry to an output, if they are a normalisation."""
    inside, forms, held = dominance.between(entry, output), {entry: Form("linear")}, dict[Value, int]()
    for index in inside:
        step = facts.steps[index]
        form = _form(facts, step, forms, held)
        if form is None:
            return None
        forms.update(dict.fromkeys(step.results, form))
    return _Found(entry, inside, held) if forms[output].kind == "normal" and entry.is_floating else None


def _whole(
    facts: Facts, dominance: Dominance, entry: Value, inside: list[int], held: dict[Value, int], output: Value
) -> Iterator[Group]:
    """The normalisation with its centring before and its learnt scale and shift behind it."""
    centred = _centred(facts, dominance, entry)
    if centred is not None and (found := _typed(facts, dominance, centred, output)) is not None:
        entry, inside, held = found
    size = math.prod(output.shape)
    while (index := facts.sole_user(output)) is not None and _is_affine(facts, facts.steps[index]):
        output, inside = facts.steps[index].results[0], [*inside, index]
    if math.prod(entry.shape) == size:
        yield Group("normalization", "normalization", tuple(sorted(inside)), entry, output, tuple(held.items()))


def _is_affine(facts: Facts, step: Step) -> bool:
    """Whether a step scales or shifts its one varying operand, in place."""
    varying = [value for value in step.operands if value in facts.depends]
    if len(varying) != 1 or varying[0].shape != step.results[0].shape:
        return False
    return step.name in (*_ADDITIONS, "mul") or (step.name == "div" and step.operands[0] is varying[0])


def _centred(facts: Facts, dominance: Dominance, value: Value) -> Value | None:
    """The value of which another is what is left without its mean; None where it is no such difference."""
    for _ in range(4):
        step = facts.source(value)
        varying = [] if step is None else facts.varying(step)
        if step is None or not varying:
            return None
        if step.name in _ADDITIONS and len(varying) == 2:
            above = dominance.common(*varying)
            sizes = [math.prod(facts.stripped(v).shape) for v in varying if facts.stripped(v) is not above]
            return above if above is not None and len(sizes) == 1 and sizes[0] < math.prod(above.shape) else None
        if len(varying) > 1 or step.name not in (*MOVES, "select_n", "mul", "neg"):
            return None
        value = varying[0]
    return None


def _form(facts: Facts, step: Step, forms: dict[Value, Form], held: dict[Value, int]) -> Form | None:
    """The form of a step's results; None where it is none of a normalisation. Scales that are used go into `held`."""
    operands = [forms.get(value) for value in step.operands]
    known = [form for form in operands if form is not None]
    kinds = {form.kind for form in known}
    if step.name in ("log", "exp") or "log" in kinds:
        return _by_logarithm(facts, step, known)
    if step.name in _TESTS:
        return Form("test") if kinds <= {"power", "scale", "test"} else None
    if step.name == "select_n":
        chosen = _joined([form for form in operands[1:] if form is not None])
        decided = operands[0] is None or (operands[0].kind == "test" and chosen is not None and chosen.kind != "linear")
        return chosen if decided else None
    if step.name in _MOVES or step.name == "neg":
        return _joined(known)
    if step.name in _ADDITIONS:
        return None if "size" in kinds and len(known) > 1 else _joined(known)
    if step.name == "abs":
        return known[0]._replace(kind="size") if known[0].kind == "linear" else known[0]
    if step.name in _BOUNDS or step.name in CUSTOM_DERIVATIVES:
        bounds = step.name in _BOUNDS or _is_rectifier(step)
        bounded = kinds <= {"power", "scale"} or (kinds == {"size"} and known[0].summed)
        return _joined(known) if bounds and bounded else None
    if step.name in _LARGEST:
        return Form("size", 1, True) if kinds <= {"linear", "size"} else None
    if (exponent := _exponent(facts, step)) is not None:
        return _raised(known[0], exponent, step.results[0])
    if step.name in ("mul", "div"):
        return _scaled(step, operands, held)
    return _summed(step, known)


def _by_logarithm(facts: Facts, step: Step, known: Sequence[Form]) -> Form | None:
    """The forms on the way of exp(c log(v)), the root of a second moment v."""
    form = known[0]
    if step.name == "log":
        return form._replace(kind="log") if form.kind == "power" and form.summed else None
    if step.name == "exp":
        sign = 1 if form.degree > 0 else -1
        return Form("scale", sign, True, frozenset(step.results)) if form.kind == "log" else None
    factor = _factor(facts, step)
    return form._replace(degree=form.degree if factor > 0 else -form.degree) if factor else None


def _joined(forms: Sequence[Form]) -> Form | None:
    """The form of a sum or arrangement of values that have a form, and constants."""
    if not forms or len({(form.kind, form.degree, form.roots) for form in forms}) > 1:
        return None
    return forms[0]._replace(summed=any(form.summed for form in forms))


def _summed(step: Step, known: Sequence[Form]) -> Form | None:
    """The form of a sum over places."""
    kinds = {form.kind for form in known}
    if step.name not in (*_SUMS, *_PRODUCTS) or not kinds <= {"linear", "size", "power", "scale"}:
        return None
    if len(known) == 1:
        return known[0]._replace(summed=True)
    return Form("power", 2, True) if step.name == "dot_general" and kinds == {"linear"} else None


def _scaled(step: Step, operands: Sequence[Form | None], held: dict[Value, int]) -> Form | None:
    """The form of a product or quotient."""
    a, b = operands
    if a is None and b is not None:
        if step.name == "mul":
            return b
        return _raised(b, -1.0, step.results[0])
    if a is None or b is None:
        return a
    if step.name == "mul" and b.kind == "linear" and a.kind == "scale":
        a, b, scale = b, a, step.operands[0]
    else:
        scale = step.operands[1]
    if a.kind == "linear" and b.kind == "scale" and b.degree == (-1 if step.name == "mul" else 1):
        held[scale] = b.degree
        return Form("normal", 0, True, b.roots)
    if step.name == "mul" and a.kind == b.kind and a.degree == b.degree and a.kind in ("linear", "size", "scale"):
        return Form("power", 2 * a.degree, a.summed or b.summed)
    return None


def _raised(form: Form, exponent: float, result: Value) -> Form | None:
    """The form of a power."""
    if exponent == 1:
        return form
    if form.kind in ("linear", "size", "scale") and abs(exponent) == 2:
        return Form("power", int(exponent) * form.degree, form.summed)
    if form.kind in ("power", "scale") and exponent == -1:
        return form._replace(degree=-form.degree)
    if form.kind in ("linear", "size") and form.summed and exponent == -1:  # one over a sum is a scale as a root is
        return Form("scale", -1, True, frozenset((result,)))
    if form.kind == "power" and form.summed and not exponent.is_integer():
        return Form("scale", 1 if form.degree * exponent > 0 else -1, True, frozenset((result,)))
    return None


def _exponent(facts: Facts, step: Step) -> float | None:
    """The power that a step raises its operand to."""
    if step.name in _POWERS:
        return _POWERS[step.name]
    if step.name == "integer_pow":
        return float(step.params["y"])
    if step.name == "pow" and (number := facts.numbers.get(step.operands[1])) is not None:
        return float(number)
    return None


def _is_rectifier(step: Step) -> bool:
    """Whether a call with a derivative of its own is a ReLU."""
    if step.name not in CUSTOM_DERIVATIVES or not is_elementwise(step.equation) or len(step.operands) != 1:
        return False
    try:
        return name_of(np.asarray(evaluate(step.equation, [PROBES]))) == "relu"
    except NotImplementedError:
        return False
