"""Measures of a classifier and of its explanations: arrays in, numbers out.

=====================  ==================================================================================
``accuracy``           how often the right class wins
``calibration``        probabilities by one temperature, and how far they can be trusted
``confusion``          which classes are taken for which
``selection``          embeddings compared by exact leave-one-out
``suspects``           labels that the other training pictures contradict
``duplicates``         pictures that are nearly the same
``ranking``            how well a score finds planted faults
``localisation``       does a map point at the object, beside chance
``faithfulness``       does the logit fall when the map says so: at token level, at pixel level
``funnybirds``         does a map name the parts that made the classifier say so: one rendered picture
``funnybirds_scores``  the same of many pictures, with standard errors
``pixels``             values of regions as a map over pixels
``baselines``          what a user would take instead, on the same embeddings
``tables``             results as Markdown
=====================  ==================================================================================
"""

from carrot.evaluation.accuracy import Accuracy, mean_per_class_accuracy, summary, top_k_accuracy
from carrot.evaluation.selection import Candidate, candidate, select

__all__ = ["Accuracy", "Candidate", "candidate", "mean_per_class_accuracy", "select", "summary", "top_k_accuracy"]
