"""CARROT inside scikit-learn: the closed-form head over embeddings, and pictures as embeddings.

::

    RidgeHeadClassifier("loo").fit(E, y).predict(E_new)         any embeddings: numpy, torch, data frames
    RidgeHeadRegressor("loo").fit(E, y).predict(E_new)
    make_pipeline(CarrotFeatures("toy"), RidgeHeadClassifier("loo")).fit(paths, y)

They follow scikit-learn's conventions to the letter (its ``check_estimator`` is among the tests), and ``head_`` is
the ``carrot.RidgeHead`` for all that is exact. scikit-learn comes with the extra "sklearn".
"""

from typing import TYPE_CHECKING

from carrot._lazy import face

if TYPE_CHECKING:
    from carrot.estimators.classifier import RidgeHeadClassifier
    from carrot.estimators.features import CarrotFeatures
    from carrot.estimators.regressor import RidgeHeadRegressor

__all__ = ["CarrotFeatures", "RidgeHeadClassifier", "RidgeHeadRegressor"]

__getattr__, __dir__ = face(
    __name__,
    {"classifier": ("RidgeHeadClassifier",), "features": ("CarrotFeatures",), "regressor": ("RidgeHeadRegressor",)},
)
