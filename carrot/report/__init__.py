"""Explanations for people: figures, drawn with matplotlib, and lines of text."""

from carrot.report.figure import Pair, Panel, explanation_figure
from carrot.report.text import accuracy_line, check_line, explanation_lines

__all__ = ["Pair", "Panel", "accuracy_line", "check_line", "explanation_figure", "explanation_lines"]
