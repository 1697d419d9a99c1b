"""Explain a whole dataset: `explain_dataset`."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxplain import check
from jaxplain.aggregate import Aggregator
from jaxplain.dataset.devices import Devices, agree, meet
from jaxplain.dataset.explanations import Explanations, open_explanations
from jaxplain.dataset.fold import Fold
from jaxplain.dataset.folder import Run, describe, make_folder, open_run
from jaxplain.dataset.ledger import Ledger
from jaxplain.dataset.lock import locked
from jaxplain.dataset.ordered import Lanes, Ordered, resumed
from jaxplain.dataset.progress import bar
from jaxplain.dataset.reader import Reader
from jaxplain.dataset.record import as_record, named, prepared
from jaxplain.dataset.run import Plan, first_rows, run
from jaxplain.dataset.source import Source, as_source, known_arguments
from jaxplain.dataset.store import OWN, Spec
from jaxplain.dataset.target import require_one_input
from jaxplain.dataset.writer import Folder, Memory, Nothing, Writer
from jaxplain.explain import check_own_baseline, require_key
from jaxplain.program import as_folder, as_function, check_calls, needs_key, public, shown
from jaxplain.types import Array, Pytree

NAME = "explain_dataset"
MEMORY = "memory"


@shown
class Explained(NamedTuple):
    """Result of `explain_dataset`.

    explanations: what is known of every example (`Explanations`), None where only aggregates were asked for;
    aggregate: what the aggregator computed, None without one.
    """

    explanations: Explanations | None
    aggregate: Any


@public
def explain_dataset(
    e: Callable[..., Any],
    data: Any,
    *,
    key: Array | None = None,
    batch_size: int | str = 64,
    mesh: Mesh | None = None,
    out: Any = None,
    aggregate: Aggregator | None = None,
    resume: bool = True,
    progress: bool = True,
    target: str | int | None = None,
    reduce: Callable[[Pytree], Pytree] | None = None,
    dtype: Any = None,
    ids: Any = None,
    transform: Callable[[Any], Any] | None = None,
    prepare: Callable[[Any], Any] | None = None,
) -> Explained:
    """Explain every example of a dataset, in batches of one compiled program; reading and writing go on meanwhile.

    The program is that of `explain_batch`: compiled once, parameters as arguments, the last batch filled up (what a
    model function reads from outside, such as a global variable, is read when the run begins). Example i draws from
    `fold_in(key, i)`, so that the same key draws the same numbers whatever the batches, devices and processes. A folder
    that holds a part of the same run is finished; each chunk of examples counts once it is whole on disk, so a run that
    is killed loses the chunks it was at.

    With `jax.distributed` call it in every process with the same arguments: each explains and writes its share. If one
    of them dies, the others end with the runtime's error, at once or once its heartbeat has failed for as long as
    `jax.distributed.initialize` says (100 s by default); run it again in all of them.

    An aggregate of a run in a folder is folded chunk by chunk in their order, so it is the same to the bit whatever was
    interrupted, on the same devices and as many processes.

    Args:
        e: An explanation for one example, `e(x, *args)` or, if random, `e(key, x, *args)`.
        data: The examples, in an order that does not change:
            arrays or memory maps `[N, ...]` or pytrees of them: `(x, *args)`, `x` alone, a `Dataset` (an object with
            `.inputs` and `.targets`), or a mapping with 'inputs' and, as there are, 'targets', 'args', 'id', 'index';
            a source with a length and `[i]` that gives one example of these kinds, such as a Grain data source or a
            `grain.MapDataset` before `.batch` (each process reads its own examples only);
            or an iterable of batches of these kinds and of any lengths, such as a Grain loader, `data.batches(...)` or
            a generator. A batch's `mask` leaves rows out, and its `index` is what keys are folded in by.
        key: A threefry key; needed where `e` is random, unused where it is not.
        batch_size: Examples explained at once (all devices together, rounded up to a multiple of the mesh's data axis);
            "auto" takes the largest power of two, up to 1024, that fits the memory. A chunk on disk is as long as one
            process's part of it, or as several small batches (up to 512 examples, 8 MiB, 1/32 of the dataset).
        mesh: Devices over which batches are spread, along the mesh's axis 'data' (or its only one). Parameters that are
            spread over it stay as they are, others are copied to each device. None is one device, and with several
            processes all of theirs.
        out: A folder (a path, in which `~` is the home folder; Zarr version 3), arrays to fill (`[N, ...]`, of the
            attribution's structure), "memory" for new arrays, or None: aggregates only. A path named memory is
            `pathlib.Path("memory")`.
        aggregate: An aggregator of `jaxplain.aggregate`, folded in the same pass; it sees attributions as `e` gives
            them (not reduced), as label the data's label or the target explained, as score f(x), as index the place.
        resume: Finish what the folder holds of the same run; False refuses a folder that holds a run.
        progress: A bar, where standard error is a terminal, and in a notebook.
        target: None takes the data's targets; "predicted" explains the class the model predicts, an integer one class
            for all. The data's own targets stand aside, labels kept as 'label'; further inputs stay where they are
            behind them, `(x, None, mask)` of data without targets.
        reduce: A function of one attribution, applied before it is written: `dataset.channel_sum()`,
            `dataset.top_features(k)`, `dataset.group_sum(groups)` or any other.
        dtype: Floating-point dtype of what is written, such as "float16"; None keeps it as it is.
        ids: `[N]` integers or texts by which examples are found again; None takes their places.
        transform: Applied on the host to each example's x while it is read, in NumPy.
        prepare: Applied on the device to each example's x, in the same program as the explanation, which explains what
            it returns: images travel as uint8, a quarter of float32's bytes, and become numbers there
            (`lambda x: x / 255.0`). A function of one example that JAX can trace.

    Returns:
        `Explained(explanations, aggregate)`. By name, `[N, ...]`: attribution, id, index, finite (no NaN or infinity in
        it) and, where the method and the score know them, target, label, prediction, score f(x), baseline_score
        f(baseline), gap (sum of the attribution - (f(x) - f(baseline)), in units of the score), steps and reached.
        Examples with NaN, or a target outside the outputs, get NaN, are marked and warned of.
        Cost: N explanations and, of a model's score, at most two forward passes for each. Memory: a few batches,
        whatever N.

    Raises:
        ValueError: Nothing would be kept, data that are empty or of unequal lengths, targets outside the outputs, a
            missing key, a folder with the explanations of another model, method, key or dataset (all that differs is
            named), a chunk on disk that is corrupt or lies in another's place, a damaged `zarr.json`, a folder of
            another format (the file is named), `out` of a shape that does not fit, or a path with a backslash.
        TypeError: Data, aggregator or settings of an unknown kind.
        FileExistsError: A folder that holds something else, or a run, and `resume` is off.
        BlockingIOError: Another run is writing to the folder.
        PermissionError, OSError: A folder that cannot be written, a full disk; what is finished stays.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.explain.gradient.path import integrated_gradients
        >>> from jaxplain.score import logit
        >>> f = logit(lambda params, x: x @ params, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> x, labels = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), jnp.array([0, 1, 0])
        >>> found = explain_dataset(integrated_gradients(f, steps=4), (x, labels), batch_size=2, out="memory")
        >>> found.explanations["attribution"].round(5).tolist()
        [[1.0, 0.0], [0.0, 4.0], [1.0, 3.0]]
        >>> found.explanations["prediction"].tolist()
        [1, 1, 1]
    """
    function = as_function(e)
    if out is None and aggregate is None:
        raise ValueError(f"{NAME}: nothing would be kept; pass `out` (a folder, arrays, 'memory') or `aggregate`.")
    if batch_size != "auto":
        check.count(batch_size, NAME, "batch_size")
    if needs_key(function):
        require_key(function, key, NAME)
    record = as_record(
        function, target=target, reduce=reduce, prepare=prepare, dtype=dtype, whole=aggregate is not None
    )
    if transform is not None:
        require_one_input(function, "transform")
    source, sample = first_rows(as_source(data, ids, transform))
    devices = Devices(mesh)
    plan = Plan(devices.place(record), devices.place(key), devices, sample)
    with devices.context():
        x = prepared(record, sample.x)
        if target is None:
            check_calls(plan.record, x, known_arguments(source) or sample.args)
        check_own_baseline(function, x)
        shapes = plan.shapes()
    job = _Job(plan, source, batch_size, aggregate, progress, shapes)
    kept = _kept(out)
    return job.to_folder(kept, resume) if isinstance(kept, Path) else job.to_memory(kept)


class _Job(NamedTuple):
    """A call of `explain_dataset` with everything checked that does not depend on where results go."""

    plan: Plan
    source: Source
    batch_size: int | str
    aggregate: Aggregator | None
    progress: bool
    shapes: dict[str, Any]

    def to_memory(self, given: Any) -> Explained:
        """Fill the caller's arrays, new ones, or none."""
        if given is not None and jax.process_count() > 1:
            raise ValueError(f"{NAME}: with several processes `out` has to be a folder (or None, for aggregates only).")
        arrays = self._fitting(given) if jax.tree.leaves(given) else {}
        share = self._share()
        reader = Reader(self.source, share, {}, self.plan.devices, share)
        fold = self._fold()
        with bar(self.progress, self.source.count, 0) as done:
            memory = Memory(arrays, self.source.count, done)
            target = Nothing(done) if given is None else memory
            writer = Writer(target, reader.pieces, share, self.plan.devices.writes, None)
            run(self.plan.filled(self._points(share)), reader, fold, writer)
        _warn(writer, reader.count)
        result = None if fold is None else fold.result(counts=self.plan.devices.writes)
        if given is None:
            return Explained(None, result)
        count = reader.count or 0
        return Explained(Explanations(memory.trim(count), {}, np.ones(count, bool)), result)

    def to_folder(self, folder: Path, resume: bool) -> Explained:
        """Write to a folder, or finish what it holds."""
        share = self._share()
        with self._prepared(folder, resume, share) as known:
            lanes, ordered, finished = self._resumed(known)
            reader = Reader(self.source, known.chunk, finished, self.plan.devices, share, folder)
            ledger = Ledger(folder / OWN, jax.process_index())
            with bar(self.progress, self.source.count, sum(entry.rows for entry in finished.values())) as done:
                target = Folder(known.store, ledger, done)
                writer = Writer(target, reader.pieces, known.chunk, self.plan.devices.writes, ordered)
                run(self.plan.filled(known.points), reader, None, writer)
            meet("jaxplain: written")
            if jax.process_index() == 0:
                known.close(reader.count)
            meet("jaxplain: closed")
        _warn(writer, reader.count)
        result = None if lanes is None else lanes.result(counts=self.plan.devices.writes)
        return Explained(open_explanations(folder), result)

    @contextlib.contextmanager
    def _prepared(self, folder: Path, resume: bool, share: int) -> Iterator[Run]:
        """The first process locks the folder and compares or makes what it holds; all learn of it."""
        manifest, specs = self._described()
        manifest["points"] = self._points(share)
        with contextlib.ExitStack() as stack:
            told: dict[str, Any] | None = None
            error: Exception | None = None
            if jax.process_index() == 0:
                try:
                    make_folder(folder)
                    stack.enter_context(locked(folder / OWN / "lock"))
                    told = open_run(folder, manifest, specs, share, self.source, resume)
                except Exception as caught:
                    error = caught
            yield Run.from_told(folder, agree(told, error))

    def _described(self) -> tuple[dict[str, Any], dict[str, Spec]]:
        rows = named(self.shapes)
        specs = {name: Spec(leaf.shape, leaf.dtype) for name, leaf in rows.items()}
        specs["id"] = Spec(self.plan.sample.ids.shape[1:], self.plan.sample.ids.dtype)
        specs["index"] = Spec((), np.int64)
        return describe(self.plan, self.source), specs

    def _share(self) -> int:
        """How many rows of a batch this process is fed; every process asks, as they agree on what fits."""
        return self.plan.devices.share(self.plan.batch_size(self.batch_size, self.source.count))

    def _points(self, share: int) -> int:
        """How many points at once fill the devices; every process asks."""
        return self.plan.points(share * self.plan.devices.groups)

    def _fold(self, *, on_host: bool = False) -> Fold | None:
        if self.aggregate is None:
            return None
        batched = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), self.shapes)
        return Fold(self.aggregate, batched, self.plan.devices, on_host=on_host)

    def _resumed(self, known: Run) -> tuple[Lanes | None, Ordered | None, Mapping[int, Any]]:
        """The aggregate from where it was saved, and the chunks that need not be explained again."""
        fold, devices = self._fold(on_host=True), self.plan.devices
        if fold is None:
            return None, None, known.finished
        lanes = Lanes(known.folder / OWN, fold, known.finished, devices.groups)
        if jax.process_index() == 0:
            lanes.tidy()
        meet("jaxplain: states merged")
        ordered, kept = resumed(fold, known.store, self.shapes, known.finished, devices, lanes)
        meet("jaxplain: states read")
        return lanes, ordered, kept

    def _fitting(self, given: Any) -> dict[str, np.ndarray]:
        """The caller's arrays by name, of the shapes that will be written."""
        wanted, arrays = named({"attribution": self.shapes["attribution"]}), named({"attribution": given})
        if set(wanted) != set(arrays):
            raise ValueError(f"{NAME}: `out` holds {sorted(arrays)}, but the attribution holds {sorted(wanted)}.")
        for name, array in arrays.items():
            count = len(array) if self.source.count is None else self.source.count
            shape = (count, *wanted[name].shape)
            if not isinstance(array, np.ndarray) or array.shape != shape or not array.flags.writeable:
                raise ValueError(
                    f"{NAME}: `out` ({name}) is {type(array).__name__} of shape {np.shape(array)}; pass a NumPy array "
                    f"that can be written, of shape {shape}."
                )
        return arrays


def _kept(out: Any) -> Any:
    """None, a folder, the caller's arrays, or {} for new ones."""
    if out is None:
        return None
    if isinstance(out, str) and out == MEMORY:
        return {}
    if isinstance(out, str | os.PathLike):
        return as_folder(out, NAME, "out")
    if jax.tree.leaves(out) and all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(out)):
        return out
    raise TypeError(
        f"{NAME}: `out` is {type(out).__name__}; pass a folder's path, NumPy arrays to fill (JAX arrays cannot be "
        "written into), 'memory', or None."
    )


def _warn(writer: Writer, count: int | None) -> None:
    ids = writer.not_finite
    if ids:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        warnings.warn(
            f"{NAME}: {len(ids)} of {count} examples have attributions with NaN or infinities (ids {shown}); 'finite' "
            "marks them. Look for NaN in the inputs, targets outside the outputs and overflow in half precision.",
            RuntimeWarning,
            stacklevel=3,
        )


__all__ = ["Explained", "explain_dataset"]
