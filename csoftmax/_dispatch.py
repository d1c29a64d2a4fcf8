"""Which build of the kernels runs on this machine.

`samples` and `special` stand on `kernels`. This stands on the compiled modules alone.
The one place where the build is chosen: by the processor, or by the environment variable CSOFTMAX_ISA.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType

try:
    from csoftmax import _cpu
except ImportError as error:
    raise ImportError(
        "csoftmax's compiled modules are missing: Python is importing the source folder instead of an installed "
        "csoftmax; run `python setup.py build_ext --inplace` there, or start Python from another folder after "
        f"`pip install .` ({error})"
    ) from None

# x86-64 level -> the builds that run there, the best first; 0 is any other architecture
_BUILDS = {4: ("v4", "v3", "baseline"), 3: ("v3", "baseline"), 2: ("baseline",), 0: ("baseline",)}


def available() -> tuple[str, ...]:
    """Return the names of the builds that this processor can run, the best first.

    Examples
    --------
    >>> from csoftmax import _dispatch
    >>> _dispatch.available()[-1]
    'baseline'
    """
    return _BUILDS[_cpu.level()]


def load(isa: str | None = None, suffix: str = "") -> ModuleType:
    """Return the kernels built for `isa`; by default CSOFTMAX_ISA, else the best this processor can run.

    With the suffix "_single", those whose arithmetic is in float32.

    Raises
    ------
    ImportError
        If `isa` names no build, or one that this processor cannot run.
    """
    runs_here = available()
    isa = isa or os.environ.get("CSOFTMAX_ISA") or runs_here[0]
    if isa not in runs_here:
        raise ImportError(f"CSOFTMAX_ISA is {isa!r}; this processor can run {', '.join(map(repr, runs_here))}")
    return importlib.import_module(f"csoftmax._kernels_{isa}{suffix}")


kernels = load()
isa = kernels.__name__.rpartition("_")[2]


@functools.cache
def load_single() -> ModuleType:
    """Return the kernels of the same build whose arithmetic is in float32; imported when first asked for."""
    single = load(isa, "_single")
    kernels.take_single(single._capi)
    return single
