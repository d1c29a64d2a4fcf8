"""Time to a given gap below the maximum: csoftmax and every other solver, each at its best tolerance.
run.py stands on it.
It stands on csoftmax.fit, cases/fit.py, SciPy, timing.py and peers.py.

    gap = (L* - L) / |L*|

L is the penalised log-likelihood of what a solver returned, evaluated by NumPy; L* the largest over all runs of all
contestants, csoftmax's at the tightest tolerance among them. Each contestant runs over a ladder of its own tolerance,
and its time to a gap is that of its fastest run that reached it. The best of scikit-learn's solvers is chosen
afterwards, for each problem and gap. The chosen runs are then timed again, in interleaved rounds: the ratios stem from
those."""

import math
import statistics
import time
import warnings
from dataclasses import replace

import numpy as np
from peers import peer
from scipy.optimize import minimize
from timing import OURS, Row, interleave, shape_label

import csoftmax
from cases.fit import (
    bundled_tables,
    folder_tables,
    penalized_log_likelihood,
    sklearn_model,
    sklearn_params,
    statsmodels_params,
    statsmodels_result,
)

TITLE = "time to a gap below the maximum"
VALUES = "smallest gap that each reached"
GAPS = (1e-6, 1e-10)
LADDER = tuple(10.0**-k for k in range(2, 13))
DEFAULT = 1e-8  # csoftmax's tol
OUR_LADDER = (1e-3, 1e-4, 1e-5, 1e-6, DEFAULT, 1e-10, 1e-12)
SKLEARN = ("newton-cholesky", "newton-cg", "lbfgs", "saga")
STATSMODELS = {"newton": "tol", "bfgs": "gtol"}  # what each method's tolerance is called
BFGS = "NumPy BFGS"
GROUPS = ("scikit-learn", "statsmodels", BFGS)
UNITS = ("raw", "standardised")
AGAINST_DEFAULT = f"scikit-learn / default, {GAPS[-1]:g}"
QUICK_LIMIT = 0.3
LIMIT, LEAST = 5.0, 0.1  # seconds of one run
MULTIPLE, OUR_MULTIPLE = 20, 30  # times the fastest peer's; before any of them arrived, times csoftmax's
ROUND_SECONDS = 8.0
SAME = 1e-10  # relative difference of the two maxima, in raw and in standardised units
CHECKS = (f"csoftmax at its default settings succeeds and reaches {GAPS[-1]:g}; an unpenalised maximum is the same to "
          f"{SAME:g} in raw and in standardised units")  # fmt: skip
REMARK = (f"ms of csoftmax: by default (tol = {DEFAULT:g}), and at the tolerance that is best for the gap. The others: "
          "times csoftmax's time to the same gap (/ default: csoftmax's at its default settings, which reach the "
          "smaller one), "
          "and which solver; '- (gap)': never reached at any tolerance, and how near it came. "
          f"{BFGS} is nnet::multinom's way: BFGS from zero with the analytic gradient, the first class as reference, "
          "stopped by the relative change of the function. statsmodels has no l2. Tolerances go from "
          f"{LADDER[0]:g} to {LADDER[-1]:g}; iterations are bounded such that a run takes about {LIMIT:g} s (or "
          f"{OUR_MULTIPLE} times csoftmax's time) at the most, and once a peer has reached {GAPS[-1]:g} at most "
          f"{MULTIPLE} times its time: that ends scikit-learn's lbfgs and saga on data in raw units.")  # fmt: skip


def ours(X, y, l2, tol):
    return csoftmax.fit(X, y, l2=l2, tol=tol, n_threads=1)


def bfgs(X, y, l2, tol, max_iter):
    """(coef, intercept, iterations): -L of w_1 ... w_(C-1), w_0 = 0, minimised as R's optim does.

    The penalty is that of symmetric rows: l2 / 2 (sum_k |w_k|^2 - |sum_k w_k|^2 / C).
    """
    n_classes, design = y.max() + 1, np.column_stack([X, np.ones(len(y))])
    labelled = np.flatnonzero(y)
    labels = y[labelled] - 1

    def loss_and_gradient(theta):
        w = theta.reshape(n_classes - 1, -1)
        logits = w @ design.T
        top = np.maximum(logits.max(axis=0), 0)
        chosen = logits[labels, labelled].sum()
        logits -= top
        p = np.exp(logits, out=logits)
        total = p.sum(axis=0) + np.exp(-top)
        loss = (np.log(total) + top).sum() - chosen
        p /= total
        p[labels, labelled] -= 1
        gradient = p @ design
        if l2:
            slopes = w[:, :-1]
            pull = slopes - slopes.sum(axis=0) / n_classes
            loss += l2 / 2 * (slopes * pull).sum()
            gradient[:, :-1] += l2 * pull
        return loss, gradient.ravel()

    last = math.inf

    def stop(intermediate_result):
        nonlocal last
        value, before, last = intermediate_result.fun, last, intermediate_result.fun
        if before - value <= tol * (abs(before) + tol) and before < math.inf:
            raise StopIteration

    start = np.zeros((n_classes - 1) * design.shape[1])
    answer = minimize(loss_and_gradient, start, jac=True, method="BFGS", callback=stop,
                      options={"gtol": 0, "maxiter": max_iter})  # fmt: skip
    params = np.vstack([np.zeros(design.shape[1]), answer.x.reshape(n_classes - 1, -1)])
    return params[:, :-1], params[:, -1], answer.nit


