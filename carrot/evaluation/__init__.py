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
``cells``              boxes that overlap, cut into cells that don't
``pixel_ranks``        are the map's highest pixels the object's: rank accuracy, AUC, top area
``grid_pointing``      does the map of a class lie on its picture in a mosaic
``targets``            what a map should point at: masks, boxes, points; areas inside them
``faithfulness``       does the logit fall when the map says so: at token level, at pixel level
``agreement``          does a map foretell what happens when regions go, and how sparse is it
``funnybirds``         does a map name the parts that made the classifier say so: one rendered picture
``funnybirds_scores``  the same of many pictures, with standard errors
``pixels``             which regions hold something of a mask
``baselines``          what a user would take instead, on the same embeddings
``tables``             results as Markdown
``verdict``            what figures come to, in plain sentences
=====================  ==================================================================================
"""

from carrot.evaluation.accuracy import Accuracy, mean_per_class_accuracy, summary, top_k_accuracy
from carrot.evaluation.selection import Candidate, candidate, select

__all__ = ["Accuracy", "Candidate", "candidate", "mean_per_class_accuracy", "select", "summary", "top_k_accuracy"]
