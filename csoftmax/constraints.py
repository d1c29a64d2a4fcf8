"""Linear hypotheses about the coefficients: read from text or a matrix, and reduced to independent ones.

`restricted`, `hypotheses` and `profile` stand on it. It stands on nothing: it is given names and numbers.

A hypothesis is sum_ki m[r, k, i] w_ki = value[r] for each of its constraints r, of the symmetric rows w: those that sum
to 0 over classes, whatever reference the result shows. One about coefficients shown against class b, w_k - w_b, has
m_b = -sum_{k != b} m_k, so that the same hypothesis is the same numbers for every reference.

Text, loosest first:

    constraints    constraint, constraint, ...
    constraint     side = side [= side ...]
    side           terms joined by + and -; a term is a number, a name, or both, joined by * and /, with parentheses
    name           feature, in every equation; or class: feature, in one

A name of the model is recognised whole, the longest first, so `C(island)[T.Dream]` and `a:b` need no quotes; between
backticks anything is a name. A number is a number unless it stands between backticks or before a colon.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

Array = NDArray[np.float64]

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.])")
_OTHER = re.compile(r"[^\s+\-*/=,:()`]+|.", re.DOTALL)
_MARKS = "+-*/=,:()"  # and == for =
# Parentheses within each other: each takes three calls, of the thousand that Python allows.
_MAX_DEPTH = 100
# What is left of a constraint of length 1, those before it projected out, where it depends on them.
_DEPENDENT = 1e-10

# (class or None, feature), by place: a coefficient, or a feature's in every equation
_Name = tuple[int | None, int]


@dataclass(frozen=True)
class Constraints:
    """sum_ki matrix[r, k, i] w_ki = values[r], of the symmetric rows w.

    Attributes
    ----------
    matrix : ndarray of shape (n_constraints, n_classes, p)
    values : ndarray of shape (n_constraints,)
    text : str
        The hypothesis to read.
    """

    matrix: Array
    values: Array
    text: str

    def independent(self) -> Constraints:
        """Return those of the constraints that do not follow from others.

        Raises
        ------
        ValueError
            If they contradict each other.
        """
        flat = self.matrix.reshape(len(self.matrix), -1)
        size = np.linalg.norm(flat, axis=1)
        unit, values = flat / size[:, np.newaxis], self.values / size
        triangle, order = linalg.qr(unit.T, mode="r", pivoting=True)
        rank = int(np.sum(np.abs(triangle.diagonal()) > _DEPENDENT))
        kept, others = np.sort(order[:rank]), order[rank:]
        if len(others):
            shares = linalg.lstsq(unit[kept].T, unit[others].T)[0].T
            implied, scale = shares @ values[kept], np.abs(shares) @ np.abs(values[kept]) + np.abs(values[others])
            if np.any(np.abs(implied - values[others]) > 1e-9 * scale):
                raise ValueError(f"the constraints {self.text!r} contradict each other")
        return Constraints(self.matrix[kept], self.values[kept], self.text)

    def without(self, parts: Array, size: Array, least: float) -> tuple[Constraints, int]:
        """Return the combinations of the constraints that have no part along some directions; and how many have one.

        A constraint holds for some of the parameters that differ along the directions unless it is such a combination.

        Parameters
        ----------
        parts : ndarray of shape (n_constraints, n_classes, n_directions)
            Of each constraint along each direction.
        size : ndarray of shape (n_constraints,)
            The constraints' lengths.
        least : float
            The part, of a constraint of length 1, that is none.
        """
        left, values, _ = linalg.svd((parts / size[:, np.newaxis, np.newaxis]).reshape(len(parts), -1))
        n_unseen = int(np.sum(values > least))
        if not n_unseen:
            return self, 0
        combine = left[:, n_unseen:].T / size
        return Constraints(np.tensordot(combine, self.matrix, axes=1), combine @ self.values, self.text), n_unseen


@dataclass(frozen=True)
class Names:
    """What the text of a hypothesis may name.

    Attributes
    ----------
    classes : list of str
    features : list of str
        And the intercept, last, as `inference.parameter_names` calls it.
    reference : int or None
        The class whose coefficients are shown as 0.
    """

    classes: list[str]
    features: list[str]
    reference: int | None

    def shown(self) -> list[int]:
        """The equations: all classes but the reference."""
        return [k for k in range(len(self.classes)) if k != self.reference]

    def symmetric(self, shown: Array) -> Array:
        """Return what applies to the symmetric rows as `shown`, of shape (..., n_classes, p), does to those shown."""
        if self.reference is None:
            return shown - shown.mean(axis=-2, keepdims=True)
        matrix = shown.copy()
        matrix[..., self.reference, :] = 0.0
        matrix[..., self.reference, :] = -matrix.sum(axis=-2)
        return matrix


def from_text(text: str | Sequence[str], names: Names) -> Constraints:
    """Read constraints from text, or from several texts.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown (the message says which there are) or the text cannot be read.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not texts or not all(isinstance(item, str) for item in texts):
        raise TypeError(f"constraint is {text!r}; text such as 'x = 0', several of them, or a matrix is wanted")
    rows, values = [], []
    for item in texts:
        reader = _Reader(item, names)
        for difference in reader.constraints():
            for row, value in _equations(difference, names, item):
                rows.append(row)
                values.append(value)
    return Constraints(names.symmetric(np.array(rows)), np.array(values), ", ".join(texts))


