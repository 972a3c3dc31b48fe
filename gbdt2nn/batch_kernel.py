"""A block of rows through a student's network between its matrix products, in compiled functions: no torch.

What stands between two products is memory traffic: rows of a table, a bias, the activation, rounding. Each function here does
all of it in one pass over a block that stays in the cache. Numbers in bfloat16 are held as their 16 bits.
"""

import math

import numpy as np

from gbdt2nn.compilation import compiled

# silu(v) = v / (1 + 2^u), u = -v log2(e): the whole part of u goes into the exponent's bits, and a polynomial gives 2^rest
MINUS_LOG2_E, ONE = np.float32(-1.4426950408889634), np.float32(1.0)
LARGEST = np.float32(126.0)  # 2 to this power is a normal number of single precision, and so is its inverse
ROUNDING = np.float32(1.5 * 2**23)  # added, it leaves the nearest whole number in the lowest bits
P1, P2, P3, P4, P5, P6 = (np.float32(math.log(2) ** n / math.factorial(n)) for n in range(1, 7))  # 1e-7 off
# the polynomial of four terms that is least off: 1e-4, where a product in bfloat16 is rounded to 4e-3
Q0, Q1, Q2, Q3 = (np.float32(q) for q in (0.99992448, 0.69312103, 0.24264008, 0.05592204))
# bfloat16 is the upper 16 bits, rounded to even
SIXTEEN, LAST_BIT, NEARLY_HALF = np.uint32(16), np.uint32(1), np.uint32(0x7FFF)


@compiled(
    [("int32[:, ::1]", "int64[::1]", "float32[:, ::1]", "out float32[:, ::1]", "out uint16[:, ::1]")],
    fastmath={"contract"},
)
def enter(codes, start, table, hidden, half):
    """First layer: ``hidden = silu(sum of rows start[j] + codes[:, j] of the table)``, and ``half`` its bfloat16.

    ``half`` may have no rows, and is then left alone.
    """
    n_samples, n_features = codes.shape
    width = table.shape[1]
    before = np.empty(width, np.float32)
    bits = hidden.view(np.uint32)
    for n in range(n_samples):
        j = 1
        row0 = table[start[0] + codes[n, 0]]
        if n_features < 8:
            for w in range(width):
                before[w] = row0[w]
        else:  # several rows at once: the sums are written and read less often
            row1, row2 = table[start[1] + codes[n, 1]], table[start[2] + codes[n, 2]]
            row3, row4 = table[start[3] + codes[n, 3]], table[start[4] + codes[n, 4]]
            row5, row6 = table[start[5] + codes[n, 5]], table[start[6] + codes[n, 6]]
            row7 = table[start[7] + codes[n, 7]]
            for w in range(width):
                before[w] = ((row0[w] + row1[w]) + (row2[w] + row3[w])) + ((row4[w] + row5[w]) + (row6[w] + row7[w]))
            j = 8
        while j + 4 <= n_features:
            row0, row1 = table[start[j] + codes[n, j]], table[start[j + 1] + codes[n, j + 1]]
            row2, row3 = table[start[j + 2] + codes[n, j + 2]], table[start[j + 3] + codes[n, j + 3]]
            for w in range(width):
                before[w] += (row0[w] + row1[w]) + (row2[w] + row3[w])
            j += 4
        while j < n_features:
            row0 = table[start[j] + codes[n, j]]
            for w in range(width):
                before[w] += row0[w]
            j += 1
        for w in range(width):
            v = before[w]
            u = min(max(v * MINUS_LOG2_E, -LARGEST), LARGEST)
            whole = np.float32(u + ROUNDING)
            r = u - (whole - ROUNDING)
            part = np.float32(ONE + r * (P1 + r * (P2 + r * (P3 + r * (P4 + r * (P5 + r * P6))))))
            power = np.int32(part.view(np.int32) + np.int32(whole.view(np.int32) << 23)).view(np.float32)
            hidden[n, w] = v / (ONE + power)
        if half.shape[0] > 0:
            for w in range(width):
                b = bits[n, w]
                half[n, w] = np.uint16((b + NEARLY_HALF + ((b >> SIXTEEN) & LAST_BIT)) >> SIXTEEN)


@compiled([("float32[:, ::1]", "float32[::1]", "out float32[:, ::1]")], fastmath={"contract"})
def activate(product, bias, hidden):
    """A residual layer after its product: ``hidden += silu(product + bias)``."""
    n_samples, width = hidden.shape
    for n in range(n_samples):
        for w in range(width):
            v = product[n, w] + bias[w]
            u = min(max(v * MINUS_LOG2_E, -LARGEST), LARGEST)
            whole = np.float32(u + ROUNDING)
            r = u - (whole - ROUNDING)
            part = np.float32(ONE + r * (P1 + r * (P2 + r * (P3 + r * (P4 + r * (P5 + r * P6))))))
            power = np.int32(part.view(np.int32) + np.int32(whole.view(np.int32) << 23)).view(np.float32)
            hidden[n, w] += v / (ONE + power)


@compiled(
    [("uint16[:, ::1]", "float32[::1]", "out float32[:, ::1]", "out uint16[:, ::1]")],
    fastmath={"contract"},
)
def activate_bfloat16(product, bias, hidden, half):
    """The same after a product in bfloat16: the layer's input goes on in single precision, ``half`` is its bfloat16."""
    n_samples, width = hidden.shape
    for n in range(n_samples):
        for w in range(width):
            v = np.uint32(np.uint32(product[n, w]) << SIXTEEN).view(np.float32) + bias[w]
            u = min(max(v * MINUS_LOG2_E, -LARGEST), LARGEST)
            whole = np.float32(u + ROUNDING)
            r = u - (whole - ROUNDING)
            part = np.float32(Q0 + r * (Q1 + r * (Q2 + r * Q3)))
            power = np.int32(part.view(np.int32) + np.int32(whole.view(np.int32) << 23)).view(np.float32)
            found = np.float32(hidden[n, w] + v / (ONE + power))
            hidden[n, w] = found
            b = found.view(np.uint32)
            half[n, w] = np.uint16((b + NEARLY_HALF + ((b >> SIXTEEN) & LAST_BIT)) >> SIXTEEN)


@compiled(
    [
        (
            "float32[:, ::1]", "float32[:, :, ::1]", "float64[::1]",
            "out float64[:, ::1]", "out float64[:, :, ::1]", "boolean",
        )
    ]
)  # fmt: skip
def add_up(network, tables, base_value, score, attribution, explain):
    """Raw scores, and attributions where asked for: the shares of network and tables, added up in double precision.

    The network's are (n_samples, at least n_outputs * n_features) or empty, those of the tables (n_samples, n_outputs,
    n_features).
    The same additions in the same order whether attributions are written or not.
    """
    n_samples, n_outputs, n_features = tables.shape
    has_network = network.shape[0] > 0
    for n in range(n_samples):
        for k in range(n_outputs):
            total = base_value[k]
            for j in range(n_features):
                share = tables[n, k, j]
                if has_network:
                    share += network[n, k * n_features + j]
                if explain:
                    attribution[n, k, j] = share
                total += np.float64(share)
            score[n, k] = total
