"""The log posterior density of q and its gradient, for numba: the same code for every model (compiled.py).

Given t, the effects of level j of a group are u_j = M_j^-1 Lambda'(d_j - B_j x) + C_j^-T epsilon_j with M_j = I +
Lambda'A_j Lambda = C_j C_j', x the effects eliminated later and beta: what the Gaussian approximation says of them.
A, B and d are numbers, so the map is exact whatever they are; its Jacobian is 1 / prod(diag C_j).  b_j = Lambda u_j.

``rows`` gives the log likelihood at eta and writes its derivatives; numba takes it as a pointer.  Functions that go
through levels or rows get single arrays: handing on the whole record costs more than what they compute."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hiermod.engines.whitened.arrays import INTERVAL, LOG, SINH, Arrays


def sech(z: float) -> float:
    """1 / cosh(z), where cosh would overflow too."""
    small = math.exp(-abs(z))
    return 2.0 * small / (1.0 + small * small)


def law_at(law: np.ndarray, x: float) -> tuple[float, float]:
    """Log density of one prior without its constant, and its slope (priors/terms.py says what the numbers are)."""
    value, slope = law[1] * x, law[1]
    if law[0] != 0.0:
        value += law[0] * math.log(x)
        slope += law[0] / x
    if law[2] != 0.0 or law[4] != 0.0:
        away = x - law[3]
        value += law[2] * away * away
        slope += 2.0 * law[2] * away
        if law[4] != 0.0:
            square = away * away * law[5]
            value += law[4] * math.log1p(square)
            slope += law[4] * 2.0 * away * law[5] / (1.0 + square)
    if law[6] != 0.0:
        value += law[6] / x
        slope -= law[6] / (x * x)
    if law[7] != 0.0:
        far = math.log(x) - law[8]
        value += law[7] * far * far
        slope += 2.0 * law[7] * far / x
    if law[9] != 0.0:
        power = law[9] * x ** law[10]
        value += power
        slope += law[10] * power / x
    if law[11] != 0.0:
        value += law[11] * math.log1p(-x)
        slope -= law[11] / (1.0 - x)
    return value, slope


def scalar_at(kind: int, t: float, scale: float, low: float, high: float) -> tuple[float, float, float, float]:
    """One scalar parameter from its coordinate: value, d value / dt, log |d value / dt| up to a constant, its slope."""
    if kind == SINH:
        c = math.cosh(t)
        return scale * math.sinh(t), scale * c, math.log(c), math.tanh(t)
    if kind == LOG:
        v = scale * math.exp(t)
        return v, v, t, 1.0
    if kind == INTERVAL:
        up = 1.0 / (1.0 + math.exp(-t))
        width = high - low
        slope = up * (1.0 / (1.0 + math.exp(t)))
        return low + width * up, width * slope, -abs(t) - 2.0 * math.log1p(math.exp(-abs(t))), 1.0 - 2.0 * up
    return scale * t, scale, 0.0, 0.0


def covariance_root(sd: np.ndarray, y: np.ndarray, first: np.ndarray, Lam: np.ndarray) -> None:
    """Lambda (K, K) of a group, lower triangular, from its signed sds (K,) and the coordinates of its partial
    correlations, row by row; written to ``Lam``."""
    place = 0
    for a in range(len(sd)):
        left = 1.0
        for i in range(len(sd)):
            Lam[a, i] = 0.0
        for i in range(first[a], a):
            Lam[a, i] = sd[a] * left * math.tanh(y[place])
            left *= sech(y[place])
            place += 1
        Lam[a, a] = sd[a] * left


def root_gradient(
    sd: np.ndarray, y: np.ndarray, first: np.ndarray, Lam_bar: np.ndarray, by_sd: np.ndarray, by_y: np.ndarray
) -> None:
    """From d f / d Lambda: adds d f / d sd to ``by_sd`` and d f / d y to ``by_y``."""
    begin = 0
    for a in range(len(sd)):
        start, left, total = first[a], 1.0, 0.0
        for i in range(start, a):
            total += Lam_bar[a, i] * left * math.tanh(y[begin + i - start])
            left *= sech(y[begin + i - start])
        by_sd[a] += total + Lam_bar[a, a] * left
        # dL_ai / dy_i = left_i sech^2(y_i); every later entry of the row has the factor sech(y_i)
        later = Lam_bar[a, a] * sd[a] * left
        for i in range(a - 1, start - 1, -1):
            own = sech(y[begin + i - start])
            rest = 1.0
            for k in range(start, i):
                rest *= sech(y[begin + k - start])
            along = math.tanh(y[begin + i - start])
            by_y[begin + i - start] += Lam_bar[a, i] * sd[a] * rest * own * own - along * later
            later += Lam_bar[a, i] * sd[a] * rest * along
        begin += a - start


def explain(
    d: np.ndarray, pointers: np.ndarray, columns: np.ndarray, entries: np.ndarray, x: np.ndarray, r: np.ndarray,
    at: int, stop: int,
) -> None:  # fmt: skip
    """r = d - B x for the effects from ``at`` to ``stop``."""
    for i in range(at, stop):
        rest = d[i]
        for e in range(pointers[i], pointers[i + 1]):
            rest -= entries[e] * x[columns[e]]
        r[i] = rest


def pass_on(
    pointers: np.ndarray, columns: np.ndarray, entries: np.ndarray, by_r: np.ndarray, gx: np.ndarray, at: int, stop: int
) -> None:
    """The adjoint of ``explain``: gx -= B'by_r."""
    for i in range(at, stop):
        by = by_r[i]
        for e in range(pointers[i], pointers[i + 1]):
            gx[columns[e]] -= entries[e] * by