def from_matrix(R: ArrayLike, q: ArrayLike | None, names: Names) -> Constraints:
    """Take R theta = q, theta in its order without the reference's row (all rows where there is none).

    Raises
    ------
    ValueError, TypeError
        If a shape does not fit, an entry is not finite, or a row constrains nothing.
    """
    matrix = np.atleast_2d(_numbers("the constraint's matrix", R))
    shown, p = names.shown(), len(names.features)
    if matrix.ndim != 2 or matrix.shape[1] != len(shown) * p or not len(matrix):
        without = "" if names.reference is None else f", without the reference {names.classes[names.reference]!r}"
        raise ValueError(f"the constraint's matrix has shape {matrix.shape}; (n_constraints, {len(shown) * p}) is "
                         f"wanted: a column for each of the {p} coefficients of {len(shown)} classes{without}, as in "
                         f"cov_params()")
    values = np.zeros(len(matrix)) if q is None else np.atleast_1d(_numbers("q", q))
    if values.shape != (len(matrix),):
        raise ValueError(f"q has shape {values.shape}; ({len(matrix)},) is wanted, a value for each constraint")
    for name, array in (("the constraint's matrix", matrix), ("q", values)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has entries that are not finite; finite numbers are wanted")
    full = np.zeros((len(matrix), len(names.classes), p))
    full[:, shown] = matrix.reshape(len(matrix), len(shown), p)
    symmetric = names.symmetric(full)
    empty = np.abs(symmetric).max(axis=(1, 2)) <= 1e-12 * np.abs(full).max(axis=(1, 2))
    if empty.any():
        raise ValueError(f"row {int(np.argmax(empty))} of the constraint's matrix constrains nothing (a sum over all "
                         f"classes is 0 by convention)")
    return Constraints(symmetric, values, f"{len(matrix)} constraint{'s' * (len(matrix) > 1)} by a matrix")


def _numbers(name: str, values: ArrayLike) -> Array:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiubO":
            return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is no array of numbers ({error}); real numbers, rows of one length, are "
                          f"wanted") from None
    raise TypeError(f"{name} has dtype {array.dtype}; real numbers are wanted")


def coefficients(wanted: str | Sequence[str], names: Names) -> NDArray[np.bool_]:
    """Return which coefficients are named, of shape (n_classes, p); a feature alone is that of every equation.

    Raises
    ------
    ValueError
        If a name is unknown, or is of the reference's row.
    """
    chosen = np.zeros((len(names.classes), len(names.features)), dtype=bool)
    for item in [wanted] if isinstance(wanted, str) else wanted:
        for k, i in _Reader(str(item), names).list_of_names():
            if k is not None and k == names.reference:
                raise ValueError(f"{item!r} is of the reference {names.classes[k]!r}, whose coefficients are 0")
            chosen[names.shown() if k is None else k, i] = True
    return chosen


