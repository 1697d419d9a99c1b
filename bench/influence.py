"""Speed of attribution to training examples: many retrainings, the derivative through training, products of gradients.

The network of the digits (64-32-10 tanh, batches of 128, momentum 0.9, 160 steps, 1,024 examples). Trainings are
compared with a Python loop of compiled trainings and with torch; the derivative with that of an unchecked loop in plain
JAX and with the bound, one training; products of gradients, TracIn and influence with the whole Hessian with the
matrix of per-example gradients, with dattri and with Captum's TracInCP, on the same weights.

    python bench/influence.py [--quick]

dattri 0.3.0 takes twice our time for products of gradients of the small network, four times for TracIn at five
checkpoints, and 3.6 times for the whole Hessian.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from bench.harness import BOUND, OURS, PEER, PLAIN, Case, Program, installed, script
from jaxplain import influence, train

EXAMPLES, BATCH_SIZE, EPOCHS, RATE, MOMENTUM = 1024, 128, 20, 0.05, 0.9


def apply(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["a"] + params["c"][None]) @ params["b"] + params["d"][None]


def start(inputs: int = 64, width: int = 32) -> Any:
    a, b = (jax.random.normal(jax.random.key(n), (n, m)) / n**0.5 for n, m in ((inputs, width), (width, 10)))
    return {"a": a, "b": b, "c": jnp.zeros(width), "d": jnp.zeros(10)}


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype(np.float32), y[order].astype(np.int32)


def make_run() -> tuple[Any, Any, Any]:
    """The run, the queries, and their inputs and labels."""
    x, y = digits()
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "optimizer": optax.sgd(RATE, momentum=MOMENTUM)}
    run = train.training_run(apply, start(), (x[:EXAMPLES], y[:EXAMPLES]), key=jax.random.key(1), **settings)
    asked = x[EXAMPLES : EXAMPLES + 50], y[EXAMPLES : EXAMPLES + 50]
    return run, influence.query_scores(apply, asked), asked


def torch_training(run: Any, asked: Any, weights: np.ndarray) -> np.ndarray:
    """The losses of the queries after each training, by a loop of torch steps in the same order."""
    import torch

    torch.set_num_threads(1)  # its best setting for a network of this size
    x, y = (torch.tensor(np.asarray(a)) for a in (run.data.inputs[0], run.data.targets))
    rows = [torch.tensor(np.asarray(row)) for row in run.order()]
    probes, labels = torch.tensor(asked[0]), torch.tensor(asked[1]).long()
    found = []
    for weight in torch.tensor(weights):
        first, last = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
        with torch.no_grad():
            for layer, w, b in ((first, "a", "c"), (last, "b", "d")):
                layer.weight.copy_(torch.tensor(np.asarray(run.params[w]).T))
                layer.bias.copy_(torch.tensor(np.asarray(run.params[b])))
        model = torch.nn.Sequential(first, torch.nn.Tanh(), last)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
        for row in rows:
            losses = torch.nn.functional.cross_entropy(model(x[row]), y[row].long(), reduction="none")
            optimizer.zero_grad()
            (losses * weight[row]).mean().backward()
            optimizer.step()
        with torch.no_grad():
            found.append(torch.nn.functional.cross_entropy(model(probes), labels, reduction="none").numpy())
    return np.stack(found)


def retrainings(run: Any, queries: Any, asked: Any, quick: bool) -> Case:
    count = 20 if quick else 1000
    weights = influence.random_masks(jax.random.key(2), count, EXAMPLES, fraction=0.5)
    one = jax.jit(lambda run, w: queries(run(w)))
    programs = [
        Program("retrain", lambda: influence.retrain(run, weights, queries), OURS),
        Program("Python loop of compiled trainings", lambda: jnp.stack([one(run, w) for w in weights]), PLAIN),
    ]
    if installed("torch"):
        few = np.asarray(weights[:2])
        # The first trainings only, so its result is compared by `prove`.
        loop = functools.partial(torch_training, run, asked, few)
        programs.append(Program("torch, a loop of steps", loop, PEER, None, scale=count / 2, most=2))

    def prove() -> str:
        if not installed("torch"):
            return "torch is not installed"
        apart = np.abs(
            torch_training(run, asked, np.asarray(weights[:2])) - influence.retrain(run, weights[:2], queries)
        )
        assert apart.max() < 1e-3, apart.max()
        return f"equal work: losses after training agree with torch to {apart.max():.1e}"

    return Case(f"{count} retrainings", programs, 1e-3, count, prove, {PLAIN: 1.0, PEER: 1.0})


def derivatives(run: Any, queries: Any, count: int, limit: float) -> Case:
    """Of so many queries; at most `limit` trainings each."""

    def few(params: Any) -> Any:
        return queries(params)[:count]

    program = run.program()

    @jax.jit
    def unchecked(run: Any, weights: Any) -> Any:
        def end(weights: Any) -> Any:
            def step(state: Any, rows: Any) -> Any:
                batch = jax.tree.map(lambda a: a[rows], run.data._replace(weights=weights))
                return program.step(state, batch)[0], None

            return few(jax.lax.scan(step, program.start(run.params, run.key), run.order())[0].params)

        return jax.jacrev(end)(weights)

    trained = jax.jit(lambda run: run())
    return Case(
        f"the derivative of {count} queries through 160 steps",
        [
            Program("unrolled", lambda: influence.unrolled(run, few, masks=0).values, OURS),
            Program("jacrev of a loop that keeps everything", lambda: unchecked(run, run.data.weights), PLAIN),
            Program("one training a query", lambda: trained(run), BOUND, None, scale=count),
        ],
        1e-3,
        count,
        None,
        {"one training a query": limit},
    )


def layers_of(params: Any) -> list[tuple[Any, Any]]:
    return [(params["a"], params["c"]), (params["b"], params["d"])]


def peers(make: str, checkpoints: list[Any], data: Any, asked: Any, rates: list[float]) -> list[Program]:
    """TracIn of dattri and of Captum at checkpoints, where they are installed."""
    if not installed("torch"):
        return []
    from bench import influence_peers

    parts = [layers_of(params) for params in checkpoints]
    return [
        Program(name, getattr(influence_peers, function)(parts, "Tanh", data, asked, rates), PEER)
        for package, name, function in (
            ("dattri", f"dattri's {make}", "dattri_tracin"),
            ("captum", "Captum's TracInCP", "captum_tracin"),
        )
        if installed(package)
    ]


def products(params: Any, data: Any, asked: Any) -> Case:
    """Of the small network checks of what was given are most of our time; of a wide one the matrix of gradients is
    large."""
    queries, width = influence.query_scores(apply, asked), params["a"].shape[1]

    @jax.jit
    def whole(params: Any) -> Any:
        def gradients(x: Any, y: Any) -> Any:
            one = jax.grad(lambda p, x, y: train.cross_entropy(apply(p, x[None])[0], y))
            found = jax.vmap(one, (None, 0, 0))(params, x, y)
            return jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(found)], axis=1)

        return -gradients(*map(jnp.asarray, asked)) @ gradients(*data).T

    programs = [
        Program(
            "gradient_similarity", lambda: influence.gradient_similarity(apply, params, data, queries).values, OURS
        ),
        Program("the matrix of all gradients", lambda: whole(params), PLAIN),
        *peers("gradient dot", [params], data, asked, [1.0]),
    ]
    name = f"products of gradients of 50 queries and {len(data[0])} examples, {width} hidden units"
    return Case(name, programs, 1e-4, len(data[0]), None, {PLAIN: 1.0, PEER: 1.0})


def checkpoints(run: Any, data: Any, asked: Any) -> Case:
    """TracIn at five checkpoints of the run."""
    kept = jax.jit(lambda run: run.trajectory()[1])(run.replace("every", run.steps // 5))
    each = [jax.tree.map(lambda leaf, index=index: leaf[index], kept) for index in range(5)]
    queries, rates = influence.query_scores(apply, asked), [RATE / (1 + index) for index in range(5)]
    programs = [
        Program(
            "tracin",
            lambda: influence.tracin(apply, kept, data, queries, learning_rates=np.array(rates)).values,
            OURS,
        ),
        *peers("TracIn", each, data, asked, rates),
    ]
    return Case("TracIn at five checkpoints", programs, 1e-4, len(data[0]), None, {PEER: 1.0})


def explicit(params: Any, data: Any, asked: Any) -> Case:
    """Influence with the whole Hessian of 2,410 params; damped beyond its negative eigenvalues."""
    queries, damping = influence.query_scores(apply, asked), 100.0

    def ours() -> Any:
        found = influence.influence_function(apply, params, data, queries, curvature="hessian", damping=damping)
        return found.values

    programs = [Program("influence_function", ours, OURS)]
    if installed("torch") and installed("dattri"):
        from bench import influence_peers

        theirs = influence_peers.dattri_explicit(layers_of(params), "Tanh", data, asked, damping)
        programs.append(Program("dattri's IFAttributorExplicit", theirs, PEER, most=2))
    return Case("influence with the whole Hessian", programs, 1e-4, len(data[0]), None, {PEER: 1.0})


def cases(quick: bool) -> list[Case]:
    run, queries, asked = make_run()
    wide = np.random.default_rng(0).random((562, 784), np.float32), np.arange(562, dtype=np.int32) % 10
    params, data = run(), (run.data.inputs[0], run.data.targets)
    return [
        retrainings(run, queries, asked, quick),
        derivatives(run, queries, 1, 8.0),
        derivatives(run, queries, 50, 2.0),
        products(params, data, asked),
        products(
            start(784, 256), *(tuple(jnp.asarray(a[rows]) for a in wide) for rows in (slice(512), slice(512, None)))
        ),
        checkpoints(run, data, asked),
        explicit(params, data, asked),
    ]


if __name__ == "__main__":
    script("influence", cases, __doc__ or "")
