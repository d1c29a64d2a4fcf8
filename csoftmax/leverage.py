"""How precisely the logits of each row are known: hat blocks, from contrasts of classes.

`bias_reduction`, `sandwich` and `probabilities` stand on it. It stands on `samples`;
`MetricCoordinates.contrast_factors` makes the factors.

The hat block of row j has the covariances of its logits: with Sigma_il the covariance of w~_i and w~_l,

    h_j[i, l] = x~_j' Sigma_il x~_j.

All of it that matters is in the variances of differences of logits, for softmax knows no more:

    d_j[i, l] = h_j[i, i] + h_j[l, l] - 2 h_j[i, l] = |F_il x~_j|^2        C (C - 1) / 2 sums of squares, none negative
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from csoftmax.samples import Array, DenseSamples, pair_indices


def contrast_variances(block: DenseSamples, factors: Array) -> Iterator[tuple[int, int, Array]]:
    """Yield (i, l, d[:, i, l]) for each pair of classes i < l: the variance of each row's a_i - a_l.

    Parameters
    ----------
    block : DenseSamples
        As many rows as are to be held at once: `DenseSamples.part` of the metric's standardised samples.
    factors : ndarray of shape (n_pairs, q, p)
        From `MetricCoordinates.contrast_factors`.

    Yields
    ------
    i, l : int
    variances : ndarray of shape (n_samples,)
        The row's mass takes no part.
    """
    columns = block.seen().replace(n_classes=factors.shape[1], codes=None, counts=None, offset=None, weights=None)
    for i, k, factor in zip(*pair_indices(block.n_classes), factors, strict=True):
        yield int(i), int(k), columns.row_results("logit_squares", factor, np.empty((block.n_samples, 1)))[:, 0]


def hat_blocks(block: DenseSamples, factors: Array) -> Array:
    """Return h of shape (n_samples, n_classes, n_classes): the covariance of each row's logits, of symmetric rows.

    Its rows and columns sum to 0. With another class as reference h_il - h_rl - h_ir + h_rr takes its place, and every
    product with softmax's Jacobian is the same.

    Parameters
    ----------
    block, factors
        As for `contrast_variances`.
    """
    distances = np.zeros((block.n_samples, block.n_classes, block.n_classes))
    for i, k, variances in contrast_variances(block, factors):
        distances[:, i, k] = distances[:, k, i] = variances
    # h = -1/2 J d J, J = I - 11'/C
    distances -= distances.mean(axis=1, keepdims=True)
    distances -= distances.mean(axis=2, keepdims=True)
    return -0.5 * distances
