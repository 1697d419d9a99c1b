"""Laws that hold for any network, on random ones: complete or refused, balanced or refused, the same in every setting.

Every fault is reported with its seed and operations. Errors are in units of all that was shared out (the sum of
absolute attributions and of the scores at both ends), since that is what rounding is relative to.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared.random_networks import OPERATIONS, Network, random_network

TOLERANCE = {"float32": 1e-4, "float64": 1e-9, "bfloat16": 6e-2}
"""For sums, and for two programs that compute the same. bfloat16 has 8 bits: relevance is computed in float32, but the
scores that it is compared with are rounded at every operation."""

RULE = jaxplain.relevance.epsilon(1e-6)
LARGEST = 1e3
"""Times what there is to share: correct relevance of networks of ReLUs has up to about a hundred times the score."""

FAST, SLOW = range(12), range(1000, 1200)


@dataclasses.dataclass
class Findings:
    """What went wrong with networks, and how often an explanation was refused."""

    wrong: list = dataclasses.field(default_factory=list)
    refused: dict = dataclasses.field(default_factory=dict)
    checked: int = 0
    undefined: int = 0

    def expect(self, network: Network, what: str, error, scale) -> None:
        """Note an error beyond the tolerance; NaN is beyond."""
        self.checked += 1
        error = float(np.max(np.abs(np.asarray(error, np.float64)))) / max(float(scale), 1e-3)
        if not error <= TOLERANCE[str(network.x.dtype)]:
            self.wrong.append(f"{what}: {error:.1e} in {network}")


def methods(network: Network):
    f, b = network.f, network.baseline
    return {
        "integrated_gradients": jaxplain.integrated_gradients_with_gap(f, baseline=b, steps=8),
        "deep_lift": jaxplain.deep_lift(f, baseline=b),
        "lrp": jaxplain.lrp(f, RULE),
        "balance": jaxplain.relevance_balance(f, RULE),
    }


def explanations(network: Network, findings: Findings):
    """One function of x for all that is not refused; a refusal is an error in the method's own words."""

    def explain(x):
        values = {"value": network.f(x), "gradient": jax.grad(network.f)(x)}
        for name, method in methods(network).items():
            try:
                found = method(x)
            except ValueError as error:
                if str(error).startswith(("deep_lift: ", "lrp: ")):
                    findings.refused.setdefault(name, {})[network.seed] = str(error)
                else:
                    findings.wrong.append(f"{name}: {str(error)[:100]} in {network}")
                continue
            if name == "balance":
                found = {part: getattr(found, part) for part in ("received", "passed", "start", "end", "unexplained")}
            values[name] = found
        return values

    return explain


def undefined(network: Network) -> bool:
    """Whether the network's own derivative is NaN on the path: a standard deviation of equal values, in few digits."""
    points = (np.polynomial.legendre.leggauss(8)[0] + 1) / 2
    between = jax.vmap(lambda share: network.baseline + share * (network.x - network.baseline))
    return not bool(
        jnp.isfinite(jax.jit(jax.vmap(jax.grad(network.f)))(between(jnp.asarray(points, network.x.dtype)))).all()
    )


def wide(value):
    return np.asarray(value, np.float64)


def check_sums(network: Network, values, findings: Findings) -> None:
    """Each method adds up to what it says it does."""
    change = wide(values["value"]) - wide(jax.jit(network.f)(network.baseline))
    ends = abs(change) + abs(wide(values["value"]))
    path = values["integrated_gradients"]
    attribution = wide(path.attribution)
    gap = attribution.sum() - change - wide(path.gap)
    findings.expect(network, "integrated_gradients: gap", gap, np.abs(attribution).sum() + ends)
    if "deep_lift" in values:
        attribution = wide(values["deep_lift"])
        scale = np.abs(attribution).sum() + ends
        findings.expect(network, "deep_lift: complete", attribution.sum() - change, scale)
    assert ("lrp" in values) == ("balance" in values), network
    if "lrp" in values:
        # A balance accounts for what a rule creates, too: relevance has to be of the size of what there is to share.
        shared = np.abs(wide(path.attribution)).sum() + ends
        findings.checked += 1
        if not np.abs(wide(values["lrp"])).sum() <= LARGEST * shared:
            findings.wrong.append(f"lrp: {np.abs(wide(values['lrp'])).sum() / shared:.1e} times too large in {network}")
        balance, relevance = {k: wide(v) for k, v in values["balance"].items()}, wide(values["lrp"])
        flow = max(np.abs(relevance).sum(), *(np.abs(balance[k]).max() for k in ("received", "passed", "start")))
        findings.expect(network, "lrp: balance", balance["unexplained"], flow)
        findings.expect(network, "lrp: start", balance["start"] - wide(values["value"]), flow)
        findings.expect(network, "lrp: end", balance["end"] - relevance.sum(), flow)


