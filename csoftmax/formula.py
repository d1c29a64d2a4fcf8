"""Fit from a formula and a data frame: `fit_formula("species ~ flipper_length_mm + C(island)", penguins)`.

The command line and `SoftmaxResult.predict` on data frames stand on it (through `Design`).
It stands on `fitting`, and on formulaic and pandas, which are imported when a formula is used.
"""

from __future__ import annotations

import ast
import copy
import difflib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csoftmax.fitting import fit

if TYPE_CHECKING:
    import pandas as pd

    from csoftmax.result import SoftmaxResult

__all__ = ["Design", "fit_formula"]

_FORMAT = "csoftmax.Design"
_VERSION = 1


class _FirstClass:
    """The default of `reference=`; None already means the symmetric rows."""

    def __repr__(self) -> str:
        return "<first class>"


FIRST_CLASS: Any = _FirstClass()

# ---------------------------------------------------------------------------------------------------------------------
# The language of a term. formulaic evaluates a term as Python, so what a term may contain is a list, and a term is
# checked against it before formulaic sees it: a saved model can be loaded from a stranger, and every fitted formula
# can be saved. Elementwise functions only: np.mean(x) would take a different value on new data; center(x) does not.
# ---------------------------------------------------------------------------------------------------------------------
_TRANSFORMS = frozenset(
    "C I Q bs cc center cr cs exp10 hashed poly scale standardize Treatment Poly Sum Helmert Diff".split()
)
_ELEMENTWISE = frozenset(
    """abs arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil clip cos cosh exp exp2 expm1 floor hypot isin
    log log10 log1p log2 logaddexp maximum minimum power rint round sign sin sinh sqrt square tan tanh trunc
    where""".split()
)
_CONTRASTS = frozenset("helmert poly sum treatment SAS diff custom".split())
_CONTRAST_NAMES = frozenset("Treatment Poly Sum Helmert Diff".split())  # may stand uncalled: C(x, Sum)
_TREATMENTS = frozenset({"Treatment", "contr.treatment", "contr.SAS"})  # those that have a base level
_ATTRIBUTES = frozenset({"np.e", "np.pi"} | {f"contr.{name}" for name in _CONTRASTS})  # these too: C(x, contr.sum)
_CALLABLE = _TRANSFORMS | _ELEMENTWISE | {f"np.{name}" for name in _ELEMENTWISE} | _ATTRIBUTES - {"np.e", "np.pi"}
_NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.List, ast.Tuple)
_NODES += (ast.operator, ast.unaryop, ast.cmpop, ast.expr_context)  # type: ignore[assignment]


def _import_formulaic() -> Any:
    try:
        import formulaic
        import pandas  # noqa: F401
    except ImportError as exc:
        raise ImportError(
            f'formulas need formulaic and pandas ({exc.name} is not installed): pip install "csoftmax[formula]"'
        ) from exc
    return formulaic


def _numpy_functions() -> dict[str, Any]:
    """The elementwise functions under their bare names: sqrt(x) as well as np.sqrt(x)."""
    return {name: getattr(np, name) for name in _ELEMENTWISE}


