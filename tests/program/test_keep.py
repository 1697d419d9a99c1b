"""Compiled programs kept on disk: where, what wins, how much, and that tests touch nobody's folder."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from jaxplain.program import keep

ROOT = Path(__file__).parent.parent.parent


def run(code, home, **environment):
    """The output of a program whose user's folder is `home`."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_"))}
    given = {**given, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "HOME": str(home), **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True)


COMPILES = """
    import jax, jaxplain
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
    jaxplain.keep_programs()
    jax.jit(lambda x: x * 3 + 1)(2.0)
    print(sum(name.endswith("cache_hits") for name in hits))
"""


def test_the_second_run_finds_the_programs_of_the_first(tmp_path):
    first, second = run(COMPILES, tmp_path), run(COMPILES, tmp_path)
    assert int(first.stdout) == 0
    assert int(second.stdout) > 0
    (folder,) = (tmp_path / ".cache" / "jaxplain").iterdir()
    assert f"Compiled programs are kept in {folder} (JAX_ENABLE_COMPILATION_CACHE=false turns" in first.stderr


@pytest.mark.slow
def test_a_folder_of_the_users_wins_and_off_is_off(tmp_path):
    mine = run(COMPILES, tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert f"kept in {tmp_path / 'mine'} " in mine.stderr
    assert list((tmp_path / "mine").iterdir())  # of what compiles in no time, too
    off = run(COMPILES, tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    assert off.stderr == ""
    assert not (tmp_path / ".cache").exists()


def test_tests_touch_no_folder():
    assert not jax.config.jax_enable_compilation_cache
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert keep.keep_programs() is None


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_enable_compilation_cache", True)
    try:
        assert keep.keep_programs() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", False)
    assert "Compiled programs are not kept" in capsys.readouterr().err
    assert jax.config.jax_compilation_cache_dir == before


def test_no_home_and_no_right_are_said(tmp_path, capsys, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    jax.config.update("jax_enable_compilation_cache", True)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(keep.Path, "home", homeless)
            assert keep.keep_programs() is None
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(keep.os, "access", lambda *_: False)
            assert keep.keep_programs() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", False)
    said = capsys.readouterr().err
    assert said.count("Compiled programs are not kept: ") == 2
    assert "home directory" in said
    assert "no right to write" in said


def test_limits_of_the_users_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("jax_compilation_cache_dir", *keep._LIMITS)
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    try:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
        assert keep.keep_programs(quiet=True) is not None
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 7.0
        assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
    finally:
        jax.config.update("jax_enable_compilation_cache", False)
        for name, value in before.items():
            jax.config.update(name, value)


def test_a_relative_folder_for_caches_does_not_count(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere/relative")
    assert keep._folder().is_absolute()
    assert "relative" not in str(keep._folder())


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    keep._shrink(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    keep._shrink(tmp_path, 250)
    assert len(list(tmp_path.iterdir())) == 2
