"""The command line: `csoftmax fit`, `csoftmax predict`, `csoftmax show-versions`.

The console script and `python -m csoftmax` stand on it.
It stands on `formula`, `datasets` and the package's public names, imported when a command needs them; rich is optional.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from csoftmax._files import written_whole
from csoftmax.tables import import_pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

EXIT_OK = 0
EXIT_ERROR = 1  # usage, data, files
EXIT_NO_MAXIMUM = 2  # the fit ended without a certified maximum
EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

_EXIT_CODES = """\
exit status:
  0    fitted, and the maximum certified (predict: every prediction made)
  1    an error of usage or data
  2    the likelihood has no maximum (separated classes), or the fit did not converge; no coefficients are shown
  130  interrupted
  141  the reader of the output went away (csoftmax ... | head)
"""

_MAIN_EPILOG = f"""\
examples:
  csoftmax fit penguins "species ~ flipper_length_mm + body_mass_g"
  csoftmax fit survey.csv "vote ~ age + C(region)" --weights n --out model.json
  csoftmax predict model.json new.csv --proba --out predictions.csv

{_EXIT_CODES}"""

_FIT_EPILOG = f"""\
examples:
  csoftmax fit penguins "species ~ flipper_length_mm + body_mass_g"
  csoftmax fit penguins "species ~ bill_length_mm + sex" --reference Gentoo --l2 1
  csoftmax fit anes96 "PID ~ logpopul + selfLR + age + educ + income" --level 0.99
  csoftmax fit counts.tsv.gz "grade ~ log(dose) + C(site)" --weights n --out model.json
  csoftmax fit survey.csv "vote ~ age + educ" --weights w --weight-type probability --groups district
  csoftmax fit penguins "species ~ body_mass_g + sex" --cov-type HC1 --rrr --margins

FORMULA is 'labels ~ predictors'. Predictors are joined by +; a:b and a*b are interactions, C(a) reads numbers as
categories, . is every other column, scale(x), poly(x, 2), bs(x, df=4), log(x) and I(x**2) transform, - 1 leaves out
the intercept, and names with spaces go between backticks.

{_EXIT_CODES}"""

_PREDICT_EPILOG = """\
examples:
  csoftmax predict model.json new.csv
  csoftmax predict model.json new.parquet --proba --out predictions.csv

The output is CSV with a header: the column "class", and with --proba a column "proba_LABEL" for each class; one line
for each row of DATA, in its order.
"""

_DATA_HELP = (
    "penguins or anes96 (tables that come with csoftmax), or the path of a .csv, .tsv or .parquet file "
    "(.csv.gz and the like too; ./penguins is a file); - reads CSV from standard input"
)


class _UsageError(Exception):
    """A mistake on the command line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "unrecognized arguments" in message:
            message += "; FORMULA goes in quotes"
        raise _UsageError(f"{message} (see {self.prog} --help)")


