"""A plain long double oracle: the equations of softmax regression, and how far float64 and float32 code may be off.

The tests of csoftmax stand on it: kernels, objectives and fits are compared with these functions.
It stands on numpy alone and imports nothing of csoftmax, so that the two can only agree by both being right.

Throughout, X is (n, d), X~ is X with a last column of ones when there is an intercept and has p columns, W is (C, p)
with rows [w_k, b_k], y is (n,) codes 0..C-1 or (n, C) counts, weight is (n,) or None, offset is (n, C) or None.
p_jk is the softmax of row j at class k, c_jk the counts and N_j = sum_k c_jk their total (1 for codes).

Where numpy's longdouble is the x86 80-bit format the results are good to about 1e-19; where it is float64 they are no
better than any float64 code, and tests that ask for more should look at `EXTENDED`.
"""

import math

import numpy as np

LONGDOUBLE = np.longdouble
EXTENDED = bool(np.finfo(np.longdouble).eps < 2.0**-60)  # False where long double is only a double
EPS = float(np.finfo(np.float64).eps)  # 2^-52
EPS32 = float(np.finfo(np.float32).eps)  # 2^-23
BLOCK_ROWS = 512  # float32 code adds up the outer products of so many rows in float32, and the rest in float64


# ---------------------------------------------------------------------------------------------------------------------
# The pieces


def design(X, fit_intercept=True):
    """X~ : (n, p) longdouble, the ones of the intercept as its last column."""
    X = np.asarray(X, dtype=LONGDOUBLE)
    if not fit_intercept:
        return X
    return np.concatenate([X, np.ones((X.shape[0], 1), dtype=LONGDOUBLE)], axis=1)


def logits(X, W, fit_intercept=True, offset=None):
    """a_jk = sum_i x~_ji w_ki + offset_jk : (n, C)."""
    A = design(X, fit_intercept) @ np.asarray(W, dtype=LONGDOUBLE).T
    return A if offset is None else A + np.asarray(offset, dtype=LONGDOUBLE)


def targets(y, C):
    """c_jk : (n, C) longdouble counts; codes become rows with a single 1."""
    y = np.asarray(y)
    if y.ndim == 2:
        assert y.shape[1] == C
        return y.astype(LONGDOUBLE)
    counts = np.zeros((y.shape[0], C), dtype=LONGDOUBLE)
    for j, code in enumerate(y):
        assert 0 <= code < C
        counts[j, code] = 1
    return counts


def _weights(weight, n):
    return np.ones(n, dtype=LONGDOUBLE) if weight is None else np.asarray(weight, dtype=LONGDOUBLE)


def _prepared(X, y, W, fit_intercept, weight, offset):
    """X~, the logits, the counts, their row totals and the weights, all longdouble."""
    A = logits(X, W, fit_intercept, offset)
    counts = targets(y, A.shape[1])
    return design(X, fit_intercept), A, counts, counts.sum(axis=1), _weights(weight, A.shape[0])


# ---------------------------------------------------------------------------------------------------------------------
# The primitives, along the last axis


def _shifted(A):
    """m = max_k a_k, b_k = a_k - m, r = sum of exp(b_k) without one largest term; b is nan where no limit exists.

    The shift by the maximum with the largest term left out of the sum and log1p is that of Blanchard, Higham & Higham
    (2021), doi:10.1093/imanum/draa038. A single +inf is taken to its limit (b = 0 there, -inf elsewhere); nan, two
    infinities, and a row of -inf alone have no limit.
    """
    A = np.asarray(A, dtype=LONGDOUBLE)
    m = A.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        b = np.where(A == m, LONGDOUBLE(0), A - m)
    others = np.exp(b)
    np.put_along_axis(others, b.argmax(axis=-1)[..., None], 0, axis=-1)
    r = others.sum(axis=-1, keepdims=True)
    no_limit = np.isnan(m) | (m == -np.inf) | ((A == np.inf).sum(axis=-1, keepdims=True) > 1)
    return m, np.where(no_limit, LONGDOUBLE(np.nan), b), r


