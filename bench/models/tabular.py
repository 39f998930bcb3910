"""Other tabular pipelines: strings and one-hot, PCA, SVM, nearest neighbours, Gaussian process, naive Bayes, text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.case import Built, Case, Feed, Model, of_rows, sized
from bench.models import corpus, learned

SIZES = (1, 10_000)
_NEEDS = ("sklearn", "skl2onnx")
_CORPUS = (
    "titanic_pipeline", "coltransformer_gbc", "bow_logreg_stringsplit", "gaussian_nb", "gp_rbf_diabetes", "kbins_iris", "kmeans_digits",
    "knn_reg_distance", "pca_ridge_f64", "svr_diabetes", "predictable_tsne_knn", "lgbm_hummingbird_cls", "mlp_digits",
)  # fmt: skip
_WORDS = (
    "river", "stone", "cloud", "paper", "glass", "metal", "wooden", "quiet",
    "green", "early", "north", "salt", "bread", "window", "market", "harbour", "train", "letter",
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Pipelines from scikit-learn, then those of the corpus."""
    for name, (build, feed) in _MADE.items():
        yield from sized(name, Model(name, build, _NEEDS), feed, SIZES)
    yield from corpus.tables(SIZES, *_CORPUS)


def _numbers(rows: int) -> Feed:
    return {"X": learned.table(rows, 20, seed=1)[0]}


def _labels(y: np.ndarray) -> np.ndarray:
    return np.digitize(y, np.quantile(y, (1 / 3, 2 / 3)))


def _onehot() -> Built:
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    x = _strings(600)["X"]
    fitted = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(x, np.arange(600) % 3)
    return learned.converted(fitted, StringTensorType([None, 5]), classifier=True)


def _strings(rows: int) -> Feed:
    return {"X": np.random.default_rng(0).choice(np.array(_WORDS, object), (rows, 5))}


def _tfidf() -> Built:
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    x = _texts(400)["X"]
    fitted = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression()).fit(x, np.arange(400) % 3)
    return learned.converted(fitted, StringTensorType([None]), classifier=True)


def _texts(rows: int) -> Feed:
    distinct = np.random.default_rng(0).choice(np.array(_WORDS, object), (min(rows, 1000), 12))
    return of_rows({"X": np.array([" ".join(words) for words in distinct], object)}, rows)


def _estimator(make: Callable[[], Any], rows: int, classes: bool = False) -> Callable[[], Built]:
    def build() -> Built:
        x, y = learned.table(rows, 20)
        return learned.converted(make().fit(x, _labels(y) if classes else y), learned.floats(20), classes)

    return build


def _pca() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), PCA(8, random_state=0), LogisticRegression())


def _svr() -> Any:
    from sklearn.svm import SVR

    return SVR(C=2.0)


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(5, algorithm="brute")


def _process() -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    return GaussianProcessRegressor(RBF(2.0), alpha=0.1, optimizer=None)


def _bayes() -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


_MADE: dict[str, tuple[Callable[[], Built], Callable[[int], Feed]]] = {
    "onehot_strings_logistic": (_onehot, _strings),
    "tfidf_logistic": (_tfidf, _texts),
    "scaler_pca_logistic": (_estimator(_pca, 500, True), _numbers),
    "svr_rbf_500": (_estimator(_svr, 500), _numbers),
    "knn_500": (_estimator(_neighbours, 500), _numbers),
    "gaussian_process_200": (_estimator(_process, 200), _numbers),
    "naive_bayes_3_classes": (_estimator(_bayes, 500, True), _numbers),
}
