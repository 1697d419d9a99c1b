"""Tables in HTML, read."""

import html.parser


class _Rows(html.parser.HTMLParser):
    """The cells of a table, row by row; elements have to close in their order."""

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def rows_of(markup):
    """The rows of a table's cells; every element has to be closed."""
    parser = _Rows()
    parser.feed(markup)
    assert parser.open == []
    return parser.rows
