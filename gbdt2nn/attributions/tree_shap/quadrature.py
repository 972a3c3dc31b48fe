"""TreeSHAP by quadrature, for the leaves that no table holds: deep ones, and all of them where rows are few.

The integral of a leaf (see `tabulation`) is a sum over nodes x_k of products along the leaf's path, so a depth-first
walk that keeps one running product per node serves all leaves of a tree. Sixteen rows walk together, one per vector
lane: whether a row meets the conditions on a feature is a bit of a mask, and nothing branches on a row.

With w the share of the cover that all conditions on the feature so far let through, v that of the conditions before this
edge, and x a node, an edge multiplies the running product by

    (x + (1 - x) w) / (x + (1 - x) v)    where the row meets the conditions, these included
    (1 - x) w / (x + (1 - x) v)          where it fails first at this edge
    w / v                                where it failed before

(v absent at the first edge on a feature: the denominator is 1), and on the way back the sum H of the products of the
leaves below, weighted by their values, credits the feature with H times

    (1 - w) / (x + (1 - x) w) - (1 - v) / (x + (1 - x) v)      or      -1 / (1 - x) - (1 - v) / (x + (1 - x) v)

or nothing, in the same three cases. Quadrature instead of polynomials or sums over subsets is due to Quadrature-TreeSHAP
(arXiv 2605.04497); rows in lanes, a number of nodes certified for each tree, and the split of work with tables are ours.

All that is compiled here stands in this file, since what numba keeps on disk belongs to one file.
"""

from math import comb
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gbdt2nn.compilation import Kernel, compiled

LANES = 16
TOLERANCE = 1e-12  # of a leaf's value: what the quadrature of a leaf may be off at most
MOST_CERTIFIED = 48  # features of a path up to which the error is bounded by the leaf's own shares

_I1, _I16, _I32, _I64 = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64)


def nodes_and_weights(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]: row m holds those of m nodes."""
    x, weight = np.full((most + 1, most), 0.5), np.zeros((most + 1, most))
    for m in range(1, most + 1):
        node, mass = np.polynomial.legendre.leggauss(m)
        x[m, :m], weight[m, :m] = (node + 1) / 2, mass / 2
    return x, weight


def basis_errors(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Errors of m nodes on the integrals of ``q**a * (1 - q)**c`` over [0, 1]: entry [m, a, c]."""
    degree = np.arange(MOST_CERTIFIED)
    total = degree[:, None] + degree
    exact = 1.0 / ((total + 1) * np.vectorize(comb, otypes=[float])(total, degree))
    errors = np.zeros((len(x), MOST_CERTIFIED, MOST_CERTIFIED))
    for m in range(1, len(x)):
        met, failed = x[m, :m, None] ** degree, (1 - x[m, :m, None]) ** degree  # (m, degrees)
        errors[m] = np.where(total < 2 * m, 0.0, np.abs((weight[m, :m, None] * met).T @ failed - exact))
    return errors


