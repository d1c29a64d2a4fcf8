"""Builds the extension modules and nothing else; every static fact stands in pyproject.toml."""

import os
import platform
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = ["src/common.pxi", "src/dense.pxi", "src/rows.pxi", "src/simd.h"]

# One module a level of processor: the same source, these flags. gcc unrolls constant-bound loops into registers
# only at -O3, and `max-completely-peeled-insns` lets it do so for the larger tiles.
GNU_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    LEVELS = {
        "baseline": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }
else:
    LEVELS = {"baseline": []}

DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
              "initializedcheck": False, "embedsignature": True}
if os.environ.get("CSOFTMAX_BOUNDSCHECK") == "1":  # a debug build: slow, and an index out of bounds raises
    DIRECTIVES.update(boundscheck=True, initializedcheck=True)

COMMON = {
    "define_macros": [("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")],
    "py_limited_api": True,
}


def flags(level):
    if sys.platform == "win32":
        return ["/O2"]
    gcc_only = ["--param=max-completely-peeled-insns=1000"] if sys.platform.startswith("linux") else []
    return GNU_FLAGS + gcc_only + LEVELS[level]


extensions = [
    Extension(f"csoftmax._kernels_{level}", [f"src/kernels_{level}.pyx"], depends=SOURCES,
              include_dirs=["src"], extra_compile_args=flags(level), **COMMON)
    for level in LEVELS
]
extensions.append(Extension("csoftmax._cpu", ["src/cpu.pyx"], **COMMON))

setup(ext_modules=cythonize(extensions, include_path=["src"], build_dir="build/cython",
                            compiler_directives=DIRECTIVES))
