"""The exact head as a referee of training-data attribution: scores with a name, truth to score others against.

::

    training_scores(head, g, kind="removal", of="logit")     (m, n): what each training picture did to each answer
    write_truth(head, g, folder); Truth.load(folder)         leave-one-out, groups and subsets, really refitted
    carrot.referee.quanda.CarrotExplainer                    the scores as quanda has an explainer
    carrot.referee.dattri.CarrotAttributor                   and as dattri has an attributor

quanda and dattri are imported by their own modules alone.
"""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.referee.scores import Question, training_scores
    from carrot.referee.truth import Truth, write_truth

__all__ = ["Question", "Truth", "training_scores", "write_truth"]

__getattr__, __dir__ = face(__name__, {"scores": ("Question", "training_scores"), "truth": ("Truth", "write_truth")})