def others(X, y, l2):
    """{name: fit(tol, max_iter), which returns (coef, intercept, iterations)}."""

    def by_sklearn(solver):
        def fit(tol, max_iter):
            model = sklearn_model(solver, y, l2, tol, max_iter).fit(X, y)
            return *sklearn_params(model), int(model.n_iter_[0])

        return fit

    def by_statsmodels(method):
        def fit(tol, max_iter):
            result = statsmodels_result(X, y, method, max_iter, **{STATSMODELS[method]: tol})
            counts = result.mle_retvals
            return *statsmodels_params(result), counts.get("iterations", counts.get("fcalls"))

        return fit

    calls = {}
    if peer("scikit-learn") is not None:
        calls |= {f"scikit-learn {solver}": by_sklearn(solver) for solver in SKLEARN}
    if peer("statsmodels") is not None and l2 == 0:
        calls |= {f"statsmodels {method}": by_statsmodels(method) for method in STATSMODELS}
    return calls | {BFGS: lambda tol, max_iter: bfgs(X, y, l2, tol, max_iter)}


def timed(call):
    """(what the call returns, its seconds: the least of three where they are few).

    Seconds of the processor: a pause of the machine must not spend a contestant's budget. All run one thread.
    """
    seconds = math.inf
    for _ in range(3):
        start = time.process_time()
        answer = call()
        seconds = min(seconds, time.process_time() - start)
        if seconds > 0.03:
            break
    return answer, max(seconds, 1e-6)


def climb(fit, value, limit, enough):
    """Yield [tol, seconds, log-likelihood, max_iter] of runs at tighter and tighter tolerances.

    It ends where a run reaches `enough`, where one has used all its iterations, or where they took too long in all.
    """
    (*_, n_iter), seconds = timed(lambda: fit(LADDER[0], 2))
    spent = 0.0
    for tol in LADDER:
        max_iter = min(100_000, max(20, int(limit / seconds * max(n_iter, 1))))
        (coef, intercept, n_iter), seconds = timed(lambda tol=tol, max_iter=max_iter: fit(tol, max_iter))
        reached = value(coef, intercept)
        yield [tol, seconds, reached, max_iter]
        spent += seconds
        if reached >= enough or n_iter >= max_iter or seconds > limit or spent > 2 * limit:
            return


def fastest(runs, gap):
    """The fastest of [tol, seconds, gap, ...] that reached the gap, or None."""
    return min((run for run in runs if run[2] <= gap), key=lambda run: run[1], default=None)


