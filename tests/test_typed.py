"""Types: every public function says what it takes and gives, and a checker finds every name."""

import ast
import importlib
import inspect
from pathlib import Path

import jaxplain

ROOT = Path(jaxplain.__file__).parent


def publics():
    """Every public function: its namespace, its name, itself."""
    for space in ("", *jaxplain.NAMESPACES):
        module = importlib.import_module(f"jaxplain.{space}" if space else "jaxplain")
        for name in module.__all__:
            if inspect.isfunction(value := getattr(module, name)):
                yield space, name, value


def test_every_public_function_is_annotated():
    bare, count = [], 0
    for space, name, function in publics():
        signature = inspect.signature(function)
        given = {**{p.name: p.annotation for p in signature.parameters.values()}, "return": signature.return_annotation}
        count += len(given)
        bare += [(space, name, part) for part, annotation in given.items() if annotation is inspect.Signature.empty]
    assert bare == []
    assert count > 1500


def test_every_public_class_is_annotated():
    bare = []
    for space in ("", *jaxplain.NAMESPACES):
        module = importlib.import_module(f"jaxplain.{space}" if space else "jaxplain")
        for kind in filter(inspect.isclass, (getattr(module, name) for name in module.__all__)):
            for name, method in vars(kind).items():
                method = method.fget if isinstance(method, property) else method
                if inspect.isfunction(method) and name[0] != "_" and "jaxplain" in method.__code__.co_filename:
                    parts = [p for p in inspect.signature(method).parameters.values() if p.name not in ("self", "cls")]
                    empty = [p.name for p in parts if p.annotation is p.empty]
                    gives = inspect.signature(method).return_annotation is not inspect.Signature.empty
                    bare += [(kind.__name__, name, empty)] if empty or not gives else []
    assert bare == []


def test_a_checker_sees_every_name():
    """What is imported when it is first asked for is imported for checkers, too."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    names = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert set(jaxplain.__all__) <= {alias.asname or alias.name for alias in names}
    assert set(jaxplain.NAMESPACES) <= {alias.name for alias in names if alias.asname == alias.name}  # given on, too
    assert (ROOT / "py.typed").exists()
