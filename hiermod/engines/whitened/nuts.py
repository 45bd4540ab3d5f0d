"""One chain of the No-U-Turn sampler, for numba (compiled.py); ``density`` is a pointer to log_density.py's.

Multinomial sampling of the trajectory (Betancourt 2017, arXiv 1701.02434), the tree built without recursion: every
second leaf closes the subtrees whose first leaves were kept (Phan, Pradhan and Jankowiak 2019, arXiv 1912.11554).  Step
size by dual averaging (Hoffman and Gelman 2014, J. Mach. Learn. Res. 15, section 3.2).  The metric is that of a linear
map: q = centre + root z in its first coordinates, q_i = spread_i z_i in the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hiermod.engines.whitened.arrays import Arrays

DIVERGENT = 1000.0  # error of the energy from which a trajectory is given up
LP, ACCEPT, STEPS, DIVERGED, ENERGY, DEPTH = range(6)  # columns of the statistics of each draw


def position(z: np.ndarray, q: np.ndarray, centre: np.ndarray, root: np.ndarray, spread: np.ndarray) -> None:
    """q from z."""
    head = len(centre)
    for i in range(head):
        total = centre[i]
        for j in range(i + 1):
            total += root[i, j] * z[j]
        q[i] = total
    for i in range(head, len(z)):
        q[i] = spread[i - head] * z[i]


def target(
    density: Any, rows: Any, m: Arrays, z: np.ndarray, gz: np.ndarray, q: np.ndarray, g: np.ndarray, x: np.ndarray,
    centre: np.ndarray, root: np.ndarray, spread: np.ndarray,
) -> float:  # fmt: skip
    """The log density as a function of z; its gradient is written to gz."""
    position(z, q, centre, root, spread)
    value = density(rows, m, q, g, x)
    head = len(centre)
    for j in range(head):
        gz[j] = 0.0
    for i in range(head):
        for j in range(i + 1):
            gz[j] += root[i, j] * g[i]
    for i in range(head, len(z)):
        gz[i] = spread[i - head] * g[i]
    return value


def log_sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a == -math.inf:
        return b
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def turns(left: np.ndarray, right: np.ndarray, total: np.ndarray) -> bool:
    """Whether a trajectory with these momenta at its ends, and this sum of all, has begun to turn back."""
    a, b = 0.0, 0.0
    for i in range(len(total)):
        along = total[i] - 0.5 * (left[i] + right[i])
        a += along * left[i]
        b += along * right[i]
    return a <= 0.0 or b <= 0.0


def bits(number: int) -> int:
    """How many bits are set."""
    count = 0
    while number > 0:
        count += number & 1
        number >>= 1
    return count


def chain(
    density: Any, rows: Any, m: Arrays, z: np.ndarray, centre: np.ndarray, root: np.ndarray, spread: np.ndarray,
    step: float, adapting: int, wanted: float, deepest: int, rng: Any, every: int, stop: np.ndarray,
    heads: np.ndarray, effects: np.ndarray, stats: np.ndarray, g: np.ndarray, x: np.ndarray,
) -> float:  # fmt: skip
    """Moves z on; one row of ``heads`` (the first of q), ``effects`` (x) and ``stats`` for each ``every`` iterations.

    adapting: 1 to adapt the step size for the acceptance ``wanted``.  stop[0] != 0 ends it early.  Returns the step
    size.  With no rows only the density at z: in stats[0, 0], its gradient with respect to q in g, x."""
    n, iterations = len(z), len(heads) * every
    q, gz = np.empty(n), np.empty(n)
    lp = target(density, rows, m, z, gz, q, g, x, centre, root, spread)
    if iterations == 0:
        stats[0, LP] = lp
        return step
    current_x = x.copy()
    K = deepest + 2
    kept_p, kept_sum = np.empty((K, n)), np.empty((K, n))
    z_left, z_right, p_left, p_right = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    g_left, g_right, total_p, sub_p = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    zc, pc, gc = np.empty(n), np.empty(n), np.empty(n)
    z_sub, g_sub, x_sub = np.empty(n), np.empty(n), np.empty(len(x))
    z_new, g_new, x_new = np.empty(n), np.empty(n), np.empty(len(x))
    shrink_to, error_mean, log_average, adapted = math.log(10.0 * step), 0.0, 0.0, 0
    accept_sum, steps_sum, diverged_any = 0.0, 0.0, 0.0
    for iteration in range(iterations):
        if stop[0] != 0:
            break
        kinetic = 0.0
        for i in range(n):
            v = rng.standard_normal()
            p_left[i] = p_right[i] = total_p[i] = v
            kinetic += v * v
            z_left[i] = z_right[i] = z_new[i] = z[i]
            g_left[i] = g_right[i] = g_new[i] = gz[i]
        for i in range(len(x)):
            x_new[i] = current_x[i]
        energy = 0.5 * kinetic - lp
        lp_new, log_weight, accept, leaves, diverged, depth = lp, 0.0, 0.0, 0, False, 0
        while depth < deepest:
            forward = rng.random() < 0.5
            e = step if forward else -step
            for i in range(n):
                zc[i] = z_right[i] if forward else z_left[i]
                pc[i] = p_right[i] if forward else p_left[i]
                gc[i] = g_right[i] if forward else g_left[i]
                sub_p[i] = 0.0
            log_sub, lp_sub, turned = -math.inf, 0.0, False
            for leaf in range(1 << depth):
                for i in range(n):
                    pc[i] += 0.5 * e * gc[i]
                    zc[i] += e * pc[i]
                lp_leaf = target(density, rows, m, zc, gc, q, g, x, centre, root, spread)
                kinetic = 0.0
                for i in range(n):
                    pc[i] += 0.5 * e * gc[i]
                    kinetic += pc[i] * pc[i]
                    sub_p[i] += pc[i]
                leaves += 1
                gain = energy - 0.5 * kinetic + lp_leaf
                if not gain > -DIVERGENT:  # nan too
                    diverged = True
                    break
                accept += min(1.0, math.exp(min(gain, 0.0)))
                log_sub = log_sum(log_sub, gain)
                if rng.random() < math.exp(gain - log_sub):
                    lp_sub = lp_leaf
                    for i in range(n):
                        z_sub[i], g_sub[i] = zc[i], gc[i]
                    for i in range(len(x)):
                        x_sub[i] = x[i]
                place = bits(leaf >> 1)
                if leaf % 2 == 0:
                    place = bits(leaf)
                    for i in range(n):
                        kept_p[place, i], kept_sum[place, i] = pc[i], sub_p[i]
                else:
                    closed = 0
                    while (leaf >> closed) & 1:
                        closed += 1
                    for one in range(closed):
                        where = place - one
                        a, b = 0.0, 0.0
                        for i in range(n):
                            first = kept_p[where, i]
                            along = sub_p[i] - kept_sum[where, i] + 0.5 * (first - pc[i])
                            a += along * first
                            b += along * pc[i]
                        if a <= 0.0 or b <= 0.0:
                            turned = True
                            break
                    if turned:
                        break
            if diverged or turned:
                break
            for i in range(n):
                if forward:
                    z_right[i], p_right[i], g_right[i] = zc[i], pc[i], gc[i]
                else:
                    z_left[i], p_left[i], g_left[i] = zc[i], pc[i], gc[i]
            if rng.random() < math.exp(min(0.0, log_sub - log_weight)):  # biased towards the new half
                lp_new = lp_sub
                for i in range(n):
                    z_new[i], g_new[i] = z_sub[i], g_sub[i]
                for i in range(len(x)):
                    x_new[i] = x_sub[i]
            log_weight = log_sum(log_weight, log_sub)
            for i in range(n):
                total_p[i] += sub_p[i]
            depth += 1
            if turns(p_left, p_right, total_p):
                break
        lp = lp_new
        for i in range(n):
            z[i], gz[i] = z_new[i], g_new[i]
        for i in range(len(x)):
            current_x[i] = x_new[i]
        rate = accept / leaves
        if adapting:
            adapted += 1
            share = 1.0 / (adapted + 10.0)
            error_mean = (1.0 - share) * error_mean + share * (wanted - rate)
            log_step = shrink_to - math.sqrt(adapted) / 0.05 * error_mean
            weight = adapted**-0.75
            log_average = weight * log_step + (1.0 - weight) * log_average
            step = math.exp(log_step)
        accept_sum += rate
        steps_sum += leaves
        diverged_any += diverged
        if (iteration + 1) % every == 0:
            row = iteration // every
            position(z, q, centre, root, spread)
            for i in range(heads.shape[1]):
                heads[row, i] = q[i]
            for i in range(len(x)):
                effects[row, i] = current_x[i]
            stats[row, LP], stats[row, ACCEPT], stats[row, STEPS] = lp, accept_sum / every, steps_sum
            stats[row, DIVERGED], stats[row, ENERGY], stats[row, DEPTH] = diverged_any, energy, depth
            accept_sum, steps_sum, diverged_any = 0.0, 0.0, 0.0
    return math.exp(log_average) if adapting else step