def all_zero(features: Sequence[int], shape: tuple[int, int], text: str) -> Constraints:
    """The hypothesis that those features have no effect: their coefficients are the same for all classes."""
    n_classes, p = shape
    matrix = np.zeros((len(features), n_classes - 1, n_classes, p))
    for row, i in zip(matrix, features, strict=True):
        row[np.arange(n_classes - 1), np.arange(n_classes - 1), i] = 1.0
        row[:, -1, i] = -1.0
    return Constraints(matrix.reshape(-1, n_classes, p), np.zeros(len(features) * (n_classes - 1)), text)


def all_equal(first: int, second: int, features: Sequence[int], shape: tuple[int, int], text: str) -> Constraints:
    """The hypothesis that two classes have the same coefficients of those features."""
    matrix = np.zeros((len(features), *shape))
    matrix[np.arange(len(features)), first, features] = 1.0
    matrix[np.arange(len(features)), second, features] = -1.0
    return Constraints(matrix, np.zeros(len(features)), text)


def _equations(difference: _Sum, names: Names, text: str) -> list[tuple[Array, float]]:
    """The constraints `difference` = 0, one for each equation where its names have no class."""
    terms = {name: factor for name, factor in difference.terms.items() if factor}
    if not terms:
        raise ValueError(f"the constraint {text!r} leaves no coefficient; one such as 'x = 0' is wanted")
    general = {k is None for k, _ in terms}
    if len(general) > 1:
        raise ValueError(f"the constraint {text!r} has names with and without a class; 'x = 2 * z' (in every equation) "
                         f"or 'class: x = 2 * class: z' is wanted")
    equations = []
    for equation in names.shown() if general == {True} else [None]:
        row = np.zeros((len(names.classes), len(names.features)))
        for (k, i), factor in terms.items():
            row[equation if k is None else k, i] += factor
        if names.reference is not None and not np.delete(row, names.reference, axis=0).any():
            raise ValueError(f"the constraint {text!r} is about the reference {names.classes[names.reference]!r} "
                             f"alone, whose coefficients are 0")
        if not names.symmetric(row).any():
            raise ValueError(f"the constraint {text!r} constrains nothing: a sum over all classes is 0 by convention")
        equations.append((row, -difference.constant))
    return equations


@dataclass
class _Sum:
    """constant + sum of factor * coefficient."""

    terms: dict[_Name, float]
    constant: float

    def plus(self, other: _Sum, sign: float) -> _Sum:
        terms = dict(self.terms)
        for name, factor in other.terms.items():
            terms[name] = terms.get(name, 0.0) + sign * factor
        return _Sum(terms, self.constant + sign * other.constant)

    def times(self, factor: float) -> _Sum:
        return _Sum({name: factor * value for name, value in self.terms.items()}, factor * self.constant)


@dataclass(frozen=True)
class _Token:
    kind: str  # "number", "name", "end", or a mark
    text: str
    quoted: bool = False


