"""What scikit-learn asks of an estimator: parameters that can be read and set, tags, pickling.

``clone``, ``cross_val_score``, ``GridSearchCV`` and ``Pipeline`` then work on pictures: lists or arrays of paths, or
arrays of pictures. scikit-learn is not imported but by itself.
"""

from threading import RLock
from typing import Any


class Estimator:
    """The conventions, over what the constructor was given: ``_given``, by name, untouched.

    Subclasses set ``_given`` and ``_lock`` in their constructor.
    """

    _estimator_type = "classifier"
    _given: dict[str, Any]
    _lock: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return dict(self._given)

    def set_params(self, **params: Any) -> "Estimator":
        """Set some of the constructor's arguments; what was fitted is dropped.

        Raises:
            ValueError: A name is unknown, or a value out of range.
        """
        unknown = sorted(params.keys() - self._given.keys())
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no parameter of {type(self).__name__}; it has {', '.join(self._given)}."
            )
        if params:
            with self._lock:
                type(self).__init__(self, **{**self._given, **params})
        return self

    def get_metadata_routing(self) -> Any:
        """Return what of its verbs takes metadata, for scikit-learn's routing: ``sample_weight`` of fit and score."""
        from copy import deepcopy

        from sklearn.utils.metadata_routing import MetadataRequest

        asked = self.__dict__.get("_metadata_request")  # by this name ``clone`` carries it on
        if asked is not None:
            return deepcopy(asked)
        request = MetadataRequest(owner=self)
        for verb in (request.fit, request.score):
            verb.add_request(param="sample_weight", alias=None)
        return request

    def set_fit_request(self, *, sample_weight: bool | str | None) -> "Estimator":
        """Say whether ``fit`` gets ``sample_weight``, where scikit-learn routes metadata."""
        return self._requesting("fit", sample_weight)

    def set_score_request(self, *, sample_weight: bool | str | None) -> "Estimator":
        """Say whether ``score`` gets ``sample_weight``, where scikit-learn routes metadata."""
        return self._requesting("score", sample_weight)

    def _requesting(self, verb: str, sample_weight: bool | str | None) -> "Estimator":
        request = self.get_metadata_routing()
        getattr(request, verb).add_request(param="sample_weight", alias=sample_weight)
        self._metadata_request = request
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_now", None) is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(one_d_array=True, two_d_array=False, three_d_array=True, string=True),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = RLock()
