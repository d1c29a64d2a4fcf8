"""Options and fixtures of the tests.

The tests of kernels stand on `kernel_build`. It stands on csoftmax._dispatch, which knows what this processor can run.
"""

import os

import pytest

from csoftmax import _dispatch, samples, special

# A child process, too, imports the csoftmax that is installed, and not the source in the folder that it starts in.
os.environ["PYTHONSAFEPATH"] = "1"


def pytest_addoption(parser):
    parser.addoption("--references", default=None, metavar="DIR",
                     help="a larger folder of reference results (DIR/refs, DIR/data) for test_references.py")


@pytest.fixture(params=_dispatch.available())
def kernel_build(request, monkeypatch):
    """Run a test once over every build of the kernels that this processor can run; returns that build's module."""
    kernels = _dispatch.load(request.param)
    # the two modules that call kernels: test_structure.py holds that there is no third
    monkeypatch.setattr(samples, "kernels", kernels)
    monkeypatch.setattr(special, "kernels", kernels)
    monkeypatch.setattr(special, "_small", kernels.small)
    single = _dispatch.load(request.param, "_single")
    kernels.take_single(single._capi)
    for module in (samples, special):
        monkeypatch.setattr(module, "load_single", lambda: single)
    return kernels