def logsumexp(A):
    """log sum_k exp(a_k) = m + log1p(r)."""
    m, _, r = _shifted(A)
    return (m + np.log1p(r))[..., 0]


def log_softmax(A):
    """a_k - log sum_l exp(a_l) = b_k - log1p(r)."""
    _, b, r = _shifted(A)
    return b - np.log1p(r)


def softmax(A):
    """exp(a_k) / sum_l exp(a_l) = exp(b_k) / (1 + r)."""
    _, b, r = _shifted(A)
    return np.exp(b) / (1 + r)


def softmax_jacobian(a):
    """d softmax_i / d a_k = p_i (1{i = k} - p_k) : (C, C) for a of shape (C,)."""
    p = softmax(a)
    C = p.shape[0]
    J = np.empty((C, C), dtype=LONGDOUBLE)
    for i in range(C):
        for k in range(C):
            # 1 - p_i as the sum of the others: no cancellation where p_i is nearly 1
            J[i, k] = p[i] * np.delete(p, i).sum() if i == k else -p[i] * p[k]
    return J


# ---------------------------------------------------------------------------------------------------------------------
# The likelihood and its derivatives


def log_likelihood_per_sample(X, y, W, fit_intercept=True, weight=None, offset=None):
    """L_j = w_j sum_k c_jk log p_jk : (n,), where 0 log 0 = 0 and a row of weight 0 is 0."""
    _, A, counts, _, w = _prepared(X, y, W, fit_intercept, weight, offset)
    wc = w[:, None] * counts
    with np.errstate(invalid="ignore"):
        return np.where(wc == 0, LONGDOUBLE(0), wc * log_softmax(A)).sum(axis=1)


def log_likelihood(X, y, W, fit_intercept=True, weight=None, offset=None):
    """L = sum_j L_j."""
    return log_likelihood_per_sample(X, y, W, fit_intercept, weight, offset).sum()


def logit_residuals(X, y, W, fit_intercept=True, weight=None, offset=None):
    """r_jk = dL_j / da_jk = w_j (c_jk - N_j p_jk) : (n, C)."""
    _, A, counts, N, w = _prepared(X, y, W, fit_intercept, weight, offset)
    return w[:, None] * (counts - N[:, None] * softmax(A))


def gradient_per_sample(X, y, W, fit_intercept=True, weight=None, offset=None):
    """dL_j / dW_ki = r_jk x~_ji : (n, C, p)."""
    r = logit_residuals(X, y, W, fit_intercept, weight, offset)
    return r[:, :, None] * design(X, fit_intercept)[:, None, :]


def gradient(X, y, W, fit_intercept=True, weight=None, offset=None):
    """dL / dW_ki = sum_j r_jk x~_ji : (C, p)."""
    return logit_residuals(X, y, W, fit_intercept, weight, offset).T @ design(X, fit_intercept)


def hessian(X, y, W, fit_intercept=True, weight=None, offset=None):
    """d^2 L / dw~_i dw~_k = - sum_j w_j N_j p_ji (1{i = k} - p_jk) x~_j x~_j' : (C p, C p), C order of W."""
    Xt, A, _, N, w = _prepared(X, y, W, fit_intercept, weight, offset)
    P = softmax(A)
    C, p = P.shape[1], Xt.shape[1]
    H = np.empty((C, p, C, p), dtype=LONGDOUBLE)
    for i in range(C):
        for k in range(i + 1):
            # s_j = w_j N_j p_ji (1{i = k} - p_jk), with 1 - p_ji as the sum of the others
            s = w * N * P[:, i] * (np.delete(P, i, axis=1).sum(axis=1) if i == k else -P[:, k])
            H[i, :, k, :] = -(Xt * s[:, None]).T @ Xt
            H[k, :, i, :] = H[i, :, k, :].T
    return H.reshape(C * p, C * p)


