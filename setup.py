"""Builds the extension modules and nothing else; every static fact stands in pyproject.toml."""

import os
import sys
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = ["src/common.pxi", "src/load.pxi", "src/tiles.pxi", "src/residuals.pxi", "src/dense.pxi", "src/hessian.pxi",
           "src/rows.pxi", "src/small.pxi", "src/whole.pxi", "src/capi.pxi", "src/simd.h"]

# CSOFTMAX_BOUNDSCHECK=1 makes a debug build: slow, with symbols, and an index out of bounds raises. It has a folder of
# its own, for what decides whether to build again compares dates and not directives.
DEBUG = os.environ.get("CSOFTMAX_BOUNDSCHECK") == "1"
BUILD_BASE = "build/debug" if DEBUG else "build"
DIRECTIVES = {"language_level": 3, "boundscheck": DEBUG, "wraparound": False, "cdivision": True,
              "initializedcheck": DEBUG, "show_performance_hints": not DEBUG, "embedsignature": True}

# One module a level of processor: the same source, these flags. src/cpu.pyx tells levels apart on Linux alone; any
# other system or architecture has the one build.
if sysconfig.get_platform() == "linux-x86_64":
    LEVELS = {
        "baseline": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }
else:
    LEVELS = {"baseline": []}

# gcc unrolls constant-bound loops into registers only at -O3, and `max-completely-peeled-insns` lets it do so for
# the larger tiles. Stripped of symbols the modules are a fifth of their size.
KERNEL_FLAGS, FLAGS, LINK_FLAGS, LIBRARIES = [], [], [], []
if sys.platform == "win32":
    KERNEL_FLAGS = ["/O2"]
else:
    KERNEL_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
    FLAGS = ["-g" if DEBUG else "-g0"]
    LIBRARIES = ["m"]
if sys.platform == "linux":
    # A tile takes its shape as arguments that are literals where it is called: inlined, always, its loops unroll.
    KERNEL_FLAGS += ["--param=max-completely-peeled-insns=1000",
                     "-DCYTHON_INLINE=__inline__ __attribute__((always_inline))"]
    LINK_FLAGS = [] if DEBUG else ["-Wl,-s"]

# Cython's own helpers (memoryviews above all) stand once in this module rather than in each of the others; cythonize
# writes its C file, whose name has to be the module's.
HELPERS = "csoftmax._cyutility"


MACROS = [("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")]


def extension(name, source, flags=(), macros=(), **options):
    return Extension(name, [source], extra_compile_args=[*flags, *FLAGS], extra_link_args=LINK_FLAGS,
                     libraries=LIBRARIES, define_macros=[*MACROS, *macros], py_limited_api=True, **options)


# and a second module a level, where the arithmetic is in float
PRECISIONS = {"": [], "_single": [("CSOFTMAX_SINGLE", "1")]}

extensions = [
    extension(f"csoftmax._kernels_{level}{suffix}", f"src/kernels_{level}{suffix}.pyx", [*KERNEL_FLAGS, *flags], macros,
              depends=SOURCES, include_dirs=["src"])
    for level, flags in LEVELS.items() for suffix, macros in PRECISIONS.items()
]
extensions += [extension("csoftmax._cpu", "src/cpu.pyx"), extension("csoftmax._handoff", "src/handoff.pyx"),
               extension("csoftmax._entries", "src/entries.pyx"),
               extension(HELPERS, "src/_cyutility.c"),
               extension("csoftmax.cython_softmax", "src/cython_softmax.pyx")]

setup(
    ext_modules=cythonize(extensions, include_path=["src", "."], build_dir=f"{BUILD_BASE}/cython",
                          compiler_directives=DIRECTIVES, shared_utility_qualified_name=HELPERS),
    options={"build": {"build_base": BUILD_BASE}, "build_ext": {"parallel": True},
             "bdist_wheel": {"py_limited_api": "cp311"}},
)
