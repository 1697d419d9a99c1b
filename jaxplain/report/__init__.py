"""One self-contained page of a run, or of a folder of explanations."""

from jaxplain.report.page import Section, Table, report

__all__ = ["Section", "Table", "report"]