def hessian_product(X, y, W, V, fit_intercept=True, weight=None, offset=None):
    """(H v)_i = - sum_j w_j N_j p_ji (t_ji - sum_k p_jk t_jk) x~_j with t_jk = x~_j' v_k : (C, p), V like W."""
    Xt, A, _, N, w = _prepared(X, y, W, fit_intercept, weight, offset)
    P = softmax(A)
    T = Xt @ np.asarray(V, dtype=LONGDOUBLE).T
    mean = (P * T).sum(axis=1, keepdims=True)
    return -((w * N)[:, None] * P * (T - mean)).T @ Xt


def log_det(A):
    """log det of a positive definite matrix: sum_k log d_k of A = L diag(d) L'."""
    A = np.array(A, dtype=LONGDOUBLE)
    total = LONGDOUBLE(0)
    for k in range(len(A)):
        total += np.log(A[k, k])
        A[k + 1 :, k + 1 :] -= np.outer(A[k + 1 :, k], A[k, k + 1 :]) / A[k, k]
    return total


def jeffreys_log_likelihood(X, y, W, fit_intercept=True, weight=None, offset=None, reference=0):
    """L + 1/2 log det I, I = - grad^2 L on the rows of all classes but the reference."""
    C, p = np.shape(W)
    keep = np.delete(np.arange(C * p), np.arange(reference * p, (reference + 1) * p))
    information = -hessian(X, y, W, fit_intercept, weight, offset)[np.ix_(keep, keep)]
    return log_likelihood(X, y, W, fit_intercept, weight, offset) + log_det(information) / 2


def _penalised(W, fit_intercept):
    W = np.asarray(W, dtype=LONGDOUBLE)
    return W[:, :-1] if fit_intercept else W


def ridge_penalty(W, l2, fit_intercept=True):
    """l2 / 2 sum_k |w_k|^2, the intercepts left out."""
    return LONGDOUBLE(l2) / 2 * (_penalised(W, fit_intercept) ** 2).sum()


def ridge_penalty_gradient(W, l2, fit_intercept=True):
    """l2 w_ki, and 0 for the intercepts : (C, p)."""
    g = LONGDOUBLE(l2) * np.asarray(W, dtype=LONGDOUBLE)
    if fit_intercept:
        g[:, -1] = 0
    return g


def lasso_penalty(W, l1, fit_intercept=True):
    """l1 sum_k |w_k|_1, the intercepts left out."""
    return LONGDOUBLE(l1) * np.abs(_penalised(W, fit_intercept)).sum()


# ---------------------------------------------------------------------------------------------------------------------
# Averages of probabilities, and the delta method


def average_probability(X, W, fit_intercept=True, weight=None, offset=None):
    """sum_j w_j p_jk / sum_j w_j : (C,)."""
    w = _weights(weight, len(X))
    return w @ softmax(logits(X, W, fit_intercept, offset)) / w.sum()


def average_slope(X, dX, W, fit_intercept=True, weight=None, offset=None):
    """sum_j w_j dp_jk / sum_j w_j where the features of row j move by dX_j : (C,)."""
    w, W = _weights(weight, len(X)), np.asarray(W, dtype=LONGDOUBLE)
    P = softmax(logits(X, W, fit_intercept, offset))
    moved = np.asarray(dX, dtype=LONGDOUBLE) @ W[:, : np.shape(X)[1]].T
    return w @ (P * (moved - (P * moved).sum(axis=1, keepdims=True))) / w.sum()


def delta_covariance(function, W, covariance, step=1e-5):
    """J Sigma J' with J by central differences of function(W), any shape, in long double; Sigma of W.ravel().

    A step of h costs about h^2 = 1e-10, relative to third derivatives of size 1, and 1e-19 / h.
    """
    W = np.asarray(W, dtype=LONGDOUBLE)
    columns = []
    for i in range(W.size):
        move = np.zeros(W.size, dtype=LONGDOUBLE)
        h = LONGDOUBLE(step) * max(1, abs(W.ravel()[i]))
        move[i] = h
        up, down = (np.ravel(function(W + sign * move.reshape(W.shape))) for sign in (1, -1))
        columns.append((up - down) / (2 * h))
    J = np.array(columns).T
    return J @ np.asarray(covariance, dtype=LONGDOUBLE) @ J.T


