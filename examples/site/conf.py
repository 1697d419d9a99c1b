"""How Sphinx builds the site; `build.py` calls it on a folder of pages that it has put together."""

import os
import sys
from pathlib import Path
from typing import Any

SITE = Path(__file__).parent
sys.path.insert(0, str(SITE))

import prose  # noqa: E402
import reference  # noqa: E402

project = "jaxplain"
author = "the authors of jaxplain"
copyright = author
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "mathml"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
}
html_title = "jaxplain"
html_static_path = [str(SITE / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
nitpicky = False
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries = False

if os.environ.get("JAXPLAIN_EXAMPLES"):
    import gallery

    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = gallery.settings(Path(os.environ["JAXPLAIN_EXAMPLES"]), "JAXPLAIN_ALL_EXAMPLES" in os.environ)


def as_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Give napoleon docstrings without what Sphinx would take for marks."""
    if name.rpartition(".")[2] in reference.methods():  # the table above it has the source
        lines[:] = "\n".join(lines).partition("\nSource: ")[0].split("\n")
    lines[:] = prose.docstring(lines, reference.link(reference.space_of(name)))


def leave_out(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a named tuple say nothing of themselves."""
    return True if type(thing).__name__ in ("_tuplegetter", "member_descriptor") else None


def setup(app: Any) -> None:
    """Read docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", as_text, priority=400)
    app.connect("autodoc-skip-member", leave_out)
