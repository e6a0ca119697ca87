"""The order in which faces are driven: an asymmetric travelling-salesman problem, solved exactly where that takes no longer
than a moment.

Every face is one city with an entry and an exit, because heads look to one side and a face is driven in one direction only.
The integer program (Dantzig, Fulkerson, Johnson 1954: degree constraints, and subtour cuts as they are violated) is solved
with HiGHS, which also says how far from the best a tour can be at most.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float64]
#: A tour is good enough within this share of the best: a map's ways are not known better.
GAP = 0.002
FORBIDDEN = 1e9
KICKS = 40


@dataclass(frozen=True)
class Tour:
    """``order``: cities without the start, city 0. ``cost``: of the closed tour; ``bound``: none can cost less."""

    order: tuple[int, ...]
    cost: float
    bound: float


def tour_cost(costs: Costs, order: Sequence[int]) -> float:
    """Of the closed tour from city 0 through the others in this order."""
    way = [0, *order, 0]
    return float(sum(costs[a, b] for a, b in pairwise(way)))


def best_tour(costs: Costs, first: Sequence[int] = (), seconds: float = 10.0) -> Tour:
    """The cheapest closed tour from city 0 through all others; ``first``: cities that come before all others.

    ``costs``: (N, N), from row to column, not negative; the diagonal is not used. After ``seconds`` of searching the best
    tour so far is taken. The same input gives the same tour, unless the time runs out.
    """
    n = len(costs)
    if n <= 2:
        order = tuple(range(1, n))
        cost = tour_cost(costs, order)
        return Tour(order, cost, cost)
    allowed = ~np.eye(n, dtype=bool)
    early = set(first) - {0}
    late = set(range(1, n)) - early
    if early and late:
        # From the start to the early ones, from an early one to the late ones once, and home from a late one.
        allowed[0, sorted(late)] = False
        allowed[np.ix_(sorted(late), sorted(early))] = False
        allowed[sorted(early), 0] = False
    priced = np.where(allowed, costs, FORBIDDEN)
    found, circles, bound = _exact(costs, allowed, seconds)
    if found is None:
        begun = [_greedy(priced)] + ([_patched(priced, circles)] if circles else [])
        found = min((_searched(priced, o, KICKS) for o in begun), key=lambda o: tour_cost(priced, o))
    cost = tour_cost(costs, found)
    return Tour(found, cost, min(bound, cost))


def _exact(costs: Costs, allowed: NDArray[np.bool_], seconds: float) -> tuple[tuple[int, ...] | None, list[list[int]], float]:
    """(the best tour or None when the time ran out, the closed tours that the last relaxation was made of, a bound)."""
    # Here, not above: every command would wait half a second for them.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_matrix

    n = len(costs)
    rows, cols = np.nonzero(allowed)
    m = len(rows)
    value = costs[rows, cols]
    one = np.ones(m)
    degree = coo_matrix((np.r_[one, one], (np.r_[rows, n + cols], np.r_[np.arange(m), np.arange(m)])), shape=(2 * n, m)).tocsr()
    limits = [LinearConstraint(degree, 1, 1)]
    cut_rows: list[NDArray[np.float64]] = []
    circles: list[list[int]] = []
    bound = 0.0
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0.05:
        extra = [LinearConstraint(np.array(cut_rows), 1, np.inf)] if cut_rows else []
        options = {"time_limit": left, "mip_rel_gap": GAP}
        answer = milp(value, constraints=[*limits, *extra], integrality=one, bounds=Bounds(0, 1), options=options)
        if answer.mip_dual_bound is not None and np.isfinite(answer.mip_dual_bound):
            bound = max(bound, float(answer.mip_dual_bound))
        if answer.x is None or answer.status != 0:
            return None, circles, bound
        taken = answer.x > 0.5
        circles = _circles(dict(zip(rows[taken].tolist(), cols[taken].tolist(), strict=True)))
        if len(circles) == 1:
            return tuple(circles[0][1:]), circles, bound
        for circle in circles:
            inside = np.zeros(n, dtype=bool)
            inside[circle] = True
            cut_rows.append((inside[rows] & ~inside[cols]).astype(np.float64))
    return None, circles, bound


def _circles(after: dict[int, int]) -> list[list[int]]:
    """The closed tours that a solution is made of; the one with city 0 begins with it."""
    left, out = set(after), []
    while left:
        city = min(left)
        circle = []
        while city in left:
            left.discard(city)
            circle.append(city)
            city = after[city]
        out.append(circle)
    return out


def _patched(priced: Costs, circles: list[list[int]]) -> tuple[int, ...]:
    """One tour of many closed ones: the two that join at the least cost are joined until one is left (Karp 1979)."""
    left = [list(c) for c in circles]
    while len(left) > 1:
        best = None
        for x in range(len(left)):
            for y in range(x + 1, len(left)):
                a, b = np.array(left[x]), np.array(left[y])
                after_a, after_b = np.roll(a, -1), np.roll(b, -1)
                more = priced[np.ix_(a, after_b)] + priced[np.ix_(b, after_a)].T
                more = more - priced[a, after_a][:, None] - priced[b, after_b][None, :]
                at = int(np.argmin(more))
                if best is None or more.flat[at] < best[0]:
                    best = (float(more.flat[at]), x, y, at // len(b), at % len(b))
        assert best is not None
        _, x, y, i, j = best
        a_, b_ = left[x], left.pop(y)
        left[x] = a_[: i + 1] + b_[j + 1 :] + b_[: j + 1] + a_[i + 1 :]
    start = left[0].index(0)
    return tuple(left[0][start + 1 :] + left[0][:start])


def _greedy(priced: Costs) -> tuple[int, ...]:
    """Always on to the nearest that may come next."""
    at, left, order = 0, set(range(1, len(priced))), []
    while left:
        # A city that no other left one may come before goes first: early ones cannot be entered from late ones.
        at = min(left, key=lambda c: (priced[at, c] + sum(priced[o, c] >= FORBIDDEN for o in left if o != c) * FORBIDDEN, c))
        left.discard(at)
        order.append(at)
    return tuple(order)


def _searched(priced: Costs, order: tuple[int, ...], kicks: int, seed: int = 0) -> tuple[int, ...]:
    """Descent by 3-opt moves that turn nothing round, again from where random ones of them have led (Martin, Otto, Felten)."""
    rng = np.random.default_rng(seed)
    best = now = _improved(priced, order)
    for _ in range(kicks if len(order) > 4 else 0):
        i, j, k, m = sorted(rng.choice(len(now) + 1, 4, replace=False).tolist())
        now = _improved(priced, now[:i] + now[k:m] + now[j:k] + now[i:j] + now[m:])
        if tour_cost(priced, now) < tour_cost(priced, best) - 1e-9:
            best = now
        else:
            now = best
    return best


def _improved(priced: Costs, order: tuple[int, ...]) -> tuple[int, ...]:
    """Two neighbouring stretches change places while that makes the tour cheaper; the best such move first."""
    p = np.array([0, *order, 0])
    n = len(p) - 1
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    while True:
        step = priced[p[:-1], p[1:]]
        best, move = -1e-9, None
        for i in range(n - 2):
            # Stretches i+1..j and j+1..k for all j < k.
            more = priced[p[i], p[1:]][:, None] + priced[p[:-1], p[i + 1]][None, :] + priced[np.ix_(p[:-1], p[1:])]
            more = np.where(upper, more - step[i] - step[:, None] - step[None, :], 0.0)[i + 1 :, i + 1 :]
            at = int(np.argmin(more))
            if more.flat[at] < best:
                best = float(more.flat[at])
                move = (i, i + 1 + at // more.shape[1], i + 1 + at % more.shape[1])
        if move is None:
            return tuple(p[1:-1].tolist())
        i, j, k = move
        p = np.concatenate([p[: i + 1], p[j + 1 : k + 1], p[i + 1 : j + 1], p[k + 1 :]])


def long_search(costs: Costs, seed: int = 0) -> float:
    """The cost of the best tour that an unhurried search from another family finds; for measuring `best_tour`."""
    import networkx as nx

    n = len(costs)
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((i, j, float(costs[i, j])) for i in range(n) for j in range(n) if i != j)
    best = np.inf
    for k in range(20):
        cycle = nx.approximation.simulated_annealing_tsp(
            graph, "greedy", source=0, seed=seed + k, max_iterations=50, N_inner=200
        )
        best = min(best, tour_cost(costs, _searched(costs, tuple(cycle[1:-1]), 4 * KICKS, seed + k)))
    return float(best)