# ---------------------------------------------------------------------------------------------------------------------
# Error budgets: what float64 code is held to
#
# The claim. The error of the log-likelihood and of the gradient is at most 1e-12 sum_j w_j |x_j| normwise, plus what a
# logit error of delta = 4 (d + 1) eps max_jk sum_i |x_ji w_ki| carries through; that of the Hessian at most
# 1e-11 sum_j w_j |x_j|^2, and of its product with v that times |v|, plus the same. Here eps = 2^-52, |.| is the
# Euclidean norm (Frobenius for a matrix), x_j has the 1 of the intercept, w_j the row's total count, and sum_i runs
# over the features, the intercept and the offset.
#
# What a logit error carries through. Let every logit of a row move by at most delta: a -> a + e, |e_k| <= delta, with
# p = softmax(a). The bounds hold at every a; integrated along the segment from a to a + e they are exact for any delta,
# not only to first order. Write E = sum_k p_k e_k and f_k = e_k - E.
#
# 1. The log-likelihood of a row:  |dL_j| <= 2 delta w N.
#    For dL_j/da = w (c - N p), whose moduli sum to at most 2 w N.
#
# 2. The softmax:  |dp| <= min(delta / sqrt 2, sqrt 2),  max_k |dp_k| <= min(delta / 2, 1).
#    For dp_k = p_k f_k; sum_k p_k |f_k| <= delta (the mean deviation of numbers within [-delta, delta]), and
#    |dp_k| <= p_k 2 delta (1 - p_k) <= delta / 2; hence |dp|^2 <= max|dp_k| sum|dp_k| <= delta^2 / 2. Two probability
#    vectors are never further apart than sqrt 2. Attained at C = 2, p = (1/2, 1/2), e = (delta, -delta).
#
# 3. The Jacobian S = diag(p) - p p':  |dS|_F <= min(2 delta / (3 sqrt 3), 1 / sqrt 2),  2 / (3 sqrt 3) = 0.385.
#    For dS = diag(p f) - (p f) p' - p (p f)' is linear in e, so its norm is largest at a corner, each e_k = +-delta.
#    Let P be the mass of the classes with +, Q = 1 - P, u = P Q <= 1/4; f is 2 delta Q on them, -2 delta P on the rest.
#    With a P^2 and b Q^2 the sums of p^2 on the two sides (a, b <= 1; t = a + b), and sum p^3 >= (sum p^2)^2 / sum p,
#        |dS|_F^2 / (2 delta)^2 <= u^2 (t + 2 a b - 4 u t^2) <= u^2 (t + t^2 (1/2 - 4 u)) <= 1/27,
#    the last at t = 2, u = 1/6 (for u > 3/16 the maximum over t is inside, u^2 / (16 u - 2) < 0.036). Attained at C = 2
#    with p (1 - p) = 1/6. Besides, S >= 0 with |S|_F <= 1/2, for |S|_F^2 = q - 2 sum p^3 + q^2 <= q - q^2 <= 1/4 where
#    q = sum p^2; so two of them are within 1 / sqrt 2 in the Frobenius norm, and within 1/2 in the spectral norm.
#
# Underflow is outside the claim: products below 2.2e-308 (float32: 1.2e-38) may lose all their digits.
#
# float32. The functions below take eps = EPS32 for code that converts parameters, weights, counts and offset to
# float32, works on a block of at most 512 rows in float32, and adds up blocks, and the terms of the log-likelihood, in
# float64. The logits' part is the same, with that eps. The rounding part, 1e-12 and 1e-11 above, is a count of
# roundings, each of u = eps / 2; with N = min(n, 512) it is
#
#     log-likelihood    u [(C + 2) sum_j w_j + (2 C + 10) sum_j |L_j|]
#     gradient          u (3/2 N + 4 C + 26) sum_j w_j |x_j|
#     Hessian product   u (1/2 N + 6 C + d / 2 + 40) |v| sum_j w_j |x_j|^2
#
# N u is the worst that a sum of N terms does, and is relative to the sum of the terms' moduli: |r_j| |x_j| with
# |r_j| <= sqrt 2 w_j; |S_j V x_j| |x_j| with |S_j| <= 1/2. The rest is the row's own. An exponential is good to 2 u and
# the sum of C of them to (C + 2) u. So a probability is good to (C + 9) u, relative, and the residual of counts, of a
# total that is itself a sum, to (4 C + 24) u w_j; log(1 + rest) to (C + 2) u plus 4 u of its size, and L_j to 3 u of
# its size besides, with counts 2 C + 3; V x_j to (d + 3) u |V| |x_j|, and its mean over the classes, taken off it, to
# 2 C roundings of numbers of size 2 |V| |x_j|.
#
# In a logit the conversion of the parameters (1), the sum of products (d + 2), the offset (2) and the shift by the
# maximum (2) are (d + 7) u max_jk sum_i |x_ji w_ki|; delta is 8 (d + 1) u of it.


