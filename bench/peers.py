"""The libraries csoftmax is compared with: which are installed, and how each is told to use one thread and float64.
The cases and run.py stand on it.
It stands on whichever of those libraries there are; every one but NumPy is optional."""

import importlib
import importlib.metadata

MODULES = {"NumPy": "numpy", "SciPy": "scipy", "scikit-learn": "sklearn", "statsmodels": "statsmodels.api",
           "PyTorch": "torch", "JAX": "jax"}  # fmt: skip
_loaded = {}


def peer(name):
    """The module of a peer, set to one thread and float64, or None where it is not installed."""
    if name not in _loaded:
        try:
            module = importlib.import_module(MODULES[name])
        except ImportError:
            module = None
        if module is not None and name == "PyTorch":
            module.set_num_threads(1)
        if module is not None and name == "JAX":
            module.config.update("jax_enable_x64", True)
        _loaded[name] = module
    return _loaded[name]


def missing():
    return [name for name in MODULES if peer(name) is None]


def versions():
    found = {name: importlib.metadata.version(name) for name in ("csoftmax",) if _has_metadata(name)}
    return found | {name: peer(name).__version__ for name in MODULES if peer(name) is not None}


def _has_metadata(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
