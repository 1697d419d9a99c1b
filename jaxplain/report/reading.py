"""How each section of a page is read, by the function that makes it, and in it by heading where it makes several."""

from __future__ import annotations

SECTIONS: dict[str, str] = {
    "clusters_section": "Look for a small, separate cluster whose mean attribution lies on something that should not "
    "matter: separation is the share of the variance that lies between it and the rest, 1 where it is far apart.",
    "concept_section": "A concept matters where its statistic lies outside what random concepts of the same size "
    "reach; p is the share of them that reach as much, corrected for all that were tried, and low to high is the "
    "confidence interval over the examples.",
    "dictionary_section": "A good dictionary explains much of the variance with few features active at once and few "
    "dead ones (active in no example); each row below is one feature.",
    "examples_section": "Each row is one example: red speaks for the score and blue against it (of a table its "
    "strongest features, longer bars for stronger ones), ± below a map is where its colours end, and a gap is what the "
    "attributions miss of the score's difference from the baseline's.",
    "influence_section": "A training example is helpful (left, green) where learning from it made the score of the "
    "query better, harmful (right, red) where it made it worse; the numbers in the table say how far to believe it.",
    "landscape_section": "Sharp ends have large eigenvalues of the curvature and saddles have negative ones; ± after "
    "an eigenvalue is how far the nearest true one is at most.",
    "learning_dynamics_section": "Examples that are learnt late, forgotten often or end wrong are the hardest: look "
    "there for wrong labels and rare cases.",
    "training_section": "The first lines say what the curves mean and, where there was validation, which epoch's "
    "params were kept; the figures and tables below show it.",
}
"""Sections that a function returns."""

EXPLANATIONS: dict[str, str] = {
    "How far to trust it": "A completeness gap is what attributions miss of the score's change from the baseline; "
    "beside the median change it should be small, and nothing should fail to be finite.",
    "Classes": "A row is a class that was explained, with its number of examples and the means of what is known of "
    "them.",
    "Examples that stand out": "Each row is one example and says why it is here: red speaks for the score and blue "
    "against it (of a table its strongest features, longer bars for stronger ones), ± below a map is where its colours "
    "end, and a gap is what the attributions miss of the score's difference from the baseline's.",
    "Mean absolute attribution": "The redder a place, the more it matters over all examples, whether it speaks for "
    "the score or against it.",
    "The strongest features": "Long bars are features that matter most over all examples, whether for or against the "
    "score.",
    "Values and attributions": "Where colours part from left to right, large values of the feature raise or lower the "
    "score.",
    "Settings and versions": "With these, the same explanations can be made again.",
}
"""Sections of `explanations_page`, by their headings."""
