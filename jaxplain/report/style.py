"""The looks of a page, light or dark as its reader's screen is."""

from __future__ import annotations

_COLOURS = """
:root { color-scheme: light dark; --text: #1f2328; --page: #ffffff; --line: #d1d9e0; --faint: #59636e;
  --right: #1a7f37; --wrong: #b2182b; --against: #2166ac; --focus: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --page: #0d1117; --line: #3d444d; --faint: #9198a1;
    --right: #3fb950; --wrong: #ff7b72; --against: #79c0ff; --focus: #79c0ff; }
}
"""

_TABLES = """
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { max-width: 100cqw; text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th[scope=row], th:first-child { text-align: left; font-weight: 500; }
thead th { font-weight: 600; }
.faint { color: var(--faint); }
td.words { text-align: left; }
td:not(.words) { white-space: nowrap; }
.cells td { min-width: 2rem; }
td[style] { padding: .25rem .5rem; }
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
.reading {{ max-width: 48rem; margin: .3rem 0 .8rem; color: var(--faint); font-size: .9rem; }}
figure {{ margin: .8rem 0; }}
.drawn {{ overflow-x: auto; }}
figure img {{ min-width: var(--usual); max-width: 100%; height: auto; box-sizing: border-box; padding: .5rem;
  border-radius: .4rem; background: #ffffff; }}
@media (max-width: 40rem) {{ figure img {{ min-width: var(--narrow); }} body {{ padding: 1rem; }} }}
:focus-visible {{ outline: .15rem solid var(--focus); outline-offset: .1rem; }}
iframe {{ display: block; width: 100%; margin: .8rem 0; border: 0; resize: vertical; overflow: auto; }}
@media print {{ nav {{ display: none; }} }}
"""

GALLERY = """
.filters-of-maps { position: absolute; }
.tools { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0; }
.tools fieldset { border: 1px solid var(--line); border-radius: .4rem; padding: .2rem .7rem .5rem; min-width: 0;
  display: flex; flex-wrap: wrap; gap: .3rem .9rem; align-items: center; }
.tools fieldset[hidden] { display: none; }
.tools legend { color: var(--faint); font-size: .9rem; padding: 0 .3rem; }
.tools input[type=number] { width: 6rem; }
.tools label, .tools select { max-width: 100%; }
.tools :is(input, select, button), .gallery th button, dialog :is(input, button) { font: inherit; color: var(--text);
  background: var(--page); }
.tools :is(select, button), .tools input[type=number], dialog :is(input, button) { border: 1px solid var(--faint);
  border-radius: .3rem; padding: .15rem .5rem; }
.bar { color: var(--faint); font-size: .9rem; white-space: nowrap; }
.bar i { display: inline-block; width: 5rem; height: .7rem; border: 1px solid var(--line); background: var(--bar); }
.gallery table { width: 100%; }
.gallery td, .gallery th { padding: .35rem .6rem .35rem 0; vertical-align: top; overflow-wrap: anywhere; }
.gallery tbody td { white-space: normal; }
.gallery tbody td.number { white-space: nowrap; }
.gallery th button { overflow-wrap: normal; }
.gallery tbody td:not(.by) { min-width: 4rem; max-width: 14rem; }
.gallery :is(.by, .bare, .seen) { text-align: left; }
.gallery th button { border: 0; padding: .1rem .2rem; font-weight: inherit; cursor: pointer; text-align: inherit;
  text-decoration: underline; text-underline-offset: .2em; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.gallery .map, .gallery .input { display: block; width: 6.5rem; max-height: 10rem; object-fit: contain; }
.map, .input { image-rendering: pixelated; }
.map { filter: var(--colours); cursor: crosshair; }
.end { color: var(--faint); font-size: .8rem; }
.end::after { content: attr(data-end); }
.right { color: var(--right); white-space: nowrap; }
.wrong { color: var(--wrong); white-space: nowrap; }
.bars { display: grid; grid-template-columns: fit-content(60%) 1fr; column-gap: .4rem; list-style: none; margin: 0;
  padding: 0; text-align: left; font-size: .9rem; }
.bars li { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; }
.bars i { display: inline-block; height: .7rem; background: var(--wrong); vertical-align: baseline; }
.bars i.against { background: var(--against); }
.tip { position: fixed; z-index: 9; padding: .1rem .5rem; border-radius: .3rem; font-size: .9rem; pointer-events: none;
  color: var(--page); background: var(--text); }
dialog { width: 60rem; max-width: calc(100vw - 2rem); box-sizing: border-box; color: var(--text);
  background: var(--page);  border: 1px solid var(--faint); border-radius: .5rem; }
dialog .views { display: flex; flex-wrap: wrap; gap: 1rem; }
dialog h3 { margin: 0; }
dialog figure { width: clamp(8rem, 30%, 18rem); margin: 0; }
dialog .frame { position: relative; overflow: hidden; }
dialog figure .map { width: 100%; min-width: 0; padding: 0; border-radius: 0; }
dialog .frame i { position: absolute; box-sizing: border-box; outline: 2px solid #000; outline-offset: -2px;
  border: 3px solid #fff;
  pointer-events: none; }
dialog input { width: 5rem; }
dialog label { margin-right: 1rem; }
@media (max-width: 45rem) {
  .gallery table, .gallery tbody { display: block; }
  .gallery thead tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; }
  .gallery thead th { border: 0; text-align: left; }
  .gallery thead :is(.by, .bare) { display: none; }
  .gallery tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .2rem .8rem;
    border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .gallery tbody tr[hidden] { display: none; }
  .gallery tbody th { grid-column: 1 / -1; border: 0; }
  .gallery tbody th::before { content: "example "; color: var(--faint); font-size: .8rem; }
  .gallery tbody td { border: 0; text-align: left; overflow-wrap: anywhere; }
  .gallery tbody td::before { content: attr(data-head); display: block; color: var(--faint); font-size: .8rem; }
  .gallery tbody td:not(.by) { min-width: 0; }
  .gallery tbody td:has(.bars) { grid-column: 1 / -1; }
  .gallery .map, .gallery .input { width: 100%; max-width: 9rem; }
}
"""
"""Of examples to sort and to filter; on a narrow screen a row becomes a block of its own."""