def log_likelihood_change(delta):
    """Largest change of log p_k of a row, over all rows, when each logit moves by at most delta: 2 delta, item 1."""
    return 2.0 * delta


def softmax_change(delta):
    """Largest Euclidean change of softmax if each logit moves by at most delta, item 2: min(delta / sqrt 2, sqrt 2)."""
    return min(delta / math.sqrt(2.0), math.sqrt(2.0))


def jacobian_change(delta, norm="fro"):
    """Largest change of diag(p) - p p' when each logit moves by at most delta (item 3).

    min(2 delta / (3 sqrt 3), 1 / sqrt 2) in the Frobenius norm, min(2 delta / (3 sqrt 3), 1 / 2) in the spectral norm
    (`norm=2`).
    """
    return min(2.0 * delta / math.sqrt(27.0), math.sqrt(0.5) if norm == "fro" else 0.5)


def logit_error(X, W, fit_intercept=True, offset=None, eps=EPS):
    """delta = 4 (d + 1) eps max_jk sum_i |x_ji w_ki|, the sum over features, intercept and offset; d features."""
    Xt, W = np.abs(design(X, fit_intercept)), np.abs(np.asarray(W, dtype=LONGDOUBLE))
    sizes = Xt @ W.T
    if offset is not None:
        sizes = sizes + np.abs(np.asarray(offset, dtype=LONGDOUBLE))
    return 4.0 * (np.shape(X)[1] + 1) * eps * float(sizes.max(initial=0))


def _row_sizes(X, y, W, fit_intercept, weight):
    """w_j N_j and |x~_j|, Euclidean : (n,) each."""
    counts = targets(y, np.shape(W)[0])
    w = _weights(weight, counts.shape[0]) * counts.sum(axis=1)
    return w, np.sqrt((design(X, fit_intercept) ** 2).sum(axis=1))


def _roundings(eps, rows, C, per_class, rest):
    """u (rows + per_class C + rest): the rounding part's factor in float32."""
    assert eps == EPS32, "the budgets are those of float64 and of float32"
    return eps / 2 * (rows + per_class * C + rest)


