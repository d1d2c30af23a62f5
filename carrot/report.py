"""Explanations for people: text, figures drawn with matplotlib, JSON, and a page of HTML."""

from carrot.explanation.as_json import explanation_data
from carrot.explanation.figure import Pair, Panel, explanation_figure, plot_explanation
from carrot.explanation.page import explanation_page
from carrot.explanation.text import accuracy_line, check_line, explanation_lines, story_lines

__all__ = [
    "Pair",
    "Panel",
    "accuracy_line",
    "check_line",
    "explanation_data",
    "explanation_figure",
    "explanation_lines",
    "explanation_page",
    "plot_explanation",
    "story_lines",
]
