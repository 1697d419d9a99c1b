"""What must not matter to an attribution: batches, blocks, kept states, devices, a stop in between, other queries."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import influence
from shared.compiling import FLAGS
from shared.influence_calls import CALLS, COUNT, FOUND, MASKS, QUERIES, SCORES, equal, setting, takes

QUICK = {"gradient_similarity", "retrain", "query_scores"}
ELSEWHERE = {"log_odds", "random_masks", "top_examples", "top_over_blocks", "linear_datamodeling_score",
             "compare_influence", "mislabel_curve"}  # fmt: skip
"""Functions of what others computed, or of a key: the last test of this file."""
WHOLE = {"leave_out_curve", "counterfactual_curve", "data_out_of_bag", "metasmoothness", "self_influence"}
"""Functions whose result has no row for each query."""

ALIKE = {"leave_one_out", "beta_shapley", "banzhaf", "data_out_of_bag", "counterfactual_curve"}
"""Functions that run the programs of `retrain`, `data_shapley` and `leave_out_curve`."""


def test_every_public_function_is_in_this_sweep():
    public = {name for name in influence.__all__ if inspect.isfunction(getattr(influence, name))}
    assert {name.split()[0] for name in CALLS} | ELSEWHERE == public


def sweep(names):
    """Of each function whether batches, kept states and other queries matter; how many results were compared."""
    s, compared = setting(), 0
    spaced = setting(every=4)  # of six steps: a short last segment; by default three and three
    for name in names:
        right = CALLS[name](s)
        equal(CALLS[name](s), right, f"{name} again", bits=True)
        compared += 1
        if takes(name, "batch_size"):  # by default all at once, or of trainings one; 3 leave a short last block
            equal(CALLS[name](s, batch_size=3), right, f"{name}, in batches")
            compared += 1
        if takes(name, "run"):
            equal(CALLS[name](spaced), right, f"{name}, other kept states")
            compared += 1
        if name in WHOLE or takes(name, "influence"):
            continue
        rows = CALLS[name](s.asking(slice(1, 2)))  # one query by itself
        if isinstance(right, influence.Influence):
            equal((rows.values[0], rows.scores[0]), (right.values[1], right.scores[1]), f"{name}, one query")
        else:
            equal(rows[..., 0], right[..., 1], f"{name}, one query")
        compared += 1
    return compared


@pytest.mark.slow
def test_what_must_not_matter_does_not_in_a_sample():
    assert sweep(sorted(QUICK)) == 9


@pytest.mark.long
def test_what_must_not_matter_does_not():
    assert sweep(sorted(set(CALLS) - QUICK)) == 67


DEVICES = """
    import sys
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    from jaxplain import explain_dataset, influence
    from shared.influence_calls import CALLS, MASKS, equal, setting

    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    one, shared = setting(), setting(place=lambda a: jax.device_put(a, rows))
    assert len(shared.data[0].sharding.device_set) == 8
    for name in sys.argv[2:]:
        equal(CALLS[name](shared), CALLS[name](one), name)
        print(name, flush=True)
    other = jax.device_put(one, jax.devices()[5])
    equal(CALLS["unrolled"](other), CALLS["unrolled"](one), "another device", bits=True)

    class Stop(Exception):
        pass

    e, folder = influence.retraining(one.run, one.queries), sys.argv[1]
    def batches(last):
        for index in range(5):
            if index == last:
                raise Stop
            yield MASKS[4 * index : 4 * index + 4]

    def scores(out, last=-1):
        found = explain_dataset(e, batches(last), batch_size=4, out=out, progress=False)
        return found.explanations["attribution"][:]

    whole = scores(folder + "/whole")
    try:
        scores(folder + "/stopped", last=3)
    except Stop:
        print("stopped", flush=True)
    equal(scores(folder + "/stopped"), whole, "resumed", bits=True)
    equal(whole, influence.retrain(one.run, MASKS, one.queries), "by the driver")
    print("resumed", flush=True)
"""


def test_results_of_others_are_judged_by_rows_and_blocks():
    top = influence.top_examples(FOUND, 4)
    cuts = [range(0, 3), range(3, 4), range(4, COUNT)]
    blocks = influence.top_over_blocks(lambda cut: FOUND._replace(values=FOUND.values[:, list(cut)]), cuts, k=4)
    equal(blocks, top, "blocks", bits=True)
    score = influence.linear_datamodeling_score
    whole = score(FOUND, MASKS, SCORES, samples=5).per_query
    each = [score(FOUND.values[[q]], MASKS, SCORES[:, [q]], samples=5).per_query[0] for q in range(QUERIES)]
    order = np.random.default_rng(1).permutation(len(MASKS))
    equal(np.array(each), whole, "one query", bits=True)
    equal(score(FOUND, MASKS[order], SCORES[order], samples=5).per_query, whole, "masks in another order")
    methods = {"one": FOUND, "other": -FOUND.values}
    rows = [influence.compare_influence(dict(pairs), MASKS, SCORES) for pairs in
            (methods.items(), reversed(methods.items()))]  # fmt: skip
    assert [row["mean"] for row in rows[0]] == [row["mean"] for row in rows[1]]
    planted, suspicion = np.arange(COUNT) % 3 == 0, FOUND.values[0]
    curves = [influence.mislabel_curve(given, planted[order[order < COUNT]] if turned else planted) for given, turned in
              ((suspicion, False), (np.exp(suspicion), False), (suspicion[order[order < COUNT]], True))]  # fmt: skip
    for curve in curves[1:]:
        equal(curve.rows, curves[0].rows, "ranks only", bits=True)
    outputs = jnp.asarray(SCORES[:4])
    together = jnp.stack([influence.log_odds(row, 1) for row in outputs])
    equal(jax.vmap(influence.log_odds, (0, None))(outputs, 1), together, "one at a time")
    key = jax.random.key(3)
    equal(influence.random_masks(key, 5, COUNT), influence.random_masks(key, 5, COUNT), "equal keys", bits=True)


@pytest.mark.slow
def test_devices_and_a_stop_in_between_do_not_matter(tmp_path):
    names = [name for name in CALLS if name not in ALIKE]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    flags = f"--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 {FLAGS}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEVICES), str(tmp_path), *names],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.split("\n")[:-1] == [*names, "stopped", "resumed"]