def _positive_int(text: str) -> int:
    value = int(text) if text.strip().lstrip("+").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _penalty(text: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def _tolerance(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _level(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def _version() -> str:
    import csoftmax

    version = getattr(csoftmax, "__version__", None)
    return str(version) if version else _version_of("csoftmax")


class _Version(argparse.Action):
    """--version without importing the package for every other command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"csoftmax {_version()}")
        parser.exit(EXIT_OK)


def _make_parser() -> _Parser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="csoftmax",
        description="Softmax regression (multinomial logit) by maximum likelihood.",
        epilog=_MAIN_EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("--debug", action="store_true", help="show an error's traceback")
    common = _Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    reading = _Parser(add_help=False)
    reading.add_argument(
        "--na",
        action="append",
        default=[],
        metavar="TEXT",
        help="another text that means a missing value in a CSV file, besides NA, nan, the empty field and so on",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    fit = commands.add_parser(
        "fit",
        parents=[common, reading],
        help="fit a model and print its summary",
        description="Fit a softmax regression by maximum likelihood and print its summary.",
        epilog=_FIT_EPILOG,
        formatter_class=formatter,
    )
    fit.add_argument("data", metavar="DATA", help=_DATA_HELP)
    fit.add_argument("formula", metavar="FORMULA", help="'labels ~ predictors', in quotes")
    shown = fit.add_mutually_exclusive_group()
    shown.add_argument("--reference", metavar="LABEL", help="the class shown as 0 (default: the first one)")
    shown.add_argument("--symmetric", action="store_true", help="show a row for every class; the rows sum to 0")
    fit.add_argument("--l2", type=_penalty, metavar="X", help="penalty X/2 * sum of squared coefficients (default 0)")
    fit.add_argument("--bias-reduction", choices=("firth",), help="Firth's: finite where samples are separated")
    fit.add_argument("--weights", metavar="COLUMN", help="column of weights, by default frequencies")
    fit.add_argument(
        "--weight-type",
        choices=("frequency", "probability", "analytic"),
        help="frequency: weight 2 is the row twice (default; Stata's fweight); probability: inverse probabilities of "
        "selection, with HC0 standard errors (pweight); analytic: inverse variances (aweight)",
    )
    fit.add_argument(
        "--cov-type",
        choices=("observed", "HC0", "HC1", "HC2", "HC3", "cluster"),
        help="standard errors: of the information (default without probability weights), robust (HC0 to HC3), or "
        "cluster-robust, with --groups",
    )
    fit.add_argument("--groups", metavar="COLUMN", help="column of clusters: standard errors are cluster-robust")
    fit.add_argument(
        "--missing",
        choices=("drop", "raise"),
        default="drop",
        help="rows with missing values: leave them out and say how many (default), or refuse the data",
    )
    fit.add_argument("--solver", metavar="NAME", help="auto (default), lm, L-BFGS-B, trust-exact, Newton-CG ...")
    fit.add_argument("--tol", type=_tolerance, metavar="X", help="tolerance on the scaled gradient")
    fit.add_argument("--max-iter", type=_positive_int, metavar="N", help="limit on the solver's iterations")
    fit.add_argument("--threads", type=_positive_int, metavar="N", help="threads; the numbers do not depend on it")
    fit.add_argument("--level", type=_level, metavar="X", help="level of the confidence intervals (default 0.95)")
    fit.add_argument("--rrr", action="store_true", help="print relative risk ratios, exp(coef), too")
    fit.add_argument("--margins", action="store_true", help="print average marginal effects on the probabilities, too")
    fit.add_argument("--out", metavar="FILE", help="write the fitted model here as JSON, if the fit succeeds")
    fit.set_defaults(run=_fit)

    predict = commands.add_parser(
        "predict",
        parents=[common, reading],
        help="predict classes, and their probabilities, for new data",
        description="Predict the class of each row of DATA with a model that `csoftmax fit --out` wrote.",
        epilog=_PREDICT_EPILOG,
        formatter_class=formatter,
    )
    predict.add_argument("model", metavar="MODEL", help="a JSON file from csoftmax fit --out, or result.to_json")
    predict.add_argument("data", metavar="DATA", help=_DATA_HELP)
    predict.add_argument("--proba", action="store_true", help="add a column of probabilities for each class")
    predict.add_argument(
        "--missing",
        choices=("raise", "empty"),
        default="raise",
        help="rows with missing values: refuse the data (default), or leave the fields of their lines empty",
    )
    predict.add_argument("--out", metavar="FILE", help="write the CSV here instead of standard output")
    predict.set_defaults(run=_predict)

    versions = commands.add_parser(
        "show-versions",
        parents=[common],
        help="show versions, CPU level, threads and BLAS, for a bug report",
        description="Show the versions of csoftmax and what it works with, for a bug report.",
    )
    versions.set_defaults(run=_show_versions)
    return parser


# ---------------------------------------------------------------------------------------------------------------------
# Saying and reading
# ---------------------------------------------------------------------------------------------------------------------
# what the package's messages call by Python's names, as this command line calls it
_OPTION_NAMES = {"missing='drop'": "--missing drop", "sample_weight names": "--weights names",
                 "max_iter=": "--max-iter ", "raise max_iter": "raise --max-iter", "(l2 > 0)": "(--l2 1)",
                 "bias_reduction='firth'": "--bias-reduction firth", "bias_reduction=None": "no --bias-reduction",
                 "or l2 > 0": "or --l2 1", "weight_type is": "--weight-type is", "cov_type is": "--cov-type is",
                 "groups has": "--groups has"}


def _say(text: str) -> None:
    for name, option in _OPTION_NAMES.items():
        text = text.replace(name, option)
    with contextlib.suppress(OSError):  # nobody listens to stderr
        print(f"csoftmax: {text}", file=sys.stderr, flush=True)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _read_table(source: str, na: Sequence[str]) -> pd.DataFrame:
    """DATA as a data frame."""
    from csoftmax import datasets

    pandas = import_pandas("the command line", "cli")
    file: Any = source
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if source == "-":
        file, suffixes = sys.stdin, [".csv"]
    elif source in datasets.names():
        file, suffixes = datasets.path(source), [".csv"]
    elif not os.path.exists(source):
        raise _UsageError(
            f"DATA is {source!r}: no such file; the tables that come with csoftmax are {', '.join(datasets.names())}"
        )
    if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz", ".zst", ".zip"):
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind in (".parquet", ".pq"):
            try:
                return pandas.read_parquet(file)
            except ImportError as exc:
                raise ImportError(
                    'reading Parquet needs pyarrow, which is not installed: pip install "csoftmax[cli]"'
                ) from exc
        if kind in (".csv", ".tsv", ".tab"):
            separator = "," if kind == ".csv" else "\t"
            return pandas.read_csv(file, sep=separator, na_values=list(na), low_memory=False)
    except (OSError, ImportError):
        raise
    except Exception as exc:  # the readers' own errors are many
        raise _UsageError(f"{source!r} cannot be read: {_one_line(exc)}") from exc
    raise _UsageError(f"{source!r} is no table by its name; wanted a name that ends in .csv, .tsv or .parquet")


def _check_out(out: str | None) -> None:
    """Refuse a FILE that could not be written before the work is done, not after."""
    if out is None:
        return
    target = Path(out)
    if target.exists() and not target.is_file():
        raise _UsageError(f"--out is {out!r}, which is not a regular file")
    if not target.parent.is_dir():
        raise _UsageError(f"--out is {out!r}, and the folder {str(target.parent)!r} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise _UsageError(f"--out is {out!r}, and the folder {str(target.parent)!r} cannot be written")


class _Progress:
    """A line on the terminal while a fit takes longer than a second; nothing where stderr is no terminal."""

    delay_seconds = 1.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._status: Any = None

    @classmethod
    def if_terminal(cls) -> _Progress | None:
        """A progress line, or None where nobody would see it or rich is not installed."""
        if not sys.stderr.isatty():
            return None
        try:
            import rich.console  # noqa: F401
        except ImportError:
            return None
        return cls()

    def __call__(self, state: Any) -> None:
        if time.monotonic() - self._start < self.delay_seconds:
            return
        line = (
            f"iteration {state.n_iter}, log-likelihood {state.log_likelihood:.6g}, "
            f"gradient norm {state.gradient_norm:.2g}"
        )
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(line)
            self._status.start()
        else:
            self._status.update(line)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


# ---------------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------------
def _find_label(text: str, classes: Sequence[Any]) -> Any:
    """The class that is written so: labels in a file are text or numbers, on the command line always text."""
    for label in classes:
        if str(label) == text:
            return label
    raise _UsageError(f"--reference is {text!r}; the classes are {', '.join(repr(str(label)) for label in classes)}")


def _warn_of_text_numbers(frame: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """A column of numbers with one '?' in it is text, and would become a category for each number."""
    pandas = import_pandas()
    for name, kind in columns.items():
        if kind == "category" and not isinstance(frame[name].dtype, pandas.CategoricalDtype):
            values = frame[name].dropna()
            odd = values[pandas.to_numeric(values, errors="coerce").isna()]
            if 0 < len(odd) <= len(values) / 2:
                _say(
                    f"warning: the column {name!r} is text because {len(odd)} of its values are no numbers, such as "
                    f"{odd.iloc[0]!r}; --na {odd.iloc[0]!r} would read that as missing"
                )


def _check_errors_wanted(args: argparse.Namespace) -> None:
    """Refuse options of standard errors that do not go together, before any work."""
    if args.weight_type is not None and args.weights is None:
        raise _UsageError(f"--weight-type is {args.weight_type!r} without weights; --weights COLUMN is wanted too")
    if args.cov_type == "cluster" and args.groups is None:
        raise _UsageError("--cov-type is 'cluster' without groups; --groups COLUMN is wanted too")
    if args.groups is not None and args.cov_type not in (None, "cluster"):
        raise _UsageError(
            f"--groups is for cluster-robust standard errors, and --cov-type is {args.cov_type!r}; one of the two is "
            f"wanted"
        )


def _with_groups(frame: pd.DataFrame, column: str, missing: str) -> tuple[pd.DataFrame, int]:
    """The rows that have a group, and how many have none."""
    if column not in frame.columns:
        raise _UsageError(f"--groups names the column {column!r}, which the data does not have")
    absent = frame[column].isna()
    if absent.any() and missing == "raise":
        raise _UsageError(
            f"{int(absent.sum())} of {len(frame)} rows have no group in {column!r}; --missing drop leaves them out"
        )
    return (frame[~absent].reset_index(drop=True), int(absent.sum())) if absent.any() else (frame, 0)


def _fit(args: argparse.Namespace) -> int:
    _check_out(args.out)
    _check_errors_wanted(args)
    frame = _read_table(args.data, args.na)
    from csoftmax import formula as faces

    n_groupless = 0
    if args.groups is not None:
        frame, n_groupless = _with_groups(frame, args.groups, args.missing)
    options = {"l2": args.l2, "solver": args.solver, "tol": args.tol, "max_iter": args.max_iter}
    options |= {"n_threads": args.threads, "bias_reduction": args.bias_reduction, "weight_type": args.weight_type}
    options = {name: value for name, value in options.items() if value is not None}
    progress = _Progress.if_terminal()
    if progress is not None:
        options["callback"] = progress
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            prepared = faces.prepare(
                args.formula, frame, sample_weight=args.weights, missing=args.missing, apart=args.groups
            )
            reference = faces.FIRST_CLASS
            if args.symmetric:
                reference = None
            elif args.reference is not None:
                reference = _find_label(args.reference, prepared.classes)
            result = faces.fit_prepared(prepared, reference=reference, **options)
            if result.success and args.groups is not None:
                result = result.with_covariance("cluster", groups=frame[args.groups])
            elif result.success and args.cov_type is not None:
                result = result.with_covariance(args.cov_type)
        finally:
            if progress is not None:
                progress.close()
    _show_warnings(caught)
    _warn_of_text_numbers(frame, prepared.design.columns)
    missing = {**({args.groups: n_groupless} if n_groupless else {}), **prepared.missing}
    n_missing = prepared.n_missing + n_groupless
    if missing:
        where = ", ".join(f"{name} {count}" for name, count in missing.items())
        _say(f"{n_missing} of {prepared.n_rows + n_groupless} rows left out for missing values ({where})")
    if not result.success:
        _say(f"no model: {str(result.message).strip()}")
        return EXIT_NO_MAXIMUM
    result.n_missing = n_missing
    if args.out is not None:
        result.to_json(args.out)
    level = {} if args.level is None else {"level": args.level}
    tables: list[Any] = [result]
    if args.rrr:
        tables.append(result.relative_risk_ratios())
    if args.margins:
        tables.append(result.margins())
    print("\n\n".join(str(table.summary(**level)) for table in tables))
    return EXIT_OK


def _show_warnings(caught: Iterable[warnings.WarningMessage]) -> None:
    """Each warning on a line; those of separation and convergence are the result's message already."""
    from csoftmax import ConvergenceWarning, SeparationWarning

    quiet = (ConvergenceWarning, SeparationWarning, DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
    for text in dict.fromkeys(_one_line(w.message) for w in caught if not issubclass(w.category, quiet)):
        _say(f"warning: {text}")


def _complete_rows(result: Any, frame: pd.DataFrame) -> tuple[Any, Any]:
    """(X, which rows are missing) for a model from a formula, or from an array whose columns had names."""
    import numpy as np

    design = getattr(result, "design", None)
    if design is not None:
        return frame, design.missing_rows(frame)
    names = [str(name) for name in result.feature_names]
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise _UsageError(f"the model uses the columns {', '.join(map(repr, absent))}, which the data does not have")
    return frame[names], np.asarray(frame[names].isna().any(axis=1), dtype=bool)


def _predict(args: argparse.Namespace) -> int:
    import numpy as np

    import csoftmax

    _check_out(args.out)
    if not os.path.exists(args.model):
        raise _UsageError(f"MODEL is {args.model!r}: no such file")
    result = csoftmax.from_json(args.model)
    frame = _read_table(args.data, args.na)
    X, missing = _complete_rows(result, frame)
    if missing.any() and args.missing == "raise":
        row = int(np.flatnonzero(missing)[0]) + 1
        raise _UsageError(
            f"{int(missing.sum())} of {len(frame)} rows of {args.data!r} have missing values in the model's columns, "
            f"the first in row {row}; --missing empty leaves their predictions empty"
        )
    X = X[~missing]
    header = ["class"] + ([f"proba_{label}" for label in result.classes] if args.proba else [])
    rows: Iterator[list[Any]] = iter(())
    if len(X):
        proba = np.asarray(result.predict_proba(X))
        # the class of the largest probability, as predict says it; one pass over X
        labels = np.asarray(result.classes)[proba.argmax(axis=1)].tolist()
        rows = ([label, *(p if args.proba else ())] for label, p in zip(labels, proba.tolist(), strict=True))

    def write(file: TextIO) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([""] * len(header) if gap else next(rows) for gap in missing)

    if args.out is None:
        write(sys.stdout)
    else:
        with written_whole(args.out) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            write(file)
            file.flush()
    if missing.any():
        _say(f"{int(missing.sum())} of {len(frame)} rows have missing values and no prediction")
    return EXIT_OK


def _version_of(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _show_versions(args: argparse.Namespace) -> int:
    import platform

    import numpy as np

    from csoftmax import _dispatch, _threads

    print(f"csoftmax      {_version()}")
    print(f"python        {platform.python_version()} ({platform.python_implementation()})")
    optional = ["pandas", "formulaic", "pyarrow", "rich", "scikit-learn", "matplotlib"]
    for distribution in ["numpy", "scipy", *optional]:
        print(f"{distribution:13} {_version_of(distribution)}")
    print(f"platform      {platform.platform()}")
    print(f"CPU level     {_dispatch.isa} in use; available: {', '.join(map(str, _dispatch.available()))}")
    usable = f"this process may use {_threads.usable_cpus(os.getpid())} of {os.cpu_count()} CPUs"
    print(f"threads       {_threads.default_n_threads()} by default; {usable}")
    blas: Any = {}
    with contextlib.suppress(Exception):  # the layout of this dict is numpy's affair
        config: Any = np.show_config(mode="dicts")
        blas = config["Build Dependencies"]["blas"]
    print(f"numpy's BLAS  {blas.get('name', 'unknown')} {blas.get('version', '')}".rstrip())
    return EXIT_OK


# ---------------------------------------------------------------------------------------------------------------------
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        The exit status: 0 done, 1 an error of usage or data, 2 no maximum or no convergence, 130 interrupted, 141 the
        reader of the output went away.

    Examples
    --------
    >>> from csoftmax.cli import main
    >>> main(["fit", "no-such-file.csv", "y ~ x"])  # says so on stderr
    1
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        args = _make_parser().parse_args(arguments)
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except SystemExit as exc:  # --help and --version
        return exc.code if isinstance(exc.code, int) else EXIT_OK
    except BrokenPipeError:
        # `csoftmax fit ... | head`: Python would complain again when it flushes stdout at exit
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except Exception as exc:
        if debug:
            raise
        text = _one_line(exc)
        if not isinstance(exc, (_UsageError, ValueError, TypeError, ImportError, OSError)):
            text = f"{type(exc).__name__}: {text} (--debug shows where)"
        _say(f"error: {text}")
        return EXIT_ERROR