def check_same(network: Network, what: str, one, other, findings: Findings) -> None:
    """Two trees of arrays are the same but for rounding."""
    assert jax.tree.structure(one) == jax.tree.structure(other), (what, network)
    value, shared = np.abs(wide(one["value"])), np.abs(wide(one["integrated_gradients"].attribution)).sum()
    cancelled = 1 + shared / max(value, 1e-6)  # how much of what was shared out the score itself is less than
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        if str(a.dtype) in ("bool", "int32"):
            continue  # steps, and whether a tolerance is reached
        name, size = jax.tree_util.keystr(path), np.abs(wide(a)).sum()
        # Relevance starts as the score, and has the score's relative error.
        scale = cancelled * (size + value) if "lrp" in name or "balance" in name else size + value + shared
        findings.expect(network, f"{what} {name}", wide(a) - wide(b), scale)


def check_batched(network: Network, explain, values, findings: Findings) -> None:
    batched = jax.jit(jax.vmap(explain))(network.rows)
    check_same(network, "batched", jax.tree.map(lambda rows: rows[0], batched), values, findings)


def check_layout(network: Network, explain, values, findings: Findings) -> None:
    fast = jaxplain.fast_layout(jax.vmap(jax.grad(network.f)), platform="cpu")(network.x[None])[0]
    scale = np.abs(wide(values["gradient"])).sum()
    findings.expect(network, "fast_layout", wide(fast) - wide(values["gradient"]), scale)


def check_intervention(network: Network, explain, values, findings: Findings) -> None:
    changed = jaxplain.intervene(network.f, {"*": lambda value: value})
    findings.checked += 1
    if changed(network.x) != network.f(network.x) or jax.jit(changed)(network.x) != jax.jit(network.f)(network.x):
        findings.wrong.append(f"intervene: not the same to the bit in {network}")


def check_eager(network: Network, explain, values, findings: Findings) -> None:
    check_same(network, "eager", explain(network.x), values, findings)


LAWS = (check_batched, check_layout, check_intervention, check_eager)


def check_network(seed: int, dtype, findings: Findings, laws) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        network = random_network(seed, dtype)
        explain = explanations(network, findings)
        values = jax.jit(explain)(network.x)
        if np.isnan(wide(values["integrated_gradients"].attribution)).any() and undefined(network):
            findings.undefined += 1
            return
        check_sums(network, values, findings)
        for law in laws:
            law(network, explain, values, findings)


DTYPES = (jnp.float32, jnp.float64, jnp.bfloat16)


def sweep(seeds, laws=lambda seed: ()) -> Findings:
    """Seeds go through images and tokens (odd and even), and through the dtypes."""
    findings = Findings()
    for seed in seeds:
        check_network(seed, DTYPES[seed // 2 % 3], findings, laws(seed))
    return findings


@pytest.mark.slow
def test_the_sums_hold_on_random_networks():
    findings = sweep(FAST)
    assert findings.checked > 5 * len(FAST)
    assert not findings.wrong, "\n".join(dict.fromkeys(findings.wrong))


PARTS = [pytest.param(part, marks=pytest.mark.long if part else pytest.mark.slow) for part in range(6)]


@pytest.mark.parametrize("part", PARTS)
def test_the_laws_hold_on_many_random_networks(part):
    """The sums on each network and one of the laws in turn, so that each meets every dtype on images and tokens."""
    findings = sweep(SLOW[part::6], lambda seed: (LAWS[seed // 6 % 4],))
    assert not findings.wrong, "\n".join(dict.fromkeys(findings.wrong))
    assert findings.undefined <= 1


def test_every_operation_is_drawn():
    drawn = set()
    for seed in SLOW:
        drawn |= set(random_network(seed, jnp.float32).names)
        if drawn == set(OPERATIONS):
            return
    assert drawn == set(OPERATIONS)
