"""Coverage of 95 % intervals by simulation: how often an interval holds the truth, over many fits of new labels.
run.py stands on it.
It stands on csoftmax.fit and timing.py. A further kind of interval is a function in INTERVALS."""

import math
import warnings

import numpy as np
from timing import Row

import csoftmax

TITLE = "coverage of 95 % intervals"
VALUES = "coverage"
LEVEL = 0.95
REPLICATIONS, QUICK_REPLICATIONS = 2_000, 40
# n, and how far from 0.95 coverage may be, besides 2 standard errors of simulation: intervals are of order 1 / n off
SIZES = ((100, 0.015), (400, 0.01))
CHECKS = (f"coverage, averaged over what is covered, within {' and '.join(f'{off:g} (n = {n})' for n, off in SIZES)}, "
          f"and 2 standard errors of simulation, of {LEVEL:g}")  # fmt: skip
REMARK = ("three classes, two features; 2 000 fits of labels drawn anew for the same X (with --quick 40, which say "
          "little); probability intervals at 5 points, one of them outside the data")  # fmt: skip

COEF = np.array([[0.0, 0.0], [0.8, -0.5], [-0.4, 1.0]])
INTERCEPT = np.array([0.0, 0.3, -0.2])
POINTS = np.array([[0.0, 0.0], [1.0, -1.0], [-1.0, 0.5], [2.0, 2.0], [3.5, -3.0]])


def wald(result, X):
    """(lower, upper, truth) of the coefficients and intercepts."""
    low, high = np.moveaxis(result.conf_int(level=LEVEL)[1:], -1, 0)
    return low, high, np.column_stack([COEF, INTERCEPT])[1:]


def profile(result, X):
    """(lower, upper, truth) of the coefficients and intercepts, by their profile likelihoods."""
    low, high = np.moveaxis(result.conf_int(level=LEVEL, method="profile")[1:], -1, 0)
    return low, high, np.column_stack([COEF, INTERCEPT])[1:]


def probability(scale):
    def intervals(result, X):
        """(lower, upper, truth) of the probabilities at POINTS."""
        found = result.predict_proba_interval(POINTS, level=LEVEL, scale=scale, n_threads=1)
        return found.lower, found.upper, csoftmax.predict_proba(POINTS, COEF, INTERCEPT)

    return intervals


def margins(result, X):
    """(lower, upper, truth) of the average marginal effects."""
    p = csoftmax.predict_proba(X, COEF, INTERCEPT)
    slopes = np.einsum("jk,jkf->kf", p, COEF - (p @ COEF)[:, np.newaxis]) / len(X)
    low, high = np.moveaxis(result.margins(n_threads=1).conf_int(level=LEVEL), -1, 0)
    return low, high, slopes


# {name: function of (result, X) that gives lower, upper and truth, of one shape}
INTERVALS = {"Wald": wald, "profile": profile, "probability, logit": probability("logit"),
             "probability": probability("probability"), "average effects": margins}  # fmt: skip
# those that are shown, and hold no claim: they are known to be poor where a probability is near 0 or 1
SHOWN_ONLY = {"probability"}


def simulate(n, replications, seed=0):
    """{name: coverage of each thing covered}, and how many of the fits had no maximum and were left out."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    cumulative = np.cumsum(csoftmax.predict_proba(X, COEF, INTERCEPT), axis=1)
    hits, left_out = dict.fromkeys(INTERVALS, 0.0), 0
    for _ in range(replications):
        y = (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = csoftmax.fit(X, y, reference=0, n_threads=1)
        if not result.success:
            left_out += 1
            continue
        for name, intervals in INTERVALS.items():
            low, high, truth = intervals(result, X)
            hits[name] = hits[name] + ((low <= truth) & (truth <= high))
    return {name: hit / (replications - left_out) for name, hit in hits.items()}, left_out


def run(settings):
    replications = QUICK_REPLICATIONS if settings.quick else REPLICATIONS
    for n, allowed in SIZES:
        row = Row(f"n = {n}")
        covered, left_out = simulate(n, replications)
        # things covered in one fit are not independent: no more than the error of one of them is claimed
        error = math.sqrt(LEVEL * (1 - LEVEL) / replications)
        for name, coverage in covered.items():
            row.values[name] = float(coverage.mean())
            row.more.setdefault("the least coverage of what is covered", {})[name] = float(coverage.min())
            if name not in SHOWN_ONLY and abs(coverage.mean() - LEVEL) > allowed + 2 * error:
                row.failures.append(f"{name}: coverage {coverage.mean():.3f}")
        if left_out:
            row.notes.append(f"{left_out} of {replications} samples had no maximum and are left out")
        yield row