class _Reader:
    """Recursive descent over one text."""

    def __init__(self, text: str, names: Names) -> None:
        self._text, self._names = text, names
        self._known = sorted({*names.features, *names.classes} - {""}, key=len, reverse=True)
        self._tokens = self._split()
        self._at = self._depth = 0

    def _fail(self, what: str) -> ValueError:
        return ValueError(f"the constraint {self._text!r} cannot be read: {what}")

    # ------------------------------------------------------------------------------------------------------- tokens

    def _split(self) -> list[_Token]:
        tokens, at, text = [], 0, self._text
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            token, at = self._token_at(at)
            tokens.append(token)
        return [*tokens, _Token("end", "its end")]

    def _token_at(self, at: int) -> tuple[_Token, int]:
        text = self._text
        if text[at] == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise self._fail("a backtick is not closed")
            return _Token("name", text[at + 1:end], quoted=True), end + 1
        number = _NUMBER.match(text, at)
        for name in self._known:
            end = at + len(name)
            # "x1" is not the beginning of "x10"; and what reads as a number is one
            longer = name[-1].isalnum() and text[end:end + 1].replace("_", "a").isalnum()
            if text.startswith(name, at) and not longer and not (number and number.end() >= end):
                return _Token("name", name), end
        if number:
            is_class = text[number.end():].lstrip().startswith(":")
            return _Token("name" if is_class else "number", number.group()), number.end()
        if text[at] in _MARKS:
            return _Token(text[at], text[at]), at + 1 + text.startswith("==", at)
        other = _OTHER.match(text, at)
        assert other is not None
        return _Token("name", other.group()), other.end()

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _takes(self, *kinds: str) -> str | None:
        kind = self._tokens[self._at].kind
        return self._next().kind if kind in kinds else None

    # -------------------------------------------------------------------------------------------------------- names

    def _name(self, token: _Token) -> _Name:
        if self._takes(":"):
            label = self._find(token.text, self._names.classes, "class")
            token = self._next()
            if token.kind not in ("name", "number"):
                raise self._fail(f"{token.text!r} stands where a feature of {self._names.classes[label]!r} should")
            return label, self._find(token.text, self._names.features, "feature")
        feature = self._find(token.text, self._names.features, "feature")
        head, colon, tail = token.text.partition(":")
        if colon and not token.quoted and head.strip() in self._names.classes and tail.strip() in self._names.features:
            raise self._fail(f"{token.text!r} is a feature, and {tail.strip()!r} is one of the class {head.strip()!r}; "
                             f"write `{token.text}` or `{head.strip()}`: `{tail.strip()}`")
        return None, feature

    def _find(self, name: str, known: list[str], what: str) -> int:
        places = [i for i, other in enumerate(known) if other == name]
        if len(places) == 1:
            return places[0]
        listed = ", ".join(map(repr, known[:20])) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        if places:
            raise self._fail(f"{len(places)} {what} names are {name!r}; use a matrix")
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        if what == "feature" and any(other.startswith(f"{name}[") for other in known):
            hint = f"; test_terms() tests all columns of the term {name!r} together"
        raise ValueError(f"the constraint {self._text!r} names the {what} {name!r}; the model has {listed}{hint}")

    def list_of_names(self) -> list[_Name]:
        """Read 'name, name, ...'."""
        found = []
        while True:
            token = self._next()
            if token.kind not in ("name", "number"):
                raise self._fail(f"{token.text!r} stands where a name should")
            found.append(self._name(token))
            if self._takes("end"):
                return found
            if not self._takes(","):
                raise self._fail(f"{self._tokens[self._at].text!r} stands where a comma should")

    # --------------------------------------------------------------------------------------------------- arithmetic

    def constraints(self) -> list[_Sum]:
        """Read all; each is what is to be 0."""
        found = []
        while True:
            sides = [self._side()]
            while self._takes("="):
                sides.append(self._side())
            if len(sides) == 1:
                if self._tokens[self._at].kind not in ("end", ","):
                    raise self._fail(f"{self._tokens[self._at].text!r} stands where '=' or an operator should")
                raise self._fail("it has no '=' (as in 'x = 0')")
            found += [left.plus(right, -1.0) for left, right in itertools.pairwise(sides)]
            if self._takes("end"):
                return found
            if not self._takes(","):
                raise self._fail(f"{self._tokens[self._at].text!r} stands where an operator should")

    def _side(self) -> _Sum:
        total = _Sum({}, 0.0)
        sign = self._takes("+", "-") or "+"
        while True:
            total = total.plus(self._product(), -1.0 if sign == "-" else 1.0)
            following = self._takes("+", "-")
            if following is None:
                return total
            sign = following

    def _product(self) -> _Sum:
        product = self._atom()
        while operator := self._takes("*", "/"):
            other = self._atom()
            if operator == "/":
                if other.terms or not other.constant:
                    raise self._fail("it divides by what is not a number, or is 0")
                product = product.times(1.0 / other.constant)
            elif other.terms and product.terms:
                raise self._fail("it multiplies two coefficients; constraints are linear")
            else:
                product = other.times(product.constant) if other.terms else product.times(other.constant)
        return product

    def _atom(self) -> _Sum:
        sign = 1.0
        while mark := self._takes("+", "-"):
            sign = -sign if mark == "-" else sign
        return self._unsigned().times(sign)

    def _unsigned(self) -> _Sum:
        if self._takes("("):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise self._fail(f"more than {_MAX_DEPTH} parentheses are within each other")
            inner = self._side()
            if not self._takes(")"):
                raise self._fail("a parenthesis is not closed")
            self._depth -= 1
            return inner
        token = self._next()
        if token.kind == "number":
            return _Sum({}, float(token.text))
        if token.kind == "name":
            return _Sum({self._name(token): 1.0}, 0.0)
        raise self._fail(f"{token.text!r} stands where a name or a number should")
