"""The registry of cases: one file each. A case is a module with TITLE, run(settings), which yields timing.Row as they
are measured, and, where its rows hold values, VALUES, which says what they are. run.py stands on it.
It stands on nothing: a case is imported when it is run."""

import importlib

NAMES = ("likelihood", "roofline", "softmax", "fit", "solvers", "inference", "coverage", "memory")


def load(name):
    return importlib.import_module(f"cases.{name}")