def _address(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Address of the data of the i-th argument, an array."""
    return builder.ptrtoint(context.make_array(signature.args[i])(context, builder, arguments[i]).data, _I64)


def _splat(builder: Any, scalar: Any) -> Any:
    """Repeat a scalar over all lanes."""
    none = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(none, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _bits(builder: Any, mask: Any) -> Any:
    return builder.bitcast(builder.trunc(mask, _I16), ir.VectorType(_I1, LANES))


def _load(builder: Any, address: Any, kind: Any, index: Any, align: int) -> Any:
    value = builder.load(builder.gep(builder.inttoptr(address, kind.as_pointer()), [index]))
    value.align = align
    return value


def _store(builder: Any, value: Any, address: Any, index: Any, align: int) -> None:
    builder.store(value, builder.gep(builder.inttoptr(address, value.type.as_pointer()), [index])).align = align


@intrinsic
def _goes_left(typing, codes, at, last, missing, missing_left):
    """Bits of the sixteen codes from this entry on that go left: up to `last`, and `missing` if missing_left."""
    bits = codes.dtype.bitwidth
    number = ir.IntType(bits)

    def generate(context, builder, signature, arguments):
        begin = _address(context, builder, signature, arguments, 0)
        _, at, last, missing, missing_left = arguments
        place = builder.add(begin, builder.mul(at, ir.Constant(_I64, bits // 8)))
        code = _load(builder, place, ir.VectorType(number, LANES), ir.Constant(_I64, 0), bits // 8)
        left = builder.icmp_unsigned("<=", code, _splat(builder, builder.trunc(last, number)))
        is_missing = builder.icmp_unsigned("==", code, _splat(builder, builder.trunc(missing, number)))
        # a feature without a missing code has -1, whose low bits are those of a code
        has_missing = builder.icmp_signed(">=", missing, ir.Constant(_I64, 0))
        is_missing = builder.and_(is_missing, _splat(builder, has_missing))
        left = builder.select(is_missing, _splat(builder, builder.trunc(missing_left, _I1)), left)
        return builder.zext(builder.bitcast(left, _I16), _I64)

    integer = types.int64
    return integer(codes, integer, integer, integer, integer), generate


def _edge(kind: str) -> Any:
    """Make one of three steps of the walk over the nodes of one edge, for sixteen rows.

    ``down(factors, at, meets, met, m, products, before, sums, after)`` takes the running products of the parent (at
    entry `before`) to those of the child (at `after`) and clears the child's sums. ``leaf`` and ``up(factors, at,
    meets, met, m, products or sums, below, sums, above, total, credit)`` add to the parent's sums (at `above`) and
    credit the feature (total, at entry `credit`). ``met`` has a bit for each row that met the conditions on the feature
    before, ``meets`` for each that still does. Factors of an edge: per node those of the product where a row meets and
    where it fails, then those of the credit; at the end that of rows that failed before.
    """

    def types_of(factors: Any) -> tuple[Any, Any, int]:
        n_bytes = factors.dtype.bitwidth // 8
        number = ir.DoubleType() if n_bytes == 8 else ir.FloatType()
        return number, ir.VectorType(number, LANES), n_bytes

    def walk(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, vector, n_bytes = types_of(signature.args[0])
        size = ir.Constant(_I64, n_bytes)

        def place(array: int, entry: int) -> Any:
            begin = _address(context, builder, signature, arguments, array)
            return builder.add(begin, builder.mul(arguments[entry], size))

        factors, one, two = place(0, 1), place(5, 6), place(7, 8)
        meets, met, m = _bits(builder, arguments[2]), _bits(builder, arguments[3]), arguments[4]
        zero = ir.Constant(vector, [0.0] * LANES)
        credit = cgutils.alloca_once(builder, vector)
        builder.store(zero, credit)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f{8 * n_bytes}"
        )
        four = builder.mul(m, ir.Constant(_I64, 4))
        dead = zero if kind == "up" else _splat(builder, _load(builder, factors, number, four, n_bytes))
        with cgutils.for_range(builder, m) as loop:
            k = loop.index
            at = builder.mul(k, ir.Constant(_I64, 4))

            def factor(number_of: int, otherwise: Any) -> Any:
                meeting, failing = (
                    _splat(builder, _load(builder, factors, number, builder.add(at, ir.Constant(_I64, i)), n_bytes))
                    for i in (number_of, number_of + 1)
                )
                return builder.select(meets, meeting, builder.select(met, failing, otherwise))

            product = _load(builder, one, vector, k, n_bytes)
            if kind == "down":
                _store(builder, builder.fmul(product, factor(0, dead)), place(5, 8), k, n_bytes)
                _store(builder, zero, two, k, n_bytes)
            else:
                sums = _load(builder, two, vector, k, n_bytes)
                if kind == "leaf":
                    sums = builder.call(multiply_add, [product, factor(0, dead), sums])
                else:
                    sums = builder.fadd(sums, product)
                _store(builder, sums, two, k, n_bytes)
                more = builder.call(multiply_add, [product, factor(2, zero), builder.load(credit)])
                builder.store(more, credit)
        if kind != "down":
            doubles = ir.VectorType(ir.DoubleType(), LANES)
            column = builder.add(
                _address(context, builder, signature, arguments, 9), builder.mul(arguments[10], ir.Constant(_I64, 8))
            )
            more = builder.load(credit)
            if n_bytes == 4:
                more = builder.fpext(more, doubles)
            first = ir.Constant(_I64, 0)
            _store(builder, builder.fadd(_load(builder, column, doubles, first, 8), more), column, first, 8)
        return context.get_dummy_value()

    if kind == "down":

        @intrinsic
        def down(typing, factors, at, meets, met, m, products, before, sums, after):
            integer = types.int64
            whole = types.void(factors, integer, integer, integer, integer, products, integer, sums, integer)
            return whole, walk

        return down

    @intrinsic
    def back(typing, factors, at, meets, met, m, below, start, sums, above, total, credit):
        integer = types.int64
        whole = types.void(factors, integer, integer, integer, integer, below, integer, sums, integer, total, integer)
        return whole, walk

    return back


_down, _leaf, _up = _edge("down"), _edge("leaf"), _edge("up")


@numba.njit(nogil=True, error_model="numpy")
def _n_nodes(shares, d, errors, most):
    """Nodes that keep the quadrature of a leaf with these shares within TOLERANCE of its value, whatever the row."""
    exact = (d + 1) // 2
    if d > MOST_CERTIFIED:
        return min(exact, min(most, 10 + (d + 5) // 6))
    # e[c]: elementary symmetric polynomials of all shares but the smallest, which bound those without any one of them
    least = 0
    for j in range(d):
        if shares[j] < shares[least]:
            least = j
    e = np.zeros(d)
    e[0] = 1.0
    n = 0
    for j in range(d):
        if j == least:
            continue
        for c in range(n, -1, -1):
            e[c + 1] += e[c] * shares[j]
        n += 1
    for m in range(1, min(exact, most)):
        bound = 0.0
        for c in range(n + 1):
            bound += e[c] * errors[m, n - c, c]
        if bound <= TOLERANCE:
            return m
    return min(exact, most)


@compiled([("uint8[::1]", "int32[::1]", "int32[::1]", "out uint8[::1]")])
def mark(wanted, feature, parent, included):
    """Mark the wanted leaves and their ancestors; returns (edges, greatest depth)."""
    n_edges = 0
    deepest = 0
    for v in range(feature.shape[0] - 1, -1, -1):
        if wanted[v]:
            included[v] = 1
        if included[v] and parent[v] >= 0:
            included[parent[v]] = 1
            n_edges += 1
    depth = np.zeros(feature.shape[0], dtype=np.int64)
    for v in range(feature.shape[0]):
        if parent[v] >= 0:
            depth[v] = depth[parent[v]] + 1
        if included[v]:
            deepest = max(deepest, depth[v])
    return n_edges, deepest


@compiled(
    [
        (
            "uint8[::1]", "int64", "int64", "float64[:, ::1]", "float64[:, :, ::1]",
            "int32[::1]", "int32[::1]", "int64[::1]", "int32[::1]", "float64[::1]", "float64[::1]", "int64",
            *["out int64[::1]"] * 8, "out float64[::1]", "boolean",
        )
    ]
)  # fmt: skip
def trace(
    included, deepest, most_nodes, node_x, errors,
    feature, parent, tree_start, tree_output, ratio, value, n_features,
    edge_start, edge_node, edge_depth, edge_close, edge_before, edge_column, n_nodes, factor_start, factors, fill,
):  # fmt: skip
    """List the edges of the marked trees in the order of the walk and, if asked to fill, their factors.

    Returns how many factors there are.
    """
    depth = np.zeros(feature.shape[0], dtype=np.int64)
    on_path = np.empty(deepest + 1, dtype=np.int64)  # node at each depth
    share = np.empty(deepest + 1)  # of all conditions so far on the feature of the edge at each depth
    before = np.zeros(deepest + 1, dtype=np.int64)  # depth of the edge before on the same feature; 0: none
    shares = np.empty(deepest + 1)
    replaced = np.full(deepest + 1, -1, dtype=np.int64)  # the leaf for which a later edge on the feature was seen
    n_edges = 0
    n_factors = 0
    for tree in range(tree_output.shape[0]):
        edge_start[tree] = n_edges
        root = tree_start[tree]
        if not included[root]:
            n_nodes[tree] = 0
            continue
        for turn in range(2):  # first the number of nodes, then the edges
            m = n_nodes[tree]
            for v in range(root, tree_start[tree + 1]):
                if not included[v]:
                    continue
                p = parent[v]
                t = 0 if p < 0 else depth[p] + 1
                depth[v] = t
                on_path[t] = v
                if t == 0:
                    continue
                f = feature[p]
                b = t - 1
                while b > 0 and feature[parent[on_path[b]]] != f:
                    b -= 1
                before[t] = b
                share[t] = ratio[v] * (share[b] if b > 0 else 1.0)
                if turn == 0:
                    if feature[v] < 0:
                        d = 0
                        for s in range(t, 0, -1):  # the last edge on each feature holds its share
                            if replaced[s] != v:
                                shares[d] = share[s]
                                d += 1
                            replaced[before[s]] = v
                        m = max(m, _n_nodes(shares, d, errors, most_nodes))
                    continue
                edge_node[n_edges] = v
                edge_depth[n_edges] = t
                edge_before[n_edges] = b
                edge_column[n_edges] = tree_output[tree] * n_features + f
                factor_start[n_edges] = n_factors
                if fill:
                    w = share[t]
                    for k in range(m):
                        x = node_x[m, k]
                        at = n_factors + 4 * k
                        old = 1.0
                        less = 0.0
                        if b > 0:
                            old = x + (1.0 - x) * share[b]
                            less = (1.0 - share[b]) / old
                        now = x + (1.0 - x) * w
                        factors[at] = now / old
                        factors[at + 1] = (1.0 - x) * w / old
                        factors[at + 2] = (1.0 - w) / now - less
                        factors[at + 3] = -1.0 / (1.0 - x) - less
                        if feature[v] < 0:
                            factors[at] *= value[v]
                            factors[at + 1] *= value[v]
                            factors[at + 2] *= factors[at]
                            factors[at + 3] *= factors[at + 1]
                    factors[n_factors + 4 * m] = ratio[v] * (value[v] if feature[v] < 0 else 1.0)
                n_factors += 4 * m + 1
                n_edges += 1
            n_nodes[tree] = m
        # how many inner edges end after each edge: walk back
        at = edge_start[tree]
        for e in range(at, n_edges):
            here = edge_depth[e] if feature[edge_node[e]] >= 0 else edge_depth[e] - 1
            following = edge_depth[e + 1] if e + 1 < n_edges else 1
            edge_close[e] = here - (following - 1)
    edge_start[tree_output.shape[0]] = n_edges
    return n_factors


def _walk(
    codes, n_rows, edge_start, edge_node, edge_depth, edge_close, edge_before, edge_column, n_nodes, factor_start,
    factors, node_weight, feature, parent, last_left, missing_left, left_row, left_codes, missing_code,
    products, sums, left_of, met_at, open_edge, total,
):  # fmt: skip
    """Add to the columns of total what the listed leaves give to the rows of codes.

    Parameters
    ----------
    codes : array of shape (n_features, block), C order
        Feature by feature, with at least LANES readable entries after each multiple of LANES below n_rows.
    n_rows : int
    edge_start, ..., factors
        From `trace`.
    node_weight : array of shape (most + 1, most)
    feature, ..., missing_code
        Of the forest.
    products, sums : arrays of (deepest + 1) * most * LANES numbers of the type of factors
    left_of, met_at, open_edge : arrays of deepest + 2 int64
    total : array whose columns are added to
    """
    block = codes.shape[1]
    length = total.shape[1]
    everyone = np.int64(0xFFFF)
    for tree in range(edge_start.shape[0] - 1):
        m = n_nodes[tree]
        first, stop = edge_start[tree], edge_start[tree + 1]
        if first == stop:
            continue
        level = LANES * m  # products of one depth
        for k in range(m):
            for lane in range(LANES):
                products[k * LANES + lane] = node_weight[m, k]
        for row in range(0, n_rows, LANES):
            for i in range(level):
                sums[i] = 0.0
            for e in range(first, stop):
                v = edge_node[e]
                t = edge_depth[e]
                p = parent[v]
                if e == first or edge_depth[e - 1] < t:
                    # the first edge below its split: send the rows through the split
                    f = feature[p]
                    if left_row[p] >= 0:
                        left = np.int64(0)
                        for lane in range(LANES):
                            left |= np.int64(left_codes[left_row[p] + codes[f, row + lane]]) << lane
                    else:
                        left = _goes_left(codes, f * block + row, last_left[p], missing_code[f], missing_left[p])
                    left_of[t - 1] = left
                side = left_of[t - 1] if v == p + 1 else left_of[t - 1] ^ everyone
                b = edge_before[e]
                met = met_at[b] if b > 0 else everyone
                meets = met & side
                above = (t - 1) * level
                if feature[v] >= 0:
                    met_at[t] = meets
                    open_edge[t] = e
                    _down(factors, factor_start[e], meets, met, m, products, above, sums, t * level)
                else:
                    credit = edge_column[e] * length + row
                    _leaf(factors, factor_start[e], meets, met, m, products, above, sums, above, total, credit)
                    t -= 1
                for _ in range(edge_close[e]):
                    o = open_edge[t]
                    b = edge_before[o]
                    met = met_at[b] if b > 0 else everyone
                    credit = edge_column[o] * length + row
                    _up(
                        factors, factor_start[o], met_at[t], met, m, sums, t * level, sums, (t - 1) * level, total,
                        credit,
                    )  # fmt: skip
                    t -= 1


def _signature(code: str, number: str) -> tuple[str, ...]:
    return (
        f"{code}[:, ::1]", "int64", *["int64[::1]"] * 8, f"{number}[::1]", "float64[:, ::1]",
        "int32[::1]", "int32[::1]", "int32[::1]", "uint8[::1]", "int64[::1]", "uint8[::1]", "int32[::1]",
        f"out {number}[::1]", f"out {number}[::1]", *["out int64[::1]"] * 3, "out float64[:, ::1]",
    )  # fmt: skip


WALK: dict[tuple[np.dtype, np.dtype], Kernel] = {
    (np.dtype(code), np.dtype(number)): compiled([_signature(code, number)])(_walk)
    for code in ("uint8", "uint16", "uint32")
    for number in ("float64", "float32")
}
"""One kernel for each type of codes and of numbers."""
