"""The house keeps its shape: imports point down the layers, import csoftmax stays light, every kernel has its stub.

Nothing stands on this file. It stands on the installed package's own source.
"""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import csoftmax

PACKAGE = Path(csoftmax.__file__).parent
SOURCES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}

# from the ground up; a module imports only from lines above its own. A new module gets its place here first.
LAYERS = (
    ("datasets", "_files", "tables", "_cpu", "_handoff", "_entries", "_cyutility", "_kernels_baseline",
     "_kernels_v3", "_kernels_v4"),
    ("_dispatch", "_threads"),
    ("samples", "cython_softmax", "constraints"),
    ("encoding",),
    ("likelihood", "special"),
    ("objective",),
    ("metric",),
    ("blocks",),
    ("certificate", "separation", "leverage", "restricted", "refined"),
    ("maximize",),
    ("lasso", "bias_reduction"),
    ("inference", "summary", "plotting"),
    ("sandwich", "estimates", "covariates", "hypotheses"),
    ("margins", "probabilities", "profile", "report"),
    ("result",),
    ("fitting",),
    ("formula",),
    ("serialization", "comparison"),
    ("path",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
# the faces import the package lazily where a command or a method needs it
FACES = {"formula", "serialization", "plotting", "cli"}


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree, inside_functions):
    """The modules of csoftmax that a module imports, those inside functions only where asked for."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "csoftmax":
                    yield [*name.name.split("."), "__init__"][1]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            parts = (node.module or "").split(".")
            if parts[0] == "csoftmax":
                for name in node.names:
                    # `from csoftmax import samples` is of samples, `from csoftmax import fit` of the whole package
                    yield parts[1] if len(parts) > 1 else name.name if name.name in LEVEL else "__init__"
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_has_a_place_in_the_layers(module):
    assert module in LEVEL


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_down_the_layers(module):
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    for imported in imports(tree, inside_functions=module not in FACES):
        assert imported in LEVEL, f"{module} imports {imported}, which has no place in LAYERS"
        assert LEVEL[imported] < LEVEL[module], f"{module} imports {imported}, which does not lie below it"


def test_the_reader_of_imports_sees_each_form_of_them():
    tree = ast.parse("import csoftmax.cli\nimport csoftmax, numpy\nfrom csoftmax import samples, fit\n"
                     "from csoftmax.result import X\ntry:\n    from csoftmax import metric\nexcept ImportError: pass\n"
                     "def f():\n    from csoftmax.dask import fit\n"
                     "if TYPE_CHECKING:\n    from csoftmax.plotting import plot\n")
    at_import = ["__init__", "__init__", "cli", "metric", "result", "samples"]
    assert sorted(imports(tree, inside_functions=False)) == at_import
    assert sorted(imports(tree, inside_functions=True)) == sorted([*at_import, "dask"])


def test_only_samples_and_special_call_the_kernels():
    # the fixture kernel_build exchanges the kernels in these two
    users = [module for module, path in SOURCES.items()
             if "kernels" in {name.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                              if isinstance(node, ast.ImportFrom) for name in node.names}]
    assert users == ["samples", "special"]


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_opens_with_a_docstring(module):
    docstring = ast.get_docstring(ast.parse(SOURCES[module].read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("module", SOURCES)
def test_what_a_docstring_says_stands_on_a_module_does(module):
    said = " ".join(ast.get_docstring(ast.parse(SOURCES[module].read_text())).split())
    for above, below in re.findall(r"([^.]*) stands? on it\. It stands on ([^.]*)", said):
        for upper, lower in [*((name, module) for name in re.findall(r"`(\w+)`", above)),
                             *((module, name) for name in re.findall(r"`(\w+)`", below))]:
            if {upper, lower} <= set(SOURCES):
                assert lower in imports(ast.parse(SOURCES[upper].read_text()), inside_functions=True)


def test_every_public_name_is_there_and_has_a_docstring():
    for name in csoftmax.__all__:
        value = getattr(csoftmax, name)
        assert value.__doc__, name


def test_import_csoftmax_imports_no_optional_library():
    script = "import sys, csoftmax; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"numpy", "scipy", "csoftmax"} <= loaded
    assert not loaded & {"pandas", "formulaic", "rich", "sklearn", "matplotlib", "dask", "pyarrow", "joblib",
                         "statsmodels"}


# ---------------------------------------------------------------------------------------------------------------------
# Compiled modules

COMPILED = ["_cpu", "_handoff", "_entries", "cython_softmax",
            *(f"_kernels_{level}{precision}" for level in ("baseline", "v3", "v4") for precision in ("", "_single"))]


def test_missing_compiled_modules_are_told_with_what_to_do(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "csoftmax", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    # -S: without site-packages, where an installed csoftmax may be found first
    run = subprocess.run([sys.executable, "-S", "-c", "import csoftmax"], cwd=tmp_path, capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert "ImportError: csoftmax's compiled modules are missing" in run.stderr
    assert "build_ext --inplace" in run.stderr


def stubbed(module):
    """The functions and variables that a .pyi declares, followed through `from ... import *`."""
    tree = ast.parse((PACKAGE / f"{module}.pyi").read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            names |= stubbed(node.module.rpartition(".")[2])
    return {name for name in names if not name.startswith("_")}


def compiled(module):
    """An installed compiled module, or a skip where this platform builds or runs none."""
    from csoftmax import _dispatch
    level = module.removeprefix("_kernels_").removesuffix("_single")
    if module.startswith("_kernels_") and level not in _dispatch.available():
        pytest.skip("this processor cannot run that build")
    return importlib.import_module(f"csoftmax.{module}")


@pytest.mark.parametrize("module", COMPILED)
def test_stubs_name_what_compiled_modules_have(module):
    names = {name for name in dir(compiled(module)) if not name.startswith("_")}
    assert names == stubbed(module)


@pytest.mark.parametrize("module", COMPILED)
def test_stubs_have_the_parameters_of_compiled_functions(module):
    source = "_kernels_baseline" if module.startswith("_kernels_") else module
    if module.endswith("_single"):
        source += "_single"
    tree = ast.parse((PACKAGE / f"{source}.pyi").read_text(encoding="utf-8"))
    extension = compiled(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members = {member for member in dir(getattr(extension, node.name)) if not member.startswith("_")}
            assert members == {member.name for member in node.body if not member.name.startswith("_")}
        elif isinstance(node, ast.FunctionDef):
            function = getattr(extension, node.name)
            names = [argument.arg for argument in node.args.args]
            if not names:
                function()
                continue
            # by keyword, with objects that are no arrays: names that differ, or are too few, are complained of first
            with pytest.raises(TypeError) as error:
                (function["double"] if hasattr(function, "__getitem__") else function)(**dict.fromkeys(names, object()))
            assert "keyword" not in str(error.value), error.value
            assert "positional" not in str(error.value), error.value


def test_every_compiled_module_has_a_stub_and_the_package_is_typed():
    for extension in PACKAGE.glob("*.so"):
        module = extension.name.partition(".")[0]
        if module != "_cyutility":  # Cython's own helpers, shared by the others
            assert (PACKAGE / f"{module}.pyi").is_file(), module
    assert (PACKAGE / "py.typed").is_file()


def test_every_exported_c_function_is_in_the_pxd_for_each_type():
    table = compiled("cython_softmax").__pyx_capi__
    declared = re.findall(r"^cdef [a-z]+ (\w+)\(", (PACKAGE / "cython_softmax.pxd").read_text(encoding="utf-8"), re.M)
    assert len(declared) == 10
    for name in declared:
        # a specialisation has __pyx_fuse_0 before its name for float, _1 for double, and a number more for labels
        signatures = {re.search('"(.*)"', repr(capsule))[1] for key, capsule in table.items()
                      if re.fullmatch(rf"__pyx_fuse_[01](_[01])?{name}", key)}
        assert len(signatures) == (4 if name == "log_likelihood_and_gradient" else 2), (name, signatures)
