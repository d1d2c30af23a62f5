"""Measures of a classifier and of its explanations: arrays in, numbers out."""

from carrot.evaluation.accuracy import Accuracy, mean_per_class_accuracy, summary, top_k_accuracy
from carrot.evaluation.selection import Candidate, candidate, select

__all__ = ["Accuracy", "Candidate", "candidate", "mean_per_class_accuracy", "select", "summary", "top_k_accuracy"]