def whiten_singles(
    root: float, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray, u: np.ndarray,
    x: np.ndarray,
) -> float:  # fmt: skip
    """u and b of all levels of a group with one effect each; log prior of u plus the log Jacobian."""
    value = 0.0
    for j in range(len(u)):
        square = 1.0 + root * root * A[j]
        c = math.sqrt(square)
        C[j] = c
        z[j] = root * r[j] / c
        u[j] = (z[j] + epsilon[j]) / c
        x[j] = root * u[j]
        value -= 0.5 * (u[j] * u[j] + math.log(square))
    return value


def singles_gradient(
    root: float, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray, u: np.ndarray,
    gx: np.ndarray, by_epsilon: np.ndarray,
) -> float:  # fmt: skip
    """Adjoint of ``whiten_singles``: writes d f / d epsilon, replaces r by d f / d r, returns d f / d root."""
    by_root = 0.0
    for j in range(len(u)):
        c = C[j]
        h = (root * gx[j] - u[j]) / c
        by_epsilon[j] = h
        v = h / c
        by_root += gx[j] * u[j] + r[j] * v - A[j] * root * (h * (2.0 * z[j] + epsilon[j]) + 1.0) / (c * c)
        r[j] = root * v
    return by_root


def whiten_levels(
    K: int, Lam: np.ndarray, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray,
    u: np.ndarray, x: np.ndarray, M: np.ndarray,
) -> float:  # fmt: skip
    """As ``whiten_singles`` with K effects for each level: A, C (J K K,), the others (J K,)."""
    value = 0.0
    for j in range(len(u) // K):
        at, A_at, pivots = j * K, j * K * K, 1.0
        for i in range(K):  # A Lambda
            for k in range(K):
                total = 0.0
                for e in range(k, K):
                    total += A[A_at + i * K + e] * Lam[e, k]
                M[i, k] = total
        for i in range(K):  # C C' = I + Lambda'A Lambda
            for k in range(i + 1):
                total = 1.0 if i == k else 0.0
                for e in range(i, K):
                    total += Lam[e, i] * M[e, k]
                for e in range(k):
                    total -= C[A_at + i * K + e] * C[A_at + k * K + e]
                if i == k:
                    pivots *= total
                    C[A_at + i * K + i] = math.sqrt(total)
                else:
                    C[A_at + i * K + k] = total / C[A_at + k * K + k]
        value -= 0.5 * math.log(pivots)
        for i in range(K):  # z = C^-1 Lambda'r
            total = 0.0
            for e in range(i, K):
                total += Lam[e, i] * r[at + e]
            for e in range(i):
                total -= C[A_at + i * K + e] * z[at + e]
            z[at + i] = total / C[A_at + i * K + i]
        for i in range(K - 1, -1, -1):  # u = C^-T (z + epsilon)
            total = z[at + i] + epsilon[at + i]
            for e in range(i + 1, K):
                total -= C[A_at + e * K + i] * u[at + e]
            total /= C[A_at + i * K + i]
            u[at + i] = total
            value -= 0.5 * total * total
        for i in range(K):
            total = 0.0
            for e in range(i + 1):
                total += Lam[i, e] * u[at + e]
            x[at + i] = total
    return value


def levels_gradient(
    K: int, Lam: np.ndarray, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray,
    u: np.ndarray, gx: np.ndarray, by_epsilon: np.ndarray, Lam_bar: np.ndarray, S: np.ndarray, W: np.ndarray,
) -> None:  # fmt: skip
    """As ``singles_gradient``; d f / d Lambda is added to ``Lam_bar``."""
    v = np.empty(K)
    for j in range(len(u) // K):
        at, A_at = j * K, j * K * K
        for i in range(K):  # h = C^-1 (Lambda'gx - u), the adjoint of epsilon
            total = -u[at + i]
            for e in range(i, K):
                total += Lam[e, i] * gx[at + e]
            for e in range(i):
                total -= C[A_at + i * K + e] * by_epsilon[at + e]
            by_epsilon[at + i] = total / C[A_at + i * K + i]
        for i in range(K - 1, -1, -1):
            total = by_epsilon[at + i]
            for e in range(i + 1, K):
                total -= C[A_at + e * K + i] * v[e]
            v[i] = total / C[A_at + i * K + i]
        # The adjoint of M, twice its symmetric part, is -W, W = C^-T S C^-1: of the mean, of epsilon's factor, of |M|.
        for i in range(K):
            for k in range(i + 1):
                h = by_epsilon[at + k]
                total = by_epsilon[at + i] * z[at + k] + z[at + i] * h + epsilon[at + i] * h
                S[i, k] = S[k, i] = total + 1.0 if i == k else total
        for k in range(K):
            for i in range(K - 1, -1, -1):
                total = S[i, k]
                for e in range(i + 1, K):
                    total -= C[A_at + e * K + i] * W[e, k]
                W[i, k] = total / C[A_at + i * K + i]
        for i in range(K):
            for k in range(K - 1, -1, -1):
                total = W[i, k]
                for e in range(k + 1, K):
                    total -= W[i, e] * C[A_at + e * K + k]
                W[i, k] = total / C[A_at + k * K + k]
        for e in range(K):
            for k in range(K):
                total = 0.0  # Lambda W
                for i in range(e + 1):
                    total += Lam[e, i] * W[i, k]
                S[e, k] = total
        for e in range(K):
            for k in range(e + 1):
                total = gx[at + e] * u[at + k] + r[at + e] * v[k]
                for f in range(K):
                    total -= A[A_at + e * K + f] * S[f, k]
                Lam_bar[e, k] += total
        for a in range(K):
            total = 0.0
            for i in range(a + 1):
                total += Lam[a, i] * v[i]
            r[at + a] = total


def whiten_pairs(
    Lam: np.ndarray, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray, u: np.ndarray,
    x: np.ndarray, M: np.ndarray,
) -> float:  # fmt: skip
    """``whiten_levels`` for K = 2, so that its loops are unrolled."""
    return whiten_levels(2, Lam, A, epsilon, r, C, z, u, x, M)


def pairs_gradient(
    Lam: np.ndarray, A: np.ndarray, epsilon: np.ndarray, r: np.ndarray, C: np.ndarray, z: np.ndarray, u: np.ndarray,
    gx: np.ndarray, by_epsilon: np.ndarray, Lam_bar: np.ndarray, S: np.ndarray, W: np.ndarray,
) -> None:  # fmt: skip
    """``levels_gradient`` for K = 2."""
    levels_gradient(2, Lam, A, epsilon, r, C, z, u, gx, by_epsilon, Lam_bar, S, W)


def common_predictor(X: np.ndarray, beta: np.ndarray, xb: np.ndarray) -> None:
    """X'beta, X (p, m)."""
    for i in range(len(xb)):
        xb[i] = 0.0
    for j in range(len(X)):
        x, slope = X[j], beta[j]
        for i in range(len(xb)):
            xb[i] += slope * x[i]


def common_gradient(X: np.ndarray, by_row: np.ndarray, gx: np.ndarray) -> None:
    """gx = X by_row."""
    for j in range(len(X)):
        x, total = X[j], 0.0
        for i in range(len(by_row)):
            total += x[i] * by_row[i]
        gx[j] = total


def gather(eta: np.ndarray, v: np.ndarray, codes: np.ndarray, K: int, x: np.ndarray) -> None:
    """Adds what one column of a group gives to the linear predictors."""
    for i in range(len(eta)):
        eta[i] += v[i] * x[codes[i] * K]


def scatter(score: np.ndarray, v: np.ndarray, codes: np.ndarray, K: int, gx: np.ndarray) -> None:
    """Its adjoint.  Rows of the same level that follow each other are summed before memory is written."""
    at, total = codes[0], 0.0
    for i in range(len(score)):
        if codes[i] != at:
            gx[at * K] += total
            at, total = codes[i], 0.0
        total += v[i] * score[i]
    gx[at * K] += total


def log_density(rows: Any, m: Arrays, q: np.ndarray, g: np.ndarray, x: np.ndarray) -> float:
    """log p(q | data) up to a constant; its gradient is written to g, (beta, effects) to x."""
    p, G, S, n = len(m.X), len(m.size), len(m.kind), len(m.y)
    each = m.X.shape[1] == n  # no two rows share their predictors
    head = S + len(m.shapes)
    value = 0.0
    for s in range(S):  # value of the scalar, d / d value so far, d value / dt, d log |d value / dt| / dt
        v, slope, log_slope, by_t = scalar_at(m.kind[s], q[s], m.scale[s], m.low[s], m.high[s])
        prior, by_v = law_at(m.laws[s], v)
        value += prior + log_slope
        m.scalar[0, s], m.scalar[1, s], m.scalar[2, s], m.scalar[3, s] = v, by_v, slope, by_t
    for c in range(len(m.shapes)):
        y = q[S + c]
        value -= 2.0 * m.shapes[c] * (abs(y) + math.log1p(math.exp(-2.0 * abs(y))))
        g[S + c] = -2.0 * m.shapes[c] * math.tanh(y)
    for i in range(p):
        total = m.centre[i]
        for j in range(i, p):
            total += m.root[j, i] * q[head + j]
        x[i] = total
    K_most = 1
    for group in range(G):
        K_most = max(K_most, m.size[group])
    Lam, Lam_bar = np.zeros((G, K_most, K_most)), np.zeros((K_most, K_most))
    M, W = np.zeros((K_most, K_most)), np.zeros((K_most, K_most))
    common_predictor(m.X, x, m.xb)
    for i in range(n):
        m.eta[i] = m.offset[i] + (m.xb[i] if each else m.xb[m.pattern[i]])
    for group in range(G - 1, -1, -1):
        K, at, A_at, s = m.size[group], m.x_at[group], m.A_at[group], m.column_at[group]
        stop, A_stop = at + K * m.levels[group], A_at + K * K * m.levels[group]
        covariance_root(m.scalar[0, s : s + K], q[m.correlation_at[group] :], m.first[s : s + K], Lam[group])
        explain(m.d, m.pointers, m.columns, m.entries, x, m.r, at, stop)
        A, C, epsilon = m.A[A_at:A_stop], m.C[A_at:A_stop], q[head + at : head + stop]
        r, z, u, b = m.r[at:stop], m.z[at:stop], m.u[at:stop], x[at:stop]
        if K == 1:
            value += whiten_singles(Lam[group, 0, 0], A, epsilon, r, C, z, u, b)
        elif K == 2:
            value += whiten_pairs(Lam[group], A, epsilon, r, C, z, u, b, M)
        else:
            value += whiten_levels(K, Lam[group], A, epsilon, r, C, z, u, b, M)
        for a in range(K):
            gather(m.eta, m.V[s + a], m.codes[group], K, x[at + a :])
    further = len(m.fixed)
    a_, by_a = np.zeros(further), np.zeros(further)
    for k in range(further):
        s = m.scalar_of[k]
        if s < 0:
            a_[k] = m.fixed[k]
        else:
            a_[k] = math.log(m.scalar[0, s]) if m.by_log[k] else q[s]
    value += rows(m.y, m.trials, m.eta, a_, m.score, by_a)
    for k in range(further):
        s = m.scalar_of[k]
        if s >= 0 and m.by_log[k]:
            m.scalar[1, s] += by_a[k] / m.scalar[0, s]
        elif s >= 0:
            m.scalar[3, s] += by_a[k]
    for i in range(len(m.gx)):
        m.gx[i] = 0.0
    if each:
        common_gradient(m.X, m.score, m.gx)
    else:
        for i in range(len(m.xb)):
            m.xb[i] = 0.0
        for i in range(n):
            m.xb[m.pattern[i]] += m.score[i]
        common_gradient(m.X, m.xb, m.gx)
    for group in range(G):
        for a in range(m.size[group]):
            s = m.column_at[group] + a
            scatter(m.score, m.V[s], m.codes[group], m.size[group], m.gx[m.x_at[group] + a :])
    for group in range(G):
        K, at, A_at, s = m.size[group], m.x_at[group], m.A_at[group], m.column_at[group]
        stop, A_stop = at + K * m.levels[group], A_at + K * K * m.levels[group]
        A, C, epsilon, by_epsilon = m.A[A_at:A_stop], m.C[A_at:A_stop], q[head + at : head + stop], g[head + at :]
        r, z, u, gx = m.r[at:stop], m.z[at:stop], m.u[at:stop], m.gx[at:stop]
        if K == 1:
            Lam_bar[0, 0] = singles_gradient(Lam[group, 0, 0], A, epsilon, r, C, z, u, gx, by_epsilon)
        else:
            for e in range(K):
                for f in range(K):
                    Lam_bar[e, f] = 0.0
            if K == 2:
                pairs_gradient(Lam[group], A, epsilon, r, C, z, u, gx, by_epsilon, Lam_bar, M, W)
            else:
                levels_gradient(K, Lam[group], A, epsilon, r, C, z, u, gx, by_epsilon, Lam_bar, M, W)
        pass_on(m.pointers, m.columns, m.entries, m.r, m.gx, at, stop)
        correlation, sd = m.correlation_at[group], m.scalar[:, s : s + K]
        root_gradient(sd[0], q[correlation:], m.first[s : s + K], Lam_bar, sd[1], g[correlation:])
    for s in range(S):
        g[s] = m.scalar[1, s] * m.scalar[2, s] + m.scalar[3, s]
    for i in range(p):
        prior, by_beta = law_at(m.beta_laws[i], x[i])
        value += prior
        m.gx[i] += by_beta
    for i in range(p):
        total = 0.0
        for j in range(i + 1):
            total += m.root[i, j] * m.gx[j]
        g[head + i] = total
    return value


def inverse(m: Arrays, t: np.ndarray, x: np.ndarray, epsilon: np.ndarray, log_slope: np.ndarray) -> None:
    """The way back for draws t (D, head) and x (D, p + effects): epsilon, and log |dx / depsilon| of the effects."""
    p, G, S = len(m.X), len(m.size), len(m.kind)
    K_most = 1
    for group in range(G):
        K_most = max(K_most, m.size[group])
    Lam, M, sd = np.zeros((K_most, K_most)), np.zeros((K_most, K_most)), np.zeros(S)
    C, z, u = np.zeros((K_most, K_most)), np.zeros(K_most), np.zeros(K_most)
    for i in range(len(t)):
        for s in range(S):
            sd[s] = scalar_at(m.kind[s], t[i, s], m.scale[s], m.low[s], m.high[s])[0]
        log_slope[i] = 0.0
        for k in range(p):  # root' epsilon = beta - centre
            total = x[i, p - 1 - k] - m.centre[p - 1 - k]
            for j in range(p - k, p):
                total -= m.root[j, p - 1 - k] * epsilon[i, j]
            epsilon[i, p - 1 - k] = total / m.root[p - 1 - k, p - 1 - k]
        for group in range(G):
            K, at, A_at, first = m.size[group], m.x_at[group], m.A_at[group], m.column_at[group]
            correlations = t[i, m.correlation_at[group] :]
            covariance_root(sd[first : first + K], correlations, m.first[first : first + K], Lam)
            explain(m.d, m.pointers, m.columns, m.entries, x[i], m.r, at, at + K * m.levels[group])
            slope = 0.0
            for a in range(K):
                slope += math.log(abs(Lam[a, a]))
            log_slope[i] += slope * m.levels[group]
            for j in range(m.levels[group]):
                e, f = at + j * K, A_at + j * K * K
                invert_level(
                    K, Lam, m.A[f : f + K * K], m.r[e : e + K], x[i, e : e + K], epsilon[i, e : e + K], M, C, z, u
                )
                for a in range(K):
                    log_slope[i] -= math.log(C[a, a])


def invert_level(
    K: int, Lam: np.ndarray, A: np.ndarray, r: np.ndarray, b: np.ndarray, epsilon: np.ndarray, M: np.ndarray,
    C: np.ndarray, z: np.ndarray, u: np.ndarray,
) -> None:  # fmt: skip
    """epsilon = C'u - C^-1 Lambda'r of one level, u = Lambda^-1 b."""
    for i in range(K):
        total = b[i]
        for k in range(i):
            total -= Lam[i, k] * u[k]
        u[i] = total / Lam[i, i]
        for k in range(K):
            total = 0.0
            for e in range(k, K):
                total += A[i * K + e] * Lam[e, k]
            M[i, k] = total
    for i in range(K):
        for k in range(i + 1):
            total = 1.0 if i == k else 0.0
            for e in range(i, K):
                total += Lam[e, i] * M[e, k]
            for e in range(k):
                total -= C[i, e] * C[k, e]
            C[i, k] = math.sqrt(total) if i == k else total / C[k, k]
        total = 0.0
        for e in range(i, K):
            total += Lam[e, i] * r[e]
        for e in range(i):
            total -= C[i, e] * z[e]
        z[i] = total / C[i, i]
    for i in range(K):
        total = -z[i]
        for e in range(i, K):
            total += C[e, i] * u[e]
        epsilon[i] = total
