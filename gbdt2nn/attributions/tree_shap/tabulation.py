"""Cell tables, planned and filled: which subtrees to tabulate, and what their tables hold.

What a subtree adds to the attributions of a row depends only on how the row falls on the splits along the path to the
subtree and inside it. For each feature among them the codes fall into *cells*: the codes that fail the path's conditions
on the feature make one cell, the others are told apart by the outcomes of the subtree's splits. The joint cells of all
features, numbered in mixed radix, index a table with one row of attributions per joint cell. A row's joint cell is a sum
of steps: ``base + sum over steps of [code > last] * delta``; features split by category are looked up by code.

For a leaf with value v, the share w_i of the cover that the path's conditions on feature i let through, and b_i in {0, 1}
whether the row meets them, the attribution of feature i is (Lundberg et al. 2020; the weights of the subsets written as
an integral)

    phi_i = v (b_i - w_i) * integral from 0 to 1 of  prod over j != i of (q b_j + (1 - q) w_j)  dq

whose integrand is a polynomial of degree d - 1 for a path with d features: Gauss-Legendre with ceil(d / 2) nodes is
exact, and stable, since every factor is positive.

All that is compiled here stands in this file, since what numba keeps on disk belongs to one file.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gbdt2nn.compilation import compiled

MOST_FEATURES = 16  # of one table
MOST_REPRESENTATIVES = 4098  # of a feature in one table
MOST_NODES = 1024  # splits on the path to a subtree and in it
MOST_OUTCOMES = 62  # splits of one feature in one subtree: their outcomes are the bits of an int64
_FAILED = -1

BY_TABLE = 1
BY_QUADRATURE = 2

# Estimated nanoseconds; they only steer the choice, never the result.
COST_GROUP = 0.10  # per row and table
COST_STEP = 0.016  # per row and step
COST_LOOK_UP = 0.6  # per row and feature looked up by code
COST_WIDTH = np.array([0.0, 0.30, 0.40, 0.60, 0.75, 1.10, 1.15, 1.2, 1.3])  # per row, by features of a part
COST_STREAM = 0.08  # per byte of table and row block
COST_QUADRATURE = np.array([1.2, 0.48])  # per row and leaf: fixed, and per feature of its path
COST_FILL = 0.6  # per joint cell, leaf and part
COST_PATTERN = 1.2  # per leaf, bit pattern and feature
COST_TABLE = 300.0  # per table
COST_EDGE = 400.0  # per leaf that is walked


@numba.njit(nogil=True, error_model="numpy")
def _goes_left(u, code, last_left, missing_left, left_row, left_codes, missing):
    if left_row[u] >= 0:
        return left_codes[left_row[u] + code] != 0
    if code == missing:
        return missing_left[u] != 0
    return code <= last_left[u]


@numba.njit(nogil=True, error_model="numpy")
def _find(local, n_local, f):
    for j in range(n_local):
        if local[j] == f:
            return j
    return n_local


@numba.njit(nogil=True, error_model="numpy")
def _cells(
    v, most_cells,
    feature, last_left, missing_left, left_row, left_codes, parent, end, n_codes, missing_code, by_rows,
    local, code, cell, n_reps, n_cells, seen, nodes, sides, owner,
):  # fmt: skip
    """Find the cells of the subtree at v; returns (joint cells, features, steps, looked-up features), 0 if too many."""
    n_local = 0
    n_path = 0
    u = v
    while parent[u] >= 0:
        p = parent[u]
        j = _find(local, n_local, feature[p])
        if j == n_local:
            if n_local == MOST_FEATURES:
                return 0, 0, 0, 0
            local[j] = feature[p]
            n_local += 1
        nodes[n_path] = p
        sides[n_path] = u == p + 1
        owner[n_path] = j
        n_path += 1
        u = p
    n = n_path
    if n_path + (end[v] - v) // 2 > nodes.shape[0]:
        return 0, 0, 0, 0
    for u in range(v, end[v]):
        if feature[u] < 0:
            continue
        j = _find(local, n_local, feature[u])
        if j == n_local:
            if n_local == MOST_FEATURES:
                return 0, 0, 0, 0
            local[j] = feature[u]
            n_local += 1
        nodes[n] = u
        owner[n] = j
        n += 1
    joint = 1
    n_steps = 0
    n_looked_up = 0
    for j in range(n_local):
        f = local[j]
        # representatives: one code of each stretch of codes that no split tells apart
        if by_rows[f]:
            if n_codes[f] > MOST_REPRESENTATIVES:
                return 0, 0, 0, 0
            reps = n_codes[f]
            for c in range(reps):
                code[j, c] = c
            n_looked_up += 1
        else:
            code[j, 0] = 0
            reps = 1
            for i in range(n):
                if owner[i] != j:
                    continue
                start = last_left[nodes[i]] + 1
                at = reps
                while code[j, at - 1] > start:
                    at -= 1
                if code[j, at - 1] == start:
                    continue
                if reps == MOST_REPRESENTATIVES - 1:
                    return 0, 0, 0, 0
                for r in range(reps, at, -1):
                    code[j, r] = code[j, r - 1]
                code[j, at] = start
                reps += 1
            if missing_code[f] >= 0 and code[j, reps - 1] != missing_code[f]:
                code[j, reps] = missing_code[f]
                reps += 1
        n_reps[j] = reps
        cells = 0
        for r in range(reps):
            c = code[j, r]
            outcomes = np.int64(0)
            bit = 0
            for i in range(n):
                if owner[i] != j:
                    continue
                goes = _goes_left(nodes[i], c, last_left, missing_left, left_row, left_codes, missing_code[f])
                if i < n_path:
                    if goes != sides[i]:
                        outcomes = np.int64(_FAILED)
                        break
                else:
                    if bit == MOST_OUTCOMES:
                        return 0, 0, 0, 0
                    if goes:
                        outcomes |= np.int64(1) << bit
                    bit += 1
            found = cells
            for q in range(cells):
                if seen[q] == outcomes:
                    found = q
                    break
            if found == cells:
                seen[cells] = outcomes
                cells += 1
            cell[j, r] = found
            if r > 0 and not by_rows[f] and found != cell[j, r - 1]:
                n_steps += 1
        n_cells[j] = cells
        joint *= cells
        if joint > most_cells:
            return 0, 0, 0, 0
    return joint, n_local, n_steps, n_looked_up


_FOREST = {
    "feature": "int32[::1]", "last_left": "int32[::1]", "missing_left": "uint8[::1]", "left_row": "int64[::1]",
    "left_codes": "uint8[::1]", "right": "int32[::1]", "parent": "int32[::1]", "end": "int32[::1]",
    "n_codes": "int32[::1]", "missing_code": "int32[::1]", "by_rows": "uint8[::1]", "tree_start": "int64[::1]",
    "ratio": "float64[::1]", "value": "float64[::1]",
}  # fmt: skip


def _of_forest(*names: str) -> tuple[str, ...]:
    return tuple(_FOREST[name] for name in names)


@compiled(
    [
        (
            "int64",
            *_of_forest(
                "feature", "last_left", "missing_left", "left_row", "left_codes", "right", "parent", "end", "n_codes",
                "missing_code", "by_rows",
            ),
            *["out int32[::1]"] * 6, "out float64[::1]",
        )
    ]
)  # fmt: skip
def measure(
    most_cells,
    feature, last_left, missing_left, left_row, left_codes, right, parent, end, n_codes, missing_code, by_rows,
    joint, width, steps, looked_up, n_leaves, n_path, patterns,
):  # fmt: skip
    """Find what a table of each subtree would be.

    Fills, for every node, the joint cells of its subtree (0 where they are too many, or its features), their features,
    steps and looked-up features; leaves below; features of the path (at leaves); and a measure of the bit patterns of
    the leaves below.
    """
    n_nodes = feature.shape[0]
    local = np.empty(MOST_FEATURES, dtype=np.int64)
    code = np.empty((MOST_FEATURES, MOST_REPRESENTATIVES), dtype=np.int32)
    cell = np.empty((MOST_FEATURES, MOST_REPRESENTATIVES), dtype=np.int32)
    n_reps = np.empty(MOST_FEATURES, dtype=np.int64)
    n_cells = np.empty(MOST_FEATURES, dtype=np.int64)
    seen = np.empty(MOST_REPRESENTATIVES, dtype=np.int64)
    nodes = np.empty(MOST_NODES, dtype=np.int64)
    sides = np.empty(MOST_NODES, dtype=np.bool_)
    owner = np.empty(MOST_NODES, dtype=np.int64)
    depth = np.zeros(n_nodes, dtype=np.int64)
    for v in range(n_nodes):
        if parent[v] >= 0:
            depth[v] = depth[parent[v]] + 1
    for v in range(n_nodes - 1, -1, -1):
        fits = depth[v] < MOST_NODES
        if feature[v] < 0:
            if parent[v] < 0:
                continue  # a tree of one leaf adds to the base value alone
            n_leaves[v] = 1
            n = 0
            u = v
            while parent[u] >= 0:
                u = parent[u]
                if n < MOST_NODES and _find(nodes, n, feature[u]) == n:
                    nodes[n] = feature[u]
                    n += 1
            n_path[v] = n
        else:
            n_leaves[v] = n_leaves[v + 1] + n_leaves[right[v]]
            patterns[v] = patterns[v + 1] + patterns[right[v]]
            fits = fits and joint[v + 1] > 0 and joint[right[v]] > 0
        if not fits:
            continue
        c, nf, ns, nl = _cells(
            v, most_cells,
            feature, last_left, missing_left, left_row, left_codes, parent, end, n_codes, missing_code, by_rows,
            local, code, cell, n_reps, n_cells, seen, nodes, sides, owner,
        )  # fmt: skip
        joint[v] = c
        width[v] = nf
        steps[v] = ns
        looked_up[v] = nl
        if feature[v] < 0 and c > 0:
            patterns[v] = float(nf * (1 << nf))


@compiled(
    [
        (
            "int64", "int64", "float64", "float64",
            *_of_forest("feature", "right", "parent", "end", "tree_start"),
            *["int32[::1]"] * 6, "float64[::1]", "out uint8[::1]",
        )
    ]
)  # fmt: skip
def choose(
    n_rows, block, quadrature_price, byte_price, feature, right, parent, end, tree_start,
    joint, width, steps, looked_up, n_leaves, n_path, patterns, choice,
):  # fmt: skip
    """Cut every tree into subtrees that are tabulated and leaves that are not, at the least estimated cost.

    Fills choice: BY_TABLE at the root of a tabulated subtree, BY_QUADRATURE at a leaf that is left over, 0 elsewhere.
    The prices are a factor of the cost of quadrature, and nanoseconds for every byte of table.
    """
    n_nodes = feature.shape[0]
    best = np.zeros(n_nodes)
    own = np.zeros(n_nodes, dtype=np.bool_)
    for v in range(n_nodes - 1, -1, -1):
        if feature[v] < 0:
            if parent[v] < 0:
                continue
            walk = n_rows * (COST_QUADRATURE[0] + COST_QUADRATURE[1] * n_path[v])
            best[v] = quadrature_price * (walk + COST_EDGE)
        else:
            best[v] = best[v + 1] + best[right[v]]
        if joint[v] == 0:
            continue
        nf = width[v]
        read = COST_GROUP + COST_STEP * steps[v] + COST_LOOK_UP * looked_up[v]
        left = nf
        while left > 0:
            read += COST_WIDTH[min(left, 8)]
            left -= 8
        n_bytes = 8.0 * joint[v] * nf
        build = COST_FILL * joint[v] * n_leaves[v] * ((nf + 7) // 8) + COST_PATTERN * patterns[v] + COST_TABLE
        cost = n_rows * (read + COST_STREAM * n_bytes / block) + build + byte_price * n_bytes
        if cost < best[v]:
            best[v] = cost
            own[v] = True
    for tree in range(tree_start.shape[0] - 1):
        v = tree_start[tree]
        while v < tree_start[tree + 1]:
            if own[v]:
                choice[v] = BY_TABLE
                v = end[v]
            else:
                choice[v] = BY_QUADRATURE if feature[v] < 0 and parent[v] >= 0 else 0
                v += 1


def _adder(width):
    """Make ``add(to, rows, index, n)``: to[i] += rows[index[i]] for n rows of some doubles each."""

    @intrinsic
    def add(typing, to, rows, index, n):
        def generate(context, builder, signature, arguments):
            row = ir.VectorType(ir.DoubleType(), width)
            target, source, place, count = arguments
            index_pointer = builder.inttoptr(place, ir.IntType(32).as_pointer())
            target_pointer = builder.inttoptr(target, row.as_pointer())
            source_pointer = builder.inttoptr(source, row.as_pointer())
            with cgutils.for_range(builder, count) as loop:
                at = builder.load(builder.gep(index_pointer, [loop.index]))
                here = builder.gep(target_pointer, [loop.index])
                there = builder.gep(source_pointer, [builder.zext(at, ir.IntType(64))])
                old = builder.load(here)
                old.align = 8
                more = builder.load(there)
                more.align = 8
                builder.store(builder.fadd(old, more), here).align = 8
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), generate

    return add


_add_1, _add_2, _add_4, _add_8 = (_adder(width) for width in (1, 2, 4, 8))


@numba.njit(nogil=True, error_model="numpy")
def _part_width(n_left):
    """Doubles per joint cell of the next part of a table with so many features left."""
    if n_left >= 5:
        return 8
    if n_left >= 3:
        return 4
    return n_left


def width_of(n_features: int) -> int:
    """Doubles per joint cell of a table of so many features."""
    whole, left = divmod(n_features, 8)
    return 8 * whole + (8 if left >= 5 else 4 if left >= 3 else left)


@compiled(
    [
        (
            "int64", "int64", "int64[::1]", "int64[::1]", "out float64[::1]", "int64[::1]",
            "out int64[::1]", "int64[::1]", "out int64[::1]", "out int64[::1]", "out int64[::1]", "out int64[::1]",
            "int64[::1]", "out int64[::1]", "int64[::1]", "int64[::1]", "out uint16[::1]",
            "float64[:, ::1]", "float64[:, ::1]",
            *_of_forest(
                "feature", "last_left", "missing_left", "left_row", "left_codes", "parent", "end", "n_codes",
                "missing_code", "by_rows", "ratio", "value",
            ),
        )
    ]
)  # fmt: skip
def fill(
    first, last, roots, joint, tables, table_start,
    column, column_start, base, step_column, step_last, step_delta, step_start,
    look_up_column, look_up_row, look_up_start, look_up,
    node_x, node_weight,
    feature, last_left, missing_left, left_row, left_codes, parent, end, n_codes, missing_code, by_rows, ratio, value,
):  # fmt: skip
    """Fill the tables of the subtrees first, ..., last - 1 and the steps that lead to their rows.

    The offsets (``*_start``) are given; ``look_up_row`` too: where the looked-up codes of a feature begin in look_up.
    """
    local = np.empty(MOST_FEATURES, dtype=np.int64)
    code = np.empty((MOST_FEATURES, MOST_REPRESENTATIVES), dtype=np.int32)
    cell = np.empty((MOST_FEATURES, MOST_REPRESENTATIVES), dtype=np.int32)
    n_reps = np.empty(MOST_FEATURES, dtype=np.int64)
    n_cells = np.empty(MOST_FEATURES, dtype=np.int64)
    seen = np.empty(MOST_REPRESENTATIVES, dtype=np.int64)
    nodes = np.empty(MOST_NODES, dtype=np.int64)
    sides = np.empty(MOST_NODES, dtype=np.bool_)
    owner = np.empty(MOST_NODES, dtype=np.int64)
    slot = np.empty(MOST_FEATURES, dtype=np.int64)
    share = np.empty(MOST_FEATURES)
    mask = np.zeros((MOST_FEATURES, MOST_REPRESENTATIVES), dtype=np.int32)
    most_joint = 1
    most_patterns = 1
    for g in range(first, last):
        most_joint = max(most_joint, joint[g])
        most_patterns = max(most_patterns, 1 << (column_start[g + 1] - column_start[g]))
    index = np.empty(most_joint, dtype=np.int32)
    weight = np.empty((8, most_patterns))
    zero = np.empty(most_patterns)
    one = np.empty(most_patterns)
    leaf_rows = np.empty(most_patterns * MOST_FEATURES + 8)
    for g in range(first, last):
        v = roots[g]
        c, nf, _, _ = _cells(
            v, joint[g],
            feature, last_left, missing_left, left_row, left_codes, parent, end, n_codes, missing_code, by_rows,
            local, code, cell, n_reps, n_cells, seen, nodes, sides, owner,
        )  # fmt: skip
        # ---- how codes lead to a row of the table
        stride = 1
        begin = 0
        s = step_start[g]
        t = look_up_start[g]
        for j in range(nf):
            f = local[j]
            column[column_start[g] + j] = f
            if by_rows[f]:
                look_up_column[t] = f
                for r in range(n_reps[j]):
                    look_up[look_up_row[t] + r] = cell[j, r] * stride
                t += 1
            else:
                begin += cell[j, 0] * stride
                for r in range(1, n_reps[j]):
                    if cell[j, r] != cell[j, r - 1]:
                        step_column[s] = f
                        step_last[s] = code[j, r] - 1
                        step_delta[s] = (cell[j, r] - cell[j, r - 1]) * stride
                        s += 1
            stride *= n_cells[j]
        base[g] = begin
        # ---- the rows
        start = table_start[g]
        tables[start : table_start[g + 1]] = 0.0
        for leaf in range(v, end[v]):
            if feature[leaf] >= 0:
                continue
            d = 0
            u = leaf
            for j in range(nf):
                slot[j] = -1
            while parent[u] >= 0:
                p = parent[u]
                j = _find(local, nf, feature[p])
                is_left = u == p + 1
                if slot[j] < 0:
                    slot[j] = d
                    share[d] = 1.0
                    for r in range(n_cells[j]):
                        mask[j, r] = 1 << d
                    d += 1
                share[slot[j]] *= ratio[u]
                for r in range(n_reps[j]):
                    if mask[j, cell[j, r]] and (
                        _goes_left(p, code[j, r], last_left, missing_left, left_row, left_codes, missing_code[local[j]])
                        != is_left
                    ):
                        mask[j, cell[j, r]] = 0
                u = p
            n_patterns = 1 << d
            # index: the leaf's bit pattern of each joint cell
            index[0] = 0
            filled = 1
            for j in range(nf):
                for r in range(n_cells[j] - 1, -1, -1):
                    bits = mask[j, r] if slot[j] >= 0 else 0
                    at = r * filled
                    for i in range(filled):
                        index[at + i] = index[i] | bits
                filled *= n_cells[j]
            # weight[k, pattern]: the product over features at node k
            m = (d + 1) // 2
            for k in range(m):
                x = node_x[m, k]
                weight[k, 0] = value[leaf] * node_weight[m, k]
                for j in range(d):
                    fails = (1.0 - x) * share[j]
                    meets = x + fails
                    for b in range(1 << j):
                        weight[k, b + (1 << j)] = weight[k, b] * meets
                        weight[k, b] *= fails
            for b in range(n_patterns):
                zero[b] = 0.0
            for k in range(m):
                factor = -1.0 / (1.0 - node_x[m, k])
                for b in range(n_patterns):
                    zero[b] += weight[k, b] * factor
            part_start = start
            done = 0
            while done < nf:
                w = _part_width(nf - done)
                for b in range(n_patterns * w):
                    leaf_rows[b] = 0.0
                for j in range(done, min(nf, done + w)):
                    if slot[j] < 0:
                        continue
                    bit = slot[j]
                    for b in range(n_patterns):
                        one[b] = 0.0
                    for k in range(m):
                        x = node_x[m, k]
                        factor = (1.0 - share[bit]) / (x + (1.0 - x) * share[bit])
                        for b in range(n_patterns):
                            one[b] += weight[k, b] * factor
                    for b in range(n_patterns):
                        leaf_rows[b * w + j - done] = one[b] if b & (1 << bit) else zero[b]
                to = tables.ctypes.data + 8 * part_start
                if w == 8:
                    _add_8(to, leaf_rows.ctypes.data, index.ctypes.data, c)
                elif w == 4:
                    _add_4(to, leaf_rows.ctypes.data, index.ctypes.data, c)
                elif w == 2:
                    _add_2(to, leaf_rows.ctypes.data, index.ctypes.data, c)
                else:
                    _add_1(to, leaf_rows.ctypes.data, index.ctypes.data, c)
                part_start += c * w
                done += w
    return index[0] + leaf_rows[0]  # keeps what the adders read alive to the end
