"""One self-contained page of a run, or of a folder of explanations: no network, and no script but its own.

Sections are figures, tables and texts that the caller made; nothing is computed here but the page.
"""

from jaxplain.report.concept import clusters_section, concept_section
from jaxplain.report.dictionary import dictionary_section
from jaxplain.report.dynamics import learning_dynamics_section
from jaxplain.report.examples import examples_section
from jaxplain.report.explanations import explanations_page
from jaxplain.report.influence import influence_section
from jaxplain.report.landscape import landscape_section
from jaxplain.report.page import Section, Table, report
from jaxplain.report.training import training_section

__all__ = [
    "Section",
    "Table",
    "clusters_section",
    "concept_section",
    "dictionary_section",
    "examples_section",
    "explanations_page",
    "influence_section",
    "landscape_section",
    "learning_dynamics_section",
    "report",
    "training_section",
]
