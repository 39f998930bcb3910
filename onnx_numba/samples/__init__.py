"""Small models shipped with the package."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """File names of the shipped models."""
    return sorted(path.name for path in _HERE.glob("*.onnx"))


def path(name: str = "logreg_iris.onnx") -> str:
    """Path of a shipped model.

    Parameters
    ----------
    name : str
        One of ``names()``. The default is scikit-learn's logistic regression on the iris data, with labels and a ZipMap.
    """
    if name not in names():
        raise FileNotFoundError(f"no sample {name!r}; there are {names()}")
    return str(_HERE / name)