def log_likelihood_tolerance(X, y, W, fit_intercept=True, weight=None, offset=None, eps=EPS):
    """Bound on |L - L computed|: 1e-12 sum_j w_j |x_j| + 2 delta sum_j w_j.

    In float32 the first part is u [(C + 2) sum_j w_j + (2 C + 10) sum_j |L_j|].

    The first part pays for exp, log and the sum, the second for the logits: |dL_j| <= 2 delta w_j (item 1 above).
    |x_j| includes a 1 here even without an intercept: at x_j = 0 the row's term is still -log C, with its rounding.

    Returns
    -------
    float
    """
    w, _ = _row_sizes(X, y, W, fit_intercept, weight)
    delta = logit_error(X, W, fit_intercept, offset, eps)
    if eps == EPS:
        size = np.sqrt((design(X, True) ** 2).sum(axis=1))
        base = 1e-12 * (w * size).sum()
    else:
        C = np.shape(W)[0]
        terms = np.abs(log_likelihood_per_sample(X, y, W, fit_intercept, weight, offset)).sum()
        base = _roundings(eps, 0, C, 1, 2) * w.sum() + _roundings(eps, 0, C, 2, 10) * terms
    return float(base + log_likelihood_change(delta) * w.sum())


def gradient_tolerance(X, y, W, fit_intercept=True, weight=None, offset=None, eps=EPS):
    """Bound on |G - G computed|, Frobenius: (1e-12 + min(delta / sqrt 2, sqrt 2)) sum_j w_j |x_j|.

    In float32 u (3/2 N + 4 C + 26) stands for 1e-12. The residual of row j moves by w_j |dp|_2 <=
    w_j min(delta / sqrt 2, sqrt 2) (item 2 above), and |r_j x_j'|_F = |r_j| |x_j|. An entry of G is of course within
    it too.

    Returns
    -------
    float
    """
    w, size = _row_sizes(X, y, W, fit_intercept, weight)
    delta = logit_error(X, W, fit_intercept, offset, eps)
    base = 1e-12 if eps == EPS else _roundings(eps, 1.5 * min(len(w), BLOCK_ROWS), np.shape(W)[0], 4, 26)
    return float((base + softmax_change(delta)) * (w * size).sum())


def hessian_tolerance(X, y, W, fit_intercept=True, weight=None, offset=None):
    """Bound on |H - H computed|, Frobenius: (1e-11 + min(2 delta / (3 sqrt 3), 1 / sqrt 2)) sum_j w_j |x_j|^2.

    H is the sum of - w_j S_j (x) x_j x_j', the Frobenius norm of a Kronecker product is the product of the norms, and
    |dS_j|_F <= min(2 delta / (3 sqrt 3), 1 / sqrt 2) (item 3 above).

    Returns
    -------
    float
    """
    w, size = _row_sizes(X, y, W, fit_intercept, weight)
    delta = logit_error(X, W, fit_intercept, offset)
    return float((1e-11 + jacobian_change(delta)) * (w * size**2).sum())


def hessian_product_tolerance(X, y, W, V, fit_intercept=True, weight=None, offset=None, eps=EPS):
    """Bound on |Hv - Hv computed|, Frobenius.

    1e-11 |V|_F sum_j w_j |x_j|^2 + min(2 delta / (3 sqrt 3), 1 / 2) sum_j w_j |x_j| |V x_j|, in float32 with
    u (1/2 N + 6 C + d / 2 + 40) for 1e-11.

    H v is the sum of - w_j (S_j V x_j) x_j'. A change of S_j alone gives |dS_j|_2 |V x_j| |x_j| (item 3 above, spectral
    norm). The rounding of V x_j itself, at most (d + 1) eps |V|_F |x_j|, is part of the first term (|S_j|_2 <= 1/2):
    V x_j may cancel, so |V x_j| could not pay for it.

    Returns
    -------
    float
    """
    V = np.asarray(V, dtype=LONGDOUBLE)
    w, size = _row_sizes(X, y, W, fit_intercept, weight)
    products = np.sqrt(((design(X, fit_intercept) @ V.T) ** 2).sum(axis=1))
    delta = logit_error(X, W, fit_intercept, offset, eps)
    n, d = np.shape(X)
    base = 1e-11 if eps == EPS else _roundings(eps, 0.5 * min(n, BLOCK_ROWS), V.shape[0], 6, d / 2 + 40)
    base = base * np.sqrt((V**2).sum()) * (w * size**2).sum()
    return float(base + jacobian_change(delta, norm=2) * (w * size * products).sum())
