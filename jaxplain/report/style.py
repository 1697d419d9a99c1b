"""The looks of a page, light or dark as its reader's screen is."""

from __future__ import annotations

_COLOURS = """
:root { color-scheme: light dark; --text: #1f2328; --page: #ffffff; --line: #d1d9e0; --faint: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --page: #0d1117; --line: #3d444d; --faint: #9198a1; }
}
"""

_TABLES = """
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { max-width: 100cqw; text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th[scope=row], th:first-child { text-align: left; font-weight: 500; }
thead th { font-weight: 600; }
"""

FRAME = f"""{_COLOURS}{_TABLES}
body {{ margin: 0; color: var(--text); background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }}
"""
"""Of a document inside the page; what it brings itself comes after and holds."""

PAGE = f"""{_COLOURS}{_TABLES}
body {{ margin: 0 auto; max-width: 72rem; padding: 1.5rem; color: var(--text); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.7rem; margin: 0 0 .75rem; }}
h2 {{ font-size: 1.2rem; margin: 0; display: inline; }}
nav {{ margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; }}
a {{ color: inherit; text-underline-offset: .2em; }}
details {{ border-top: 1px solid var(--line); padding: .9rem 0; }}
summary {{ cursor: pointer; }}
summary::marker {{ color: var(--faint); }}
p {{ max-width: 48rem; margin: .7rem 0; white-space: pre-line; overflow-wrap: anywhere; }}
.wide {{ container-type: inline-size; overflow-x: auto; margin: .8rem 0; }}
figure {{ margin: .8rem 0; overflow-x: auto; }}
img {{ max-width: 100%; height: auto; box-sizing: border-box; padding: .5rem; border-radius: .4rem;
  background: #ffffff; }}
iframe {{ display: block; width: 100%; margin: .8rem 0; border: 0; resize: vertical; overflow: auto; }}
@media print {{ nav {{ display: none; }} }}
"""
