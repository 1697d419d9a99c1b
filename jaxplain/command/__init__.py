"""The command line, thin over the functions: `python -m jaxplain`, or `jaxplain`; `--help` begins with a whole example.

Everything that the options tell is checked before a model is built or data is read. Values of settings are literals,
names of the library's own factories, calls of these, and objects that `@module:name` names; no code is evaluated.
"""

from jaxplain.command.main import main

__all__ = ["main"]
