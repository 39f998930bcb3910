"""Models that scikit-learn fits and skl2onnx converts, small and from fixed seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.case import Built, Source

OPSET = {"": 18, "ai.onnx.ml": 3}


def converted(estimator: Any, port: Any, classifier: bool = False) -> Built:
    """An estimator as a model; a classifier gives its probabilities as one matrix."""
    import skl2onnx

    options = {id(estimator): {"zipmap": False}} if classifier else None
    model = skl2onnx.convert_sklearn(estimator, initial_types=[("X", port)], target_opset=OPSET, options=options)
    source = Source(estimator, 1, "predict_proba") if classifier else Source(estimator, 0, _method(estimator))
    return Built(model.SerializeToString(), {"scikit_learn": source})


def _method(estimator: Any) -> str:
    return "predict" if hasattr(estimator, "predict") else "transform"


def floats(features: int) -> Any:
    """The type of a matrix of so many features."""
    from skl2onnx.common.data_types import FloatTensorType

    return FloatTensorType([None, features])


def table(rows: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and a target that depends on them without being simple."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, features)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + np.abs(x[:, 3 % features]) + 0.3 * generator.standard_normal(rows)
    return x, y.astype(np.float32)


def scaler_linear() -> Built:
    """Standardised features and a linear regression."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return converted(make_pipeline(StandardScaler(), LinearRegression()).fit(*table(500, 10)), floats(10))


def forest(trees: int, depth: int, features: int = 10, rows: int = 4000) -> Built:
    """A random forest for regression."""
    from sklearn.ensemble import RandomForestRegressor

    x, y = table(rows, features)
    fitted = RandomForestRegressor(trees, max_depth=depth, random_state=0).fit(x, y)
    return _forest(fitted, converted(fitted, floats(features)))


def forest_classifier(trees: int, depth: int, features: int = 30, rows: int = 4000, classes: int = 3) -> Built:
    """A random forest for classes."""
    from sklearn.ensemble import RandomForestClassifier

    x, y = table(rows, features)
    labels = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    fitted = RandomForestClassifier(trees, max_depth=depth, random_state=0).fit(x, labels)
    return _forest(fitted, converted(fitted, floats(features), classifier=True))


def _forest(fitted: Any, built: Built) -> Built:
    leaves = max(int(tree.tree_.n_leaves) for tree in fitted.estimators_)
    return Built(built.onnx, {**built.sources, "forest": Source("scikit_learn")}, leaves)