def _names(values: Iterable[Any], limit: int = 10) -> str:
    """'a', 'b', 'c' (and 4 more)."""
    shown = [repr(v.item() if isinstance(v, np.generic) else v) for v in values]
    more = f" (and {len(shown) - limit} more)" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def _close(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelled name, or nothing."""
    known = sorted(known)
    folded = {k.casefold(): k for k in known}
    close = [folded[m] for m in difflib.get_close_matches(name.casefold(), list(folded), n=3)]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _one_line(exc: BaseException) -> str:
    """The text of formulaic's exceptions without colours and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).split())


def _dotted(node: ast.AST) -> str | None:
    """'np.log' for a name or for an attribute of a name, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _columns_in(expr: str) -> list[str]:
    """The columns that a Python term reads; ValueError where the term holds what the language above leaves out."""
    from formulaic.utils.code import sanitize_variable_names

    def refuse(what: str) -> ValueError:
        return ValueError(
            f"the term {expr!r} {what}; a term may hold columns, arithmetic, elementwise functions (log, sqrt, "
            "np.exp, ...) and formulaic's transforms (C, scale, poly, bs, ...): compute anything else as a column first"
        )

    aliases: dict[str, str] = {}
    try:
        # the same rewriting of `quoted names` that formulaic does before it evaluates
        tree = ast.parse(sanitize_variable_names(expr, {}, aliases), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise ValueError(f"the term {expr!r} cannot be read as an expression: {_one_line(exc)}") from None
    columns: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            if node.value is not None and not isinstance(node.value, (bool, int, float, str)):
                raise refuse(f"holds the constant {node.value!r}")
            # formulaic pastes a transform's text between double quotes into code that it compiles
            if isinstance(node.value, str) and (not node.value.isprintable() or set(node.value) & set("'\"\\")):
                raise refuse(f"holds the text {node.value!r} with a quote, a backslash or an unprintable character")
        elif isinstance(node, ast.Name):
            name = aliases.get(node.id, node.id)
            if name.startswith("__"):
                raise refuse(f"uses the name {name!r}")
            if name not in _CONTRAST_NAMES:
                columns.append(name)
        elif isinstance(node, ast.Attribute):
            if _dotted(node) not in _ATTRIBUTES:
                raise refuse(f"takes the attribute {node.attr!r}")
        elif isinstance(node, ast.Call):
            name = _dotted(node.func) or ast.unparse(node.func)
            if name not in _CALLABLE:
                hint = _close(name, _CALLABLE).removeprefix("; ")
                raise refuse(f"calls {name!r}" + (f" ({hint})" if hint else ""))
            if name == "Q":
                arguments = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                if len(node.args) != 1 or len(arguments) != 1 or node.keywords:
                    raise refuse("calls Q with something other than one column name in quotes")
                visit(node.args[0])
                columns.append(arguments[0])
                return
            for argument in node.args:
                visit(argument)
            for keyword in node.keywords:
                if keyword.arg is None or keyword.arg.startswith("_"):
                    raise refuse(f"passes {'**' if keyword.arg is None else repr(keyword.arg)} to {name}")
                visit(keyword.value)
        elif isinstance(node, _NODES) or (isinstance(node, ast.Dict) and None not in node.keys):
            for child in ast.iter_child_nodes(node):
                visit(child)
        else:
            raise refuse(f"holds Python's {type(node).__name__}")

    try:
        visit(tree)
    except RecursionError:
        raise ValueError("a term of the formula is nested too deeply") from None
    for alias, name in aliases.items():
        # formulaic would draw a random alias, and lose the transform's state between fit and predict
        if alias != name and alias in columns:
            raise refuse(f"uses both `{name}` and {alias!r}, which formulaic cannot tell apart (rename one)")
    return list(dict.fromkeys(columns))


def _category_call(expr: str) -> ast.Call | None:
    """The term as read, if it is C(column) or C(column, ...)."""
    from formulaic.utils.code import sanitize_variable_names

    try:
        tree = ast.parse(sanitize_variable_names(expr, {}, {}), mode="eval").body
    except (SyntaxError, ValueError):  # a column's own name
        return None
    if not (isinstance(tree, ast.Call) and _dotted(tree.func) == "C" and tree.args):
        return None
    first = tree.args[0]
    is_column = isinstance(first, ast.Name) or (isinstance(first, ast.Call) and _dotted(first.func) == "Q")
    return tree if is_column else None


def _base_level(expr: str, levels: list[Any]) -> Any:
    """The level that a factor's columns compare the others with: a treatment contrast's own, else the first."""
    from formulaic import ModelSpec
    from formulaic.transforms import TRANSFORMS
    from formulaic.transforms.contrasts import TreatmentContrasts
    from formulaic.utils.stateful_transforms import stateful_eval

    call = _category_call(expr)
    if call is None:
        return levels[0]
    contrast = next((k.value for k in call.keywords if k.arg == "contrasts"), call.args[1] if call.args[1:] else None)
    if contrast is None or _dotted(contrast.func if isinstance(contrast, ast.Call) else contrast) not in _TREATMENTS:
        return levels[0]
    chosen = stateful_eval(ast.unparse(contrast), TRANSFORMS, None, None, ModelSpec(formula=[]))
    if not isinstance(chosen, TreatmentContrasts):  # uncalled
        chosen = chosen()
    return chosen.get_coefficient_row_names(levels)[0]


# A factor as (how formulaic evaluates it, its text); a term is a product of factors; the terms are added.
_Factor = tuple[str, str]
_Term = tuple[_Factor, ...]
_INTERCEPT: _Term = (("literal", "1"),)


def _factor_columns(factor: _Factor) -> list[str]:
    how, expr = factor
    if how == "lookup":
        return [expr]
    return _columns_in(expr) if how == "python" else []


def _term_columns(terms: Iterable[_Term]) -> list[str]:
    return list(dict.fromkeys(name for term in terms for factor in term for name in _factor_columns(factor)))


def _parse(formula: str, available: Sequence[str]) -> tuple[_Factor, list[_Term]]:
    """The left side's factor and the right side's terms; `.` on the right is every other column of `available`."""
    from formulaic import SimpleFormula
    from formulaic.errors import FormulaicError
    from formulaic.formula import Formula
    from formulaic.parser import DefaultFormulaParser
    from formulaic.parser.algos.tokenize import tokenize

    if not isinstance(formula, str):
        raise TypeError(f"formula is {type(formula).__name__}; wanted text such as 'species ~ body_mass_g + C(island)'")
    try:
        for token in tokenize(formula):
            if token.kind is not None and token.kind.value == "python":
                _columns_in(token.token)
        parsed: Any = Formula.from_spec(
            formula,
            parser=DefaultFormulaParser(feature_flags={"twosided"}),
            context={"__formulaic_variables_available__": list(available)},
        )
    except FormulaicError as exc:
        raise ValueError(f"formula {formula!r} cannot be read: {_one_line(exc)}") from None
    if isinstance(parsed, SimpleFormula) or not hasattr(parsed, "lhs"):
        raise ValueError(f"formula {formula!r} has no left side; wanted 'labels ~ predictors'")

    def factors(term: Any) -> _Term:
        return tuple((factor.eval_method.value, factor.expr) for factor in term.factors)

    left = [factors(term) for term in parsed.lhs]
    if len(left) != 1 or len(left[0]) != 1 or left[0][0][0] == "literal":
        raise ValueError(
            f"the left side of formula {formula!r} has {len(left)} terms; wanted one column (or expression) of labels; "
            f"counts of the classes go to fit(X, y), or, a row for each class, into sample_weight"
            if len(left) != 1
            else f"the left side of formula {formula!r} is no column; wanted one column (or expression) of labels"
        )
    terms = [factors(term) for term in parsed.rhs]
    if not terms:
        raise ValueError(f"the right side of formula {formula!r} is empty: neither an intercept nor a predictor")
    return left[0][0], terms


# ---------------------------------------------------------------------------------------------------------------------
# Columns of the data
# ---------------------------------------------------------------------------------------------------------------------
def _as_frame(data: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, Mapping) or (isinstance(data, np.ndarray) and data.dtype.names):
        return pd.DataFrame(data)
    raise TypeError(
        f"data is {type(data).__name__}; a formula wants a pandas DataFrame, or a dict or record array of columns"
    )


def _check_columns(frame: pd.DataFrame, columns: Iterable[str], formula: str) -> None:
    present = [str(name) for name in frame.columns]
    for name in columns:
        if name not in frame.columns:
            hint = _close(name, present) or f"; its columns are {_names(present)}"
            raise ValueError(f"formula {formula!r} uses the column {name!r}, which data does not have{hint}")
        if present.count(name) > 1:
            raise ValueError(f"data has {present.count(name)} columns named {name!r}, which formula {formula!r} uses")


def _plain(series: pd.Series, name: str, kind: str | None = None) -> tuple[pd.Series, str]:
    """A complete column as NumPy numbers or bools ("number"), or as text or categories ("category").

    `kind` is what the column was at fit; None at fit, where unused categories go.
    """
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        if kind is None:
            return series.cat.remove_unused_categories(), "category"
        if kind == "category":
            return series.astype(object), "category"
        series = series.astype(series.cat.categories.dtype)
    if series.dtype == object:
        series = series.infer_objects()
    types = pd.api.types
    plain: pd.Series
    if types.is_bool_dtype(series.dtype):
        plain, found = series.astype(bool), "number"
    elif types.is_integer_dtype(series.dtype):
        plain, found = series.astype(np.uint64 if types.is_unsigned_integer_dtype(series.dtype) else np.int64), "number"
    elif types.is_float_dtype(series.dtype):
        plain, found = series.astype(np.float64), "number"
    elif types.is_string_dtype(series.dtype) or series.dtype == object:
        plain, found = series.astype(object), "category"
    else:
        raise ValueError(
            f"column {name!r} has dtype {series.dtype}; a formula takes numbers, bools, text and categoricals"
        )
    if kind == "category" and found == "number":
        plain, found = plain.astype(object), "category"  # compared with the levels by value: 1 is 1 in a CSV
    elif kind == "number" and found == "category":
        raise ValueError(f"column {name!r} held numbers at fit, and holds text here, such as {plain.iloc[0]!r}")
    return plain, found


def _typical(series: pd.Series, name: str, categorical: bool, weight: np.ndarray | None) -> dict[str, Any]:
    """What `Design.typical_values` says of one complete column."""
    import pandas as pd

    plain, _ = _plain(series, name)
    if categorical or plain.dtype == bool:
        codes, levels = pd.factorize(plain, sort=True)
        totals = np.bincount(codes, weight)
        shown = [v.item() if isinstance(v, np.generic) else v for v in levels]
        return {"value": shown[int(totals.argmax())], "levels": shown if len(shown) <= 100 else []}
    values = plain.to_numpy(dtype=np.float64)
    with np.errstate(all="ignore"):
        mean = float(np.average(values, weights=weight))
    low, high = float(values.min()), float(values.max())
    return {"value": min(max(mean, low), high), "low": low, "high": high}


def _missing(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, np.ndarray]:
    """Where each of the columns has missing values, for those that have some."""
    masks = {name: frame[name].isna().to_numpy(dtype=bool) for name in columns}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _say_missing(masks: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name!r} in {int(mask.sum())} rows" for name, mask in masks.items())


# ---------------------------------------------------------------------------------------------------------------------
# Plain data for a transform's state
# ---------------------------------------------------------------------------------------------------------------------
def _pack(value: Any, transform: str) -> Any:
    """A transform's state as JSON; TypeError where it is not made of numbers, text, arrays, lists and dicts."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": _pack(value.tolist(), transform)}
    if isinstance(value, (list, tuple)):
        return [_pack(item, transform) for item in value]
    if isinstance(value, dict) and all(isinstance(key, (str, int, np.integer)) for key in value):
        return {"dict": [[_pack(key, transform), _pack(item, transform)] for key, item in value.items()]}
    raise TypeError(
        f"the state of the transform {transform!r} holds a {type(value).__name__}, which JSON cannot keep; "
        "compute the transform as a column of the data first"
    )


def _unpack(value: Any, transform: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_unpack(item, transform) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((tag, content),) = value.items()
        if tag == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if tag == "array":
            return np.asarray(_unpack(content, transform), dtype=np.float64)
        if tag == "dict" and isinstance(content, list) and all(isinstance(p, list) and len(p) == 2 for p in content):
            if all(isinstance(key, (str, int)) for key, _ in content):
                return {key: _unpack(item, transform) for key, item in content}
    raise ValueError(f"the design's state of the transform {transform!r} cannot be read")


def _want(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(f"not a design that csoftmax saved: {what}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


# ---------------------------------------------------------------------------------------------------------------------
class Design:
    """How a data frame becomes a matrix: the right side of a formula, and what it learned from the data at fit.

    Made by `fit_formula` (as `result.design`) and by `Design.from_dict`. On new data it uses the levels, centres and
    knots of the data it was fitted on.

    Attributes
    ----------
    formula : str
        The formula as it was written.
    feature_names : list of str
        Names of the columns of the matrix, n_features of them; the intercept is not among them.
    fit_intercept : bool
        Whether the formula has an intercept.
    columns : dict of str to str
        The columns of the data that the right side reads, each "number" or "category".
    typical : dict of str to dict
        For each of these columns what `typical_values` says of the complete rows at fit, weights counted.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.datasets import load_penguins
    >>> result = cs.fit_formula("species ~ flipper_length_mm + sex", load_penguins())
    >>> result.design.feature_names
    ['flipper_length_mm', 'sex[T.male]']
    >>> result.design.matrix({"flipper_length_mm": [200.0, 181.0], "sex": ["male", "female"]})
    array([[200.,   1.],
           [181.,   0.]])
    """

    formula: str
    feature_names: list[str]
    columns: dict[str, str]
    typical: dict[str, dict[str, Any]]

    def __init__(
        self,
        formula: str,
        terms: Sequence[_Term],
        columns: dict[str, str],
        *,
        feature_names: Sequence[str] = (),
        levels: Mapping[str, Sequence[Any]] | None = None,
        transforms: Mapping[str, dict[str, Any]] | None = None,
        typical: Mapping[str, dict[str, Any]] | None = None,
        term_sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.formula = formula
        self.columns = dict(columns)
        self.feature_names = list(feature_names)
        self._terms = [tuple(term) for term in terms]
        self._levels = {expr: list(values) for expr, values in (levels or {}).items()}
        self._transforms = copy.deepcopy(dict(transforms or {}))
        self.typical = copy.deepcopy(dict(typical or {}))
        self._term_sizes = dict(term_sizes or {})

    @property
    def terms(self) -> dict[str, list[int]]:
        """The places of each term's columns among `feature_names`; the intercept is not a term."""
        places = iter(range(len(self.feature_names)))
        return {term: [next(places) for _ in range(size)] for term, size in self._term_sizes.items()}

    @property
    def fit_intercept(self) -> bool:
        return _INTERCEPT in self._terms

    def __repr__(self) -> str:
        return f"Design({self.formula!r}, n_features={len(self.feature_names)}, fit_intercept={self.fit_intercept})"

    def __reduce__(self) -> tuple[Callable[..., Design], tuple[Any, ...]]:
        return Design._restore, (
            (self.formula, self._terms, self.columns),
            {"feature_names": self.feature_names, "levels": self._levels, "transforms": self._transforms,
             "typical": self.typical, "term_sizes": self._term_sizes},
        )

    @classmethod
    def _restore(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Design:
        return cls(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Design) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    # -- the matrix --------------------------------------------------------------------------------------------------
    def _build(
        self, frame: pd.DataFrame, rows: pd.Index
    ) -> tuple[np.ndarray, list[str], dict[str, Any], dict[str, Any], dict[str, int]]:
        """(matrix, names, levels, transform states, columns of each term) from complete columns.

        `rows` are their labels in the messages.
        """
        import pandas as pd
        from formulaic import ModelSpec, SimpleFormula
        from formulaic.errors import FormulaicError
        from formulaic.materializers import PandasMaterializer
        from formulaic.parser.types import Factor, Term
        from formulaic.transforms import TRANSFORMS

        terms = [Term([Factor(expr, eval_method=how) for how, expr in term]) for term in self._terms]
        spec = ModelSpec(
            formula=SimpleFormula(terms, _ordering="none"),
            na_action="ignore",
            output="numpy",  # a data frame would have one column of a name that two terms give
            transform_state=copy.deepcopy(self._transforms),
            encoder_state={e: (Factor.Kind.CATEGORICAL, {"categories": list(v)}) for e, v in self._levels.items()},
        )
        functions = {name: function for name, function in _numpy_functions().items() if name not in TRANSFORMS}
        materializer = PandasMaterializer(frame, context=functions)
        built: Any = None
        failure: Exception | None = None
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                # levels outside the known ones: formulaic warns and codes them as the base level; refused below
                warnings.simplefilter("ignore")
                built = materializer.get_model_matrix(spec)
        except (FormulaicError, TypeError, ValueError) as exc:
            failure = exc

        levels = {expr: list(values) for expr, values in self._levels.items()}
        if built is not None:
            for expr, (kind, state) in built.model_spec.encoder_state.items():
                if kind is Factor.Kind.CATEGORICAL and "categories" in state:
                    levels[expr] = [v.item() if isinstance(v, np.generic) else v for v in state["categories"]]
        for expr, seen in levels.items():
            if expr not in materializer.factor_cache:
                continue
            values = materializer.factor_cache[expr].values
            unseen = set(pd.unique(pd.Series(getattr(values, "__wrapped__", values)))).difference(seen)
            if unseen:
                columns = _names(next(_factor_columns(f) for t in self._terms for f in t if f[1] == expr))
                of = f"column {columns}" if expr in self.columns else f"the term {expr!r} of column {columns}"
                raise ValueError(
                    f"{of} has levels that the fit did not see: {_names(sorted(unseen, key=str))}; "
                    f"it saw {_names(seen)}"
                    if self.feature_names
                    else f"{of} has levels that its levels= leaves out: {_names(sorted(unseen, key=str))}"
                )
        if failure is not None:
            raise ValueError(f"formula {self.formula!r} cannot be evaluated: {_one_line(failure)}") from failure

        of_column = [(str(s.term), str(name)) for s in built.model_spec.structure for name in s.columns]
        kept = [j for j, (term, _) in enumerate(of_column) if term != "1"]
        names = [of_column[j][1] for j in kept]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two terms of formula {self.formula!r} give a column named {twice!r}; rename the column "
                             f"of data")
        whole = np.asarray(built)
        if whole.dtype.kind not in "biuf":  # one that is text makes all of them text or objects
            for j, name in zip(kept, names, strict=True):
                try:
                    whole[:, j].astype(np.float64)
                except (TypeError, ValueError) as exc:
                    raise ValueError(f"the term {name!r} is not numeric: {_one_line(exc)}") from None
        matrix: np.ndarray = whole[:, kept].astype(np.float64, copy=False)
        bad = ~np.isfinite(matrix)
        if bad.any():
            j = int(np.flatnonzero(bad.any(axis=0))[0])
            i = int(np.flatnonzero(bad[:, j])[0])
            raise ValueError(
                f"the term {names[j]!r} is {matrix[i, j]} in {int(bad[:, j].sum())} rows where its columns have "
                f"values; the first is row {_names([rows[i]])}"
            )
        sizes = {str(s.term): len(s.columns) for s in built.model_spec.structure if s.columns and str(s.term) != "1"}
        return matrix, names, levels, dict(built.model_spec.transform_state), sizes

    def _complete(self, data: Any) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        _import_formulaic()
        frame = _as_frame(data)
        _check_columns(frame, self.columns, self.formula)
        return frame, _missing(frame, self.columns)

    def missing_rows(self, data: Any) -> np.ndarray:
        """Which rows of `data` have a missing value in a column that the model reads.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows

        Returns
        -------
        ndarray of bool, shape (n_samples,)

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> penguins = load_penguins()
        >>> design = cs.fit_formula("species ~ flipper_length_mm", penguins).design
        >>> int(design.missing_rows(penguins).sum())
        2
        """
        frame, masks = self._complete(data)
        return np.logical_or.reduce([np.zeros(len(frame), dtype=bool), *masks.values()])

    def matrix(self, data: Any, *, missing: str = "raise") -> np.ndarray:
        """The matrix of `data`, coded as at fit.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows
            With every column of `self.columns`; others are not looked at. A dict of columns will do.
        missing : {"raise", "nan"}
            What a row with a missing value becomes. "raise", the default, refuses it and names the columns, so that no
            prediction goes missing unseen; "nan" makes it a row of nan.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_features)
            Without an intercept column.

        Raises
        ------
        ValueError
            If a column is absent, or holds text where the fit had numbers, or a level that the fit did not see, or
            missing values with ``missing="raise"``; or if a term is not finite.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> design = cs.fit_formula("species ~ log(body_mass_g)", load_penguins()).design
        >>> design.matrix({"body_mass_g": [1.0, None]}, missing="nan")
        array([[ 0.],
               [nan]])
        """
        if missing not in ("raise", "nan"):
            raise ValueError(f"missing is {missing!r}; wanted 'raise' or 'nan'")
        frame, masks = self._complete(data)
        if masks and missing == "raise":
            raise ValueError(
                f"data has missing values: {_say_missing(masks)}; drop these rows, or ask for rows of nan with "
                "design.matrix(data, missing='nan')"
            )
        complete = ~np.logical_or.reduce([np.zeros(len(frame), dtype=bool), *masks.values()])
        out = np.full((len(frame), len(self.feature_names)), np.nan)
        if not complete.any() or not self.feature_names:
            return out
        kept = frame.loc[complete, list(self.columns)]
        rows = kept.index
        kept = kept.reset_index(drop=True)
        for name, kind in self.columns.items():
            kept[name] = _plain(kept[name], name, kind)[0]
        matrix, names, _, transforms, _ = self._build(kept, rows)
        if names != self.feature_names or transforms.keys() != self._transforms.keys():
            raise ValueError(f"data gives the columns {names}; at fit they were {self.feature_names}")
        if complete.all():
            return matrix
        out[complete] = matrix
        return out

    def complete(self, data: Any) -> pd.DataFrame:
        """The variables that the model reads, of `data`, from which nothing may be missing.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows, or a dict of columns

        Returns
        -------
        pandas.DataFrame of n_samples rows

        Raises
        ------
        ValueError
            If a column is absent, or has missing values.
        """
        frame, masks = self._complete(data)
        if masks:
            raise ValueError(f"data has missing values: {_say_missing(masks)}; drop these rows")
        return frame[list(self.columns)]

    def levels(self, column: str) -> list[Any] | None:
        """The levels of a column that the formula takes for categories, in their order; None of a column of numbers.

        Parameters
        ----------
        column : str
            Of `self.columns`. It may stand as it is or as ``C(column, ...)``: then it has no derivative. A column of
            which only an expression is categorical, as in ``C(x > 3)``, is one of numbers.

        Returns
        -------
        list or None

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> design = cs.fit_formula("species ~ flipper_length_mm + C(year)", load_penguins()).design
        >>> design.levels("year"), design.levels("flipper_length_mm")
        ([2007, 2008, 2009], None)
        """
        expr = self._factor_of(column)
        return None if expr is None else list(self._levels[expr])

    def base_level(self, column: str) -> Any:
        """The level of a column of categories that coefficients and margins compare the others with.

        Parameters
        ----------
        column : str
            One that has `levels`.

        Returns
        -------
        label
            The base of ``C(column, contr.treatment(base))`` (in formulaic's spellings, `Treatment` and `contr.SAS`
            too); otherwise the first level. Where several factors hold the column, the first one's.

        Raises
        ------
        ValueError
            If the formula does not take the column for categories.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> design = cs.fit_formula("species ~ flipper_length_mm + C(year, Treatment(2008))", load_penguins()).design
        >>> design.base_level("year")
        2008
        """
        expr = self._factor_of(column)
        if expr is None:
            raise ValueError(f"column is {column!r}; one that the formula takes for categories is wanted")
        return _base_level(expr, self._levels[expr])

    def _factor_of(self, column: str) -> str | None:
        """The first factor that takes a whole column for categories."""
        for expr in self._levels:
            if expr == column or (_category_call(expr) is not None and _columns_in(expr)[:1] == [column]):
                return expr
        return None

    def typical_values(self, data: Any, weight: np.ndarray | None = None) -> dict[str, dict[str, Any]]:
        """A value for each column that the model reads, and the values between which, or which, it takes.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows
            Rows with a missing value are left out.
        weight : ndarray of shape (n_samples,), optional

        Returns
        -------
        dict of str to dict
            Of a column of numbers "value", its weighted mean, "low" and "high". Of a column of categories, of bools,
            or one that a term takes as categories (``C(year)``): "value", the most frequent one, and "levels", in the
            Categorical's order or sorted; none where there are more than 100.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> penguins = load_penguins()
        >>> cs.fit_formula("species ~ sex", penguins).design.typical_values(penguins)
        {'sex': {'value': 'male', 'levels': ['female', 'male']}}
        """
        frame, masks = self._complete(data)
        rows = ~np.logical_or.reduce([np.zeros(len(frame), dtype=bool), *masks.values()])
        if weight is not None:
            rows &= weight > 0
            weight = weight[rows]
        if not rows.any():
            raise ValueError("data has no complete row of positive weight")
        as_levels = {name for term in self._terms for factor in term if factor[1] in self._levels
                     for name in _factor_columns(factor)}
        return {
            name: _typical(frame.loc[rows, name], name, kind == "category" or name in as_levels, weight)
            for name, kind in self.columns.items()
        }

    # -- saving ------------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """The design as plain data for JSON: text, numbers, lists and dicts.

        Returns
        -------
        dict
            What `Design.from_dict` reads.

        Raises
        ------
        TypeError
            If the levels of a column or the state of a transform are not plain values; the message names it.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> design = cs.fit_formula("species ~ flipper_length_mm + sex", load_penguins()).design
        >>> design.to_dict()["levels"]
        [['sex', ['female', 'male']]]
        """
        of_columns = {name: [t["value"], *t.get("levels", ())] for name, t in self.typical.items()}
        for expr, values in [*self._levels.items(), *of_columns.items()]:
            odd = next((v for v in values if not isinstance(v, (bool, int, float, str))), None)
            if odd is not None:
                raise TypeError(
                    f"the levels of {expr!r} are {type(odd).__name__}, such as {odd!r}, which JSON cannot keep; "
                    "turn the column into text first"
                )
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "formula": self.formula,
            "terms": [[list(factor) for factor in term] for term in self._terms],
            "columns": dict(self.columns),
            "feature_names": list(self.feature_names),
            "levels": [[expr, list(values)] for expr, values in self._levels.items()],
            "transforms": [[name, _pack(state, name)] for name, state in self._transforms.items()],
            "typical": copy.deepcopy(self.typical),
            "term_sizes": [[term, size] for term, size in self._term_sizes.items()],
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Design:
        """Read what `to_dict` wrote.

        Nothing is executed here. When the design is used, formulaic evaluates its terms, which hold columns,
        arithmetic, elementwise functions and formulaic's own transforms; a term that holds anything else, an attribute
        or a dunder name included, is refused here.

        Parameters
        ----------
        saved : dict
            From `to_dict`, perhaps by way of JSON.

        Returns
        -------
        Design

        Raises
        ------
        ValueError
            If `saved` has another format or version, unknown or absent keys, or a term outside the language above.

        Examples
        --------
        >>> import csoftmax as cs
        >>> from csoftmax.datasets import load_penguins
        >>> from csoftmax.formula import Design
        >>> design = cs.fit_formula("species ~ scale(body_mass_g)", load_penguins()).design
        >>> Design.from_dict(design.to_dict()) == design
        True
        """
        _import_formulaic()
        _want(isinstance(saved, Mapping), f"it is {type(saved).__name__}, not a dict")
        _want(saved.get("format") == _FORMAT, f"its format is {saved.get('format')!r}, not {_FORMAT!r}")
        version = saved.get("version")
        _want(
            version == _VERSION and not isinstance(version, bool),
            f"its version is {version!r}, and this csoftmax reads {_VERSION}",
        )
        wanted = {"format", "version", "formula", "terms", "columns", "feature_names", "levels", "transforms",
                  "typical", "term_sizes"}
        _want(saved.keys() <= wanted, f"unknown keys {_names(sorted(map(str, saved.keys() - wanted)))}")
        _want(saved.keys() >= wanted, f"the keys {_names(sorted(wanted - saved.keys()))} are absent")
        formula, columns, names = saved["formula"], saved["columns"], saved["feature_names"]
        _want(isinstance(formula, str), "formula is not text")
        _want(_is_texts(names) and len(set(names)) == len(names), "feature_names is not a list of different texts")
        _want(
            isinstance(columns, dict) and all(kind in ("number", "category") for kind in columns.values()),
            "columns is not a dict of 'number' and 'category'",
        )

        terms: list[_Term] = []
        _want(isinstance(saved["terms"], list), "terms is not a list")
        for term in saved["terms"]:
            _want(isinstance(term, list) and bool(term), f"the term {term!r} is not a list of factors")
            for factor in term:
                _want(_is_texts(factor) and len(factor) == 2, f"the factor {factor!r} is not a pair of texts")
                how, expr = factor
                _want(how in ("lookup", "python", "literal"), f"the factor {factor!r} has the kind {how!r}")
                _want(how != "literal" or re.fullmatch(r"[0-9.]+", expr) is not None, f"{expr!r} is not a number")
            terms.append(tuple((how, expr) for how, expr in term))
        used = set(_term_columns(terms))
        _want(used == set(columns), f"its terms use the columns {sorted(used)}, and it lists {sorted(columns)}")

        factors = {expr for term in terms for _, expr in term}
        levels: dict[str, list[Any]] = {}
        transforms: dict[str, dict[str, Any]] = {}
        for key in ("levels", "transforms", "term_sizes"):
            _want(
                isinstance(saved[key], list)
                and all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in saved[key]),
                f"{key} is not a list of pairs",
            )
        for expr, values in saved["levels"]:
            _want(expr in factors, f"levels of {expr!r}, which is not a term")
            _want(
                isinstance(values, list) and all(isinstance(v, (bool, int, float, str)) for v in values),
                f"the levels of {expr!r} are not plain values",
            )
            levels[expr] = values
        for name, state in saved["transforms"]:
            transforms[name] = _unpack(state, name)
            _want(isinstance(transforms[name], dict), f"the state of {name!r} is not a dict")
        typical = saved["typical"]
        _want(isinstance(typical, dict) and typical.keys() == columns.keys(), "typical is no dict of its columns")
        for name, values in typical.items():
            _want(isinstance(values, dict) and set(values) in ({"value", "low", "high"}, {"value", "levels"}),
                  f"the typical values of {name!r} are neither value, low and high nor value and levels")
            plain = [*values["levels"], values["value"]] if "levels" in values else [*values.values()]
            _want(all(isinstance(v, (bool, int, float, str) if "levels" in values else (int, float)) for v in plain),
                  f"the typical values of {name!r} are not plain values")
        sizes = dict(saved["term_sizes"])
        _want(
            all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes.values())
            and sum(sizes.values()) == len(names),
            f"term_sizes are {sizes}, for {len(names)} columns",
        )
        return cls(formula, terms, columns, feature_names=names, levels=levels, transforms=transforms, typical=typical,
                   term_sizes=sizes)


# ---------------------------------------------------------------------------------------------------------------------
@dataclass
class Prepared:
    """What a formula and a data frame give `fit`: n_samples complete rows of matrix, labels, weights and offset.

    `frame` has the same rows of the variables on the right.
    """

    design: Design
    frame: pd.DataFrame
    X: pd.DataFrame
    y: Any
    sample_weight: np.ndarray | None
    offset: np.ndarray | None
    classes: list[Any]
    n_rows: int
    n_missing: int
    missing: dict[str, int]
    complete: np.ndarray


def _labels(values: Any, n_rows: int, formula: str) -> Any:
    """Labels as a NumPy array of bools, ints, floats or text, or as a pandas Categorical."""
    import pandas as pd

    values = getattr(values, "__wrapped__", values)  # C(y)
    values = values if isinstance(values, (pd.Series, pd.Categorical)) else np.asarray(values)
    if values.ndim != 1 or len(values) != n_rows:
        raise ValueError(f"the left side of formula {formula!r} has shape {np.shape(values)}; wanted ({n_rows},)")
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.array
    if series.isna().any():
        raise ValueError(f"the left side of formula {formula!r} is nan in {int(series.isna().sum())} complete rows")
    series, kind = _plain(series, formula.split("~")[0].strip())
    array = series.to_numpy()
    if kind == "category":
        return np.asarray(array, dtype=str) if all(isinstance(label, str) for label in array) else array
    # 0.0, 1.0, nan in a file were 0, 1 and a gap; above 2^53 whole floats are not exact
    if array.dtype.kind == "f" and (np.abs(array) < 2.0**53).all() and (array == np.floor(array)).all():
        return array.astype(np.int64)
    return array


def _classes(y: Any, sample_weight: np.ndarray | None) -> list[Any]:
    """The classes of positive total weight, in sorted or Categorical order."""
    positive = np.ones(len(y), dtype=bool) if sample_weight is None else sample_weight > 0
    if not isinstance(y, np.ndarray):
        present = np.unique(y.codes[positive])
        return [y.categories[code] for code in present if code >= 0]
    return list(np.unique(y[positive]).tolist())


def prepare(
    formula: str,
    data: Any,
    *,
    sample_weight: Any = None,
    offset: Any = None,
    missing: str = "drop",
    apart: str | None = None,
) -> Prepared:
    """Everything `fit_formula` does before the fit; `.` in the formula leaves out the column `apart`."""
    _import_formulaic()
    import pandas as pd
    from formulaic import ModelSpec
    from formulaic.transforms import TRANSFORMS
    from formulaic.utils.layered_mapping import LayeredMapping
    from formulaic.utils.stateful_transforms import stateful_eval

    if missing not in ("drop", "raise"):
        raise ValueError(f"missing is {missing!r}; wanted 'drop' or 'raise'")
    frame = _as_frame(data)
    n_rows = len(frame)
    weight_column = sample_weight if isinstance(sample_weight, str) else None
    left, terms = _parse(
        formula, [c for c in frame.columns if isinstance(c, str) and c not in (weight_column, apart)])
    left_columns, right_columns = _factor_columns(left), _term_columns(terms)
    used = list(dict.fromkeys([*left_columns, *right_columns]))
    _check_columns(frame, used, formula)
    masks = _missing(frame, used)

    weight: np.ndarray | None = None
    if weight_column is not None:
        if weight_column not in frame.columns:
            hint = _close(weight_column, map(str, frame.columns))
            raise ValueError(f"sample_weight names the column {weight_column!r}, which data does not have{hint}")
        sample_weight = frame[weight_column]
    if sample_weight is not None:
        if isinstance(sample_weight, pd.Series):
            try:
                sample_weight = pd.to_numeric(sample_weight).to_numpy(dtype=np.float64, na_value=np.nan)
            except (TypeError, ValueError) as exc:
                raise ValueError(f"sample_weight {weight_column or ''} is not numeric: {_one_line(exc)}") from None
        weight = np.asarray(sample_weight, dtype=np.float64)
        if weight.shape != (n_rows,):
            raise ValueError(
                f"sample_weight has shape {weight.shape}; wanted ({n_rows},), a weight for each row of data"
            )
        if np.isnan(weight).any():
            masks[weight_column or "sample_weight"] = np.isnan(weight)
    if offset is not None:
        offset = np.asarray(offset, dtype=np.float64)
        if offset.ndim != 2 or len(offset) != n_rows:
            raise ValueError(f"offset has shape {offset.shape}; wanted ({n_rows}, n_classes)")
        if np.isnan(offset).any():
            masks["offset"] = np.isnan(offset).any(axis=1)

    if masks and missing == "raise":
        raise ValueError(f"data has missing values: {_say_missing(masks)}; missing='drop' leaves these rows out")
    complete = ~np.logical_or.reduce([np.zeros(n_rows, dtype=bool), *masks.values()])
    if not complete.any():
        raise ValueError(
            f"data has no complete row among {n_rows}" + (f": missing values in {_say_missing(masks)}" if masks else "")
        )
    kept = frame.loc[complete, used]
    rows = kept.index
    kept = kept.reset_index(drop=True)
    columns: dict[str, str] = {}
    for name in right_columns:
        kept[name], columns[name] = _plain(kept[name], name)

    labels: Any
    if left[0] == "lookup":
        labels = frame.loc[complete, left[1]]
    else:
        for name in left_columns:
            if name not in columns:
                kept[name] = _plain(kept[name], name)[0]
        try:
            labels = stateful_eval(
                left[1],
                LayeredMapping(LayeredMapping(kept, name="data"), _numpy_functions(), TRANSFORMS),
                None,
                None,
                ModelSpec(formula=[]),
            )
        except Exception as exc:
            raise ValueError(f"the left side {left[1]!r} cannot be evaluated: {_one_line(exc)}") from exc
    y = _labels(labels, int(complete.sum()), formula)

    design = Design(formula, terms, columns)
    matrix, design.feature_names, design._levels, design._transforms, design._term_sizes = design._build(
        kept[right_columns], rows
    )
    weight = None if weight is None else weight[complete]
    if weight is None or (weight.sum() > 0 and weight.min() >= 0 and np.isfinite(weight).all()):  # otherwise fit raises
        design.typical = design.typical_values(kept, weight)
    return Prepared(
        design=design,
        frame=kept[right_columns],
        X=pd.DataFrame(matrix, columns=design.feature_names, index=rows),
        y=y,
        sample_weight=weight,
        offset=None if offset is None else offset[complete],
        classes=_classes(y, weight),
        n_rows=n_rows,
        n_missing=int(n_rows - complete.sum()),
        missing={name: int(mask.sum()) for name, mask in masks.items()},
        complete=complete,
    )


def fit_prepared(prepared: Prepared, *, reference: Any = FIRST_CLASS, **fit_options: Any) -> SoftmaxResult:
    """`fit` on what `prepare` gave; the result keeps the design."""
    for name in ("X", "y", "fit_intercept"):
        if name in fit_options:
            raise TypeError(f"fit_formula takes no {name}: the formula and data say it")
    if reference is FIRST_CLASS:
        reference = prepared.classes[0] if prepared.classes else None
    result = fit(
        prepared.X,
        prepared.y,
        fit_intercept=prepared.design.fit_intercept,
        reference=reference,
        sample_weight=prepared.sample_weight,
        offset=prepared.offset,
        **fit_options,
    )
    result.design = prepared.design
    if fit_options.get("keep_data", True):
        result._frame = prepared.frame
    result.n_missing = prepared.n_missing
    if prepared.n_missing and fit_options.get("keep_data", True):
        result._complete = prepared.complete
    result.response_name = prepared.design.formula.split("~")[0].strip()
    return result


def fit_formula(
    formula: str,
    data: Any,
    *,
    reference: Any = FIRST_CLASS,
    sample_weight: Any = None,
    offset: Any = None,
    missing: str = "drop",
    **fit_options: Any,
) -> SoftmaxResult:
    """Softmax regression from a formula and a data frame.

    Parameters
    ----------
    formula : str
        ``"labels ~ predictors"`` in formulaic's syntax. On the left, one column (or one expression) of labels: text,
        ints, bools, or a Categorical, whose order is kept; whole floats become ints. On the right, columns joined by
        ``+``, interactions ``a:b`` and ``a*b``, ``C(a)`` for categories, ``.`` for every other column, transforms
        (``scale(x)``, ``poly(x, 2)``, ``bs(x, df=4)``, ``log(x)``, ``I(x**2)``); ``- 1`` or ``0 +`` leaves out the
        intercept, and the first categorical is then coded in full. Names with spaces go between backticks. A category's
        first level (in sorted or Categorical order) is what the others are against, in margins too;
        ``C(a, contr.treatment("low"))`` chooses another.
    data : pandas.DataFrame of n_samples rows
        Or a dict or a record array of columns.
    reference : label, optional
        The class shown as 0; by default the first one. None shows the symmetric rows, which sum to 0.
    sample_weight : str or array-like of shape (n_samples,), optional
        The name of a column, or a weight for each row of `data`.
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits; a row for each row of `data`.
    missing : {"drop", "raise"}
        Rows with a missing value in a column that the formula uses, in `sample_weight` or in `offset`, are left out and
        counted in ``result.n_missing``, or refused with an error that names columns and counts.
    **fit_options
        Passed to `fit`: `l2`, `solver`, `tol`, `max_iter`, `n_threads`, ...

    Returns
    -------
    SoftmaxResult
        With ``result.design`` (a `Design`), by which ``predict`` takes data frames, and ``result.n_missing``.

    Raises
    ------
    ImportError
        If formulaic or pandas is not installed: ``pip install "csoftmax[formula]"``.
    ValueError
        If the formula cannot be read, or names a column that `data` does not have, or a term is not finite.

    Notes
    -----
    A term may hold columns, arithmetic, comparisons, elementwise functions and formulaic's transforms. Methods of a
    column and functions such as ``np.mean`` are refused, because they would take other values on new data; ``lag`` is
    refused because it needs the rows before. Missing rows are left out before transforms learn from the data. The
    unused categories of a Categorical predictor get no column; at predict they are unseen levels.

    Examples
    --------
    >>> import csoftmax as cs
    >>> from csoftmax.datasets import load_penguins
    >>> penguins = load_penguins()
    >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
    >>> result.reference, result.n_missing
    ('Adelie', 2)
    >>> result.predict(penguins.iloc[[0, 200]]).tolist()
    ['Adelie', 'Gentoo']
    """
    prepared = prepare(formula, data, sample_weight=sample_weight, offset=offset, missing=missing)
    return fit_prepared(prepared, reference=reference, **fit_options)