def compare(label, X, y, l2, settings):
    """The row of one problem, its ratios {column: others' time / csoftmax's}, and csoftmax's L by default."""
    row = Row(label)

    def value(coef, intercept):
        return float(penalized_log_likelihood(X, y, coef, intercept, l2))

    runs, succeeded = {OURS: []}, False
    for tol in OUR_LADDER:
        result, seconds = timed(lambda tol=tol: ours(X, y, l2, tol))
        runs[OURS].append([tol, seconds, value(result.coef, result.intercept), None])
        succeeded |= result.success
        if tol == DEFAULT and not result.success:
            row.failures.append(f"csoftmax: {result.message}")
    default = next(run for run in runs[OURS] if run[0] == DEFAULT)
    by_default = default[2]
    best = max(run[2] for run in runs[OURS])
    longest = QUICK_LIMIT if settings.quick else LIMIT
    limit = max(longest, OUR_MULTIPLE * default[1]) if succeeded and not settings.quick else longest
    soonest = math.inf
    calls = others(X, y, l2)
    for name, fit in calls.items():
        runs[name] = []
        enough = best - GAPS[-1] * abs(best)
        try:
            for run in climb(fit, value, limit, enough):
                runs[name].append(run)
        except Exception as error:
            row.notes.append(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        soonest = min([soonest, *(run[1] for run in runs[name] if run[2] >= enough)])
        if soonest < math.inf:  # never so short that the fastest of all could be missed
            limit = max(1.5 * soonest, min(longest, max(LEAST, MULTIPLE * soonest)))
        if runs[name] and all(math.isnan(run[2]) for run in runs[name]):
            row.notes.append(f"{name}: coefficients that are not finite")
    runs = {name: [run for run in some if not math.isnan(run[2])] for name, some in runs.items()}
    best = max(run[2] for some in runs.values() for run in some)
    for some in runs.values():
        for run in some:
            run[2] = (best - run[2]) / abs(best)
    row.values = {name: min(run[2] for run in some) for name, some in runs.items() if some}
    if not default[2] <= GAPS[-1]:  # a nan fails
        row.failures.append(f"csoftmax by default stops at a gap of {default[2]:.1e}")

    if not succeeded:
        row.notes.append("not timed: csoftmax did not certify a maximum, so none is known")
        return row, {}, by_default

    chosen = {}  # {(gap, group): (contestant, its run)}
    for gap in GAPS:
        for group in (OURS, *GROUPS):
            found = [(name, fastest(some, gap)) for name, some in runs.items() if name.startswith(group)]
            found = [(name, run) for name, run in found if run]
            if found:
                chosen[gap, group] = min(found, key=lambda pair: pair[1][1])
    if not all((gap, OURS) in chosen for gap in GAPS):
        return row, {}, by_default

    def again(name, run):
        tol, max_iter = run[0], run[3]
        return (lambda: ours(X, y, l2, tol)) if name == OURS else (lambda: calls[name](tol, max_iter))

    timings = {(name, run[0]): (name, run) for name, run in [(OURS, default), *chosen.values()]}
    one_round = sum(max(settings.seconds, run[1]) for _, run in timings.values())
    rounds = max(2, min(settings.rounds, int(ROUND_SECONDS / one_round)))
    seconds = interleave({key: again(*pair) for key, pair in timings.items()}, replace(settings, rounds=rounds))
    for key, (_, run) in timings.items():
        run[1] = statistics.median(seconds[key])
    row.times = {f"{name}, tol = {tol:g}": values for (name, tol), values in seconds.items()}
    row.runs = {name: [run[:3] for run in some] for name, some in runs.items()}
    return row, write_cells(row, runs, chosen, seconds), by_default


def write_cells(row, runs, chosen, seconds):
    """Word the row's line of the table; {column: ratio}."""
    ratios = {}
    row.cells["default, ms"] = f"{1e3 * statistics.median(seconds[OURS, DEFAULT]):.3g}"
    for gap in GAPS:
        name, run = chosen[gap, OURS]
        mine = seconds[name, run[0]]
        row.cells[f"to {gap:g}, ms"] = f"{1e3 * statistics.median(mine):.3g}"
        columns = [(group, f"{group}, {gap:g}", mine) for group in GROUPS]
        if gap == GAPS[-1]:
            columns.append(("scikit-learn", AGAINST_DEFAULT, seconds[OURS, DEFAULT]))
        for group, column, base in columns:
            if (gap, group) in chosen:
                name, run = chosen[gap, group]
                ratios[column] = statistics.median(a / b for a, b in zip(seconds[name, run[0]], base, strict=True))
                solver = name.removeprefix(group).strip() if column != AGAINST_DEFAULT else ""
                row.cells[column] = f"{ratios[column]:.3g} {solver}".strip()
            else:
                near = [run[2] for name, some in runs.items() if name.startswith(group) for run in some]
                row.cells[column] = f"- ({min(near):.0e})" if near else "-"
    return ratios


def standardized(X):
    """Columns of mean 0 and standard deviation 1; constant ones 0."""
    spread = X.std(axis=0)
    return np.ascontiguousarray((X - X.mean(axis=0)) / np.where(spread > 0, spread, 1))


def tables(settings):
    """(name, X, y as codes)."""
    bundled = list(bundled_tables(("iris", "wine", "digits", "breast_cancer")))
    if settings.quick:
        bundled = [table for table in bundled if table[0] in ("penguins", "iris")]
    names = [name for name, *_ in bundled]
    further = folder_tables(settings.data) if settings.data else ()
    yield from (table[:3] for table in bundled)
    yield from (table[:3] for table in further if table[0] not in names)


def summary(measured):
    """The last row: geometric means, in all and by units, and where the others come closest."""
    row = Row("geometric mean")
    for column in dict.fromkeys(column for _, ratios in measured for column in ratios):
        found = [(ratios[column], label) for label, ratios in measured if column in ratios]
        row.cells[column] = f"{statistics.geometric_mean(ratio for ratio, _ in found):.3g} (of {len(found)})"
        smallest, label = min(found)
        text = f"{column}: smallest ratio {smallest:.3g}, {label}"
        for units in UNITS:
            some = [ratio for ratio, label in found if units in label]
            if some:
                text += f"; mean in {units} units {statistics.geometric_mean(some):.3g} (of {len(some)})"
        row.notes.append(text)
    return row


def run(settings):
    measured = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a solver stops short is told by its gap
        for name, X, y in tables(settings):
            problem = f"{name} {shape_label(*X.shape, y.max() + 1)}"
            scaled = dict(zip(UNITS, (X, standardized(X)), strict=True))
            for l2 in (1.0, 0.0):
                first = csoftmax.fit(X, y, l2=l2, n_threads=1)
                if l2 == 0 and not first.success:
                    yield Row(f"{problem}; l2 = 0", notes=[f"left out: {first.message}"])
                    continue
                reached = {}
                for units, data in scaled.items():
                    row, ratios, reached[units] = compare(f"{problem}; {units}, l2 = {l2:g}", data, y, l2, settings)
                    measured.append((row.label, ratios))
                    if l2 == 0 and len(reached) == len(UNITS):
                        one, other = reached.values()
                        if not abs(one - other) <= SAME * abs(one):
                            row.failures.append(f"L is {one!r} in {UNITS[0]}, {other!r} in {UNITS[1]} units")
                    yield row
    yield summary(measured)
