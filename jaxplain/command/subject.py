"""The model and the data that the options name: checked at once, built and read when they are asked for."""

from __future__ import annotations

import argparse
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain.command import model
from jaxplain.command.asked import Asked, asked, stand_in_apply
from jaxplain.command.failure import called
from jaxplain.command.place import mapped, named, nearest, without_inputs
from jaxplain.command.value import Given

DATA = "def data(): return inputs, targets (arrays with one row for each example)."
FORMS = ".npz or .npy file, no folder of images with a subfolder for each class and not file.py:function"


class Subject:
    """What `--model`, `--checkpoint`, `--data`, `--transform`, `--prepare` and `--score` name."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.transform: Any = None
        self.prepare: Any = None
        self._builder: Callable[[], Any] | None = None
        self._reader: Callable[[], Any] | None = None
        self.score_asked: Asked | None = None
        self.arrays: list[str] = []  # the names in an archive

    def check(self) -> Subject:
        """Check the options; nothing is built and no data are read, but modules that they name are imported."""
        options = self.options
        if getattr(options, "score", None) is not None:
            pairs = list(options.score_set) + ([] if options.select is None else [f"select={options.select}"])
            self.score_asked = asked(options.score, "score", "--score", pairs, "--score-set", skip=2)
            self.score_asked.check(stand_in_apply, ())
        self._check_data()
        if getattr(options, "checkpoint", None) is not None:
            model.find_checkpoint(options.checkpoint, options.at)
        for option in ("transform", "prepare"):
            text = getattr(options, option, None)
            if text is not None:
                found = named(text, f"--{option}", "tiny.py:preprocess")
                setattr(self, option, _of_one(found, text, f"--{option}"))
        if getattr(options, "model", None) is not None:
            self._builder = model.builder(options.model)
        return self

    def _check_data(self) -> None:
        text = self.options.data
        if text is None:
            return
        path = Path(text)
        if path.suffix in (".npz", ".npy"):
            if not path.is_file():
                beside = [file.name for file in path.absolute().parent.glob("*.np[yz]")]
                raise FileNotFoundError(f"--data: there is no file at {path}{nearest(path.name, beside)}.")
            if path.suffix == ".npz":
                self._check_names(path)
            else:
                mapped(path, "--data")
        elif ":" in text or path.suffix == ".py":
            self._reader = without_inputs(named(text, "--data", "tiny.py:data"), text, "--data", DATA)
        elif not path.is_dir():
            raise FileNotFoundError(f"--data: {text} is no {FORMS}.")

    def _check_names(self, path: Path) -> None:
        """The arrays that an archive has to hold, from its list of names."""
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = names = list(file.files)
        except Exception as error:
            raise ValueError(f"--data: {path} is not an .npz file, or a broken one ({error}).") from error
        for option in ("inputs", "targets"):
            name = getattr(self.options, option)
            if name not in names and not name == option == "targets":
                raise ValueError(f"--{option}: {path} has no array {name!r}; it has {', '.join(names)}.")

    @functools.cached_property
    def data(self) -> Any:
        """The dataset, as it was read."""
        options, path = self.options, Path(self.options.data)
        if self._reader is not None:
            return called(self._reader, f"--data {options.data}")
        if path.suffix == ".npy":
            return mapped(path, "--data")
        from jaxplain.data import load_image_folder, load_npz

        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                targets = options.targets if options.targets in file.files else None
            return load_npz(path, inputs=options.inputs, targets=targets)
        return load_image_folder(path)

    @functools.cached_property
    def source(self) -> Any:
        """The dataset as `explain_dataset` sees it, with `--transform`."""
        from jaxplain.dataset import as_source

        return as_source(self.data, None, self.transform)

    @functools.cached_property
    def sample(self) -> Any:
        """One example of the inputs, as the model takes it, `[1, ...]`."""
        return self._prepared(self.first.x)

    @functools.cached_property
    def first(self) -> Any:
        """The first example, `[1, ...]`; a stream is made again for it, since a generator is used up by a look."""
        from jaxplain.dataset import as_source, first_rows

        source = self.source
        if not source.random_access and self._reader is not None:
            source = as_source(called(self._reader, f"--data {self.options.data}"), None, self.transform)
        return first_rows(source)[1]

    def rows(self, count: int | None = None) -> tuple[Any, tuple[Any, ...]]:
        """Inputs as the model takes them and further arguments, of the first examples or of all.

        Raises:
            ValueError: A stream, of which rows cannot be taken.
        """
        if self.source.count is None:
            raise ValueError(f"--data: {self.options.data} gives a stream of batches, but arrays are needed here.")
        size = self.source.count if count is None else min(count, self.source.count)
        found = self.source.read(0, size)
        return self._prepared(found.x), found.args

    def _prepared(self, x: Any) -> Any:
        return x if self.prepare is None else jax.vmap(self.prepare)(x)

    @functools.cached_property
    def model(self) -> tuple[Any, Any]:
        """The model's function in evaluation mode, and its parameters."""
        from jaxplain.train import as_trainable

        assert self._builder is not None
        options = self.options
        apply, params = model.built(self._builder, options.model, lambda: self.sample, options.checkpoint, options.at)
        return as_trainable(apply), params

    @functools.cached_property
    def untrained(self) -> tuple[Any, Any]:
        """The model's function and its parameters before training."""
        assert self._builder is not None
        key = jax.random.key(self.options.key)
        return model.begun(self._builder, self.options.model, lambda: self.sample, key)

    @functools.cached_property
    def shapes(self) -> tuple[Any, Any]:
        """The model's function in evaluation mode and its parameters; of a Linen module their shapes alone."""
        from jaxplain.train import as_trainable

        assert self._builder is not None
        apply, params = model.begun(self._builder, self.options.model, lambda: self.sample, None)
        return as_trainable(apply), params

    def score(self, params: Any = None) -> Any:
        """The score of the model, or of the model with other parameters."""
        assert self.score_asked is not None
        apply, own = self.model
        return self.score_asked.make(apply, own if params is None else params, given=self.given)

    @functools.cached_property
    def given(self) -> Given:
        """What names such as `data` stand for in settings."""
        return {
            "data": lambda: self.rows()[0],
            "targets": self._targets,
            "score": lambda: self.score(),
            "apply": lambda: self.model[0],
            "params": lambda: self.model[1],
            "outputs": lambda: self._outputs,
        }

    def _targets(self) -> Any:
        args = self.rows()[1]
        if not args:
            raise ValueError(f"--data: {self.options.data} has no targets, but a setting names them.")
        return args[0]

    def _outputs(self, x: Any, *_: Any) -> Any:
        return self.score().outputs(x)


def _of_one(function: Any, text: str, option: str) -> Any:
    """Require a function that can be called with one example's input."""
    write = "write def preprocess(x): return x / 255"
    if not callable(function):
        raise TypeError(f"{option}: {text} is {type(function).__name__}, no function; {write}.")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise TypeError(f"{option}: {text} is called with one example's input ({error}); {write}.") from None
    except ValueError:  # a built-in function without a signature
        pass
    return function
