"""A block of rows through a student's network between its matrix products, in compiled functions: no torch.

What stands between two products is memory traffic: rows of a table, a bias, the activation, rounding. Each function here does
all of it in one pass over a block that stays in the cache. Numbers in bfloat16 are held as their 16 bits.
"""

import math

import numpy as np

from gbdt2nn.compilation import compiled

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LARGEST = np.float32(87.0)  # exp of it is a normal number of single precision, and so is its inverse
HALF, ONE = np.float32(0.5), np.float32(1.0)
E2, E3, E4, E5, E6 = (np.float32(1 / math.factorial(n)) for n in (2, 3, 4, 5, 6))
SIXTEEN, LAST_BIT, NEARLY_HALF = (
    np.uint32(16),
    np.uint32(1),
    np.uint32(0x7FFF),
)  # bfloat16: the upper 16 bits, rounded to even


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
    before, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    power = np.empty(width, np.int32)
    two = power.view(np.float32)
    bits = hidden.view(np.uint32)
    for n in range(n_samples):
        j = 1
        row0 = table[start[0] + codes[n, 0]]
        if n_features < 8:
            for w in range(width):
                before[w] = row0[w]
        else:  # several rows at once: the sums are written and read less often
            row1, row2, row3 = (
                table[start[1] + codes[n, 1]],
                table[start[2] + codes[n, 2]],
                table[start[3] + codes[n, 3]],
            )
            row4, row5, row6 = (
                table[start[4] + codes[n, 4]],
                table[start[5] + codes[n, 5]],
                table[start[6] + codes[n, 6]],
            )
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
        # silu(v) = v / (1 + exp(-v)); exp by powers of two and a polynomial, so that it is vector code
        for w in range(width):
            v = min(max(-before[w], -LARGEST), LARGEST)
            whole = np.floor(v * LOG2_E + HALF)
            rest = v - whole * LN2_HIGH - whole * LN2_LOW
            power[w] = (np.int32(whole) + 127) << 23
            inverse[w] = ONE + rest * (ONE + rest * (E2 + rest * (E3 + rest * (E4 + rest * (E5 + rest * E6)))))
        for w in range(width):
            hidden[n, w] = before[w] / (ONE + inverse[w] * two[w])
        if half.shape[0] > 0:
            for w in range(width):
                b = bits[n, w]
                half[n, w] = np.uint16((b + NEARLY_HALF + ((b >> SIXTEEN) & LAST_BIT)) >> SIXTEEN)


@compiled([("float32[:, ::1]", "float32[::1]", "out float32[:, ::1]")], fastmath={"contract"})
def activate(product, bias, hidden):
    """A residual layer after its product: ``hidden += silu(product + bias)``."""
    n_samples, width = hidden.shape
    before, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    power = np.empty(width, np.int32)
    two = power.view(np.float32)
    for n in range(n_samples):
        for w in range(width):
            before[w] = product[n, w] + bias[w]
        for w in range(width):
            v = min(max(-before[w], -LARGEST), LARGEST)
            whole = np.floor(v * LOG2_E + HALF)
            rest = v - whole * LN2_HIGH - whole * LN2_LOW
            power[w] = (np.int32(whole) + 127) << 23
            inverse[w] = ONE + rest * (ONE + rest * (E2 + rest * (E3 + rest * (E4 + rest * (E5 + rest * E6)))))
        for w in range(width):
            hidden[n, w] += before[w] / (ONE + inverse[w] * two[w])


@compiled(
    [("uint16[:, ::1]", "float32[::1]", "out float32[:, ::1]", "out uint16[:, ::1]")],
    fastmath={"contract"},
)
def activate_bfloat16(product, bias, hidden, half):
    """The same after a product in bfloat16: the layer's input goes on in single precision, ``half`` is its bfloat16."""
    n_samples, width = hidden.shape
    before, inverse = np.empty(width, np.float32), np.empty(width, np.float32)
    power = np.empty(width, np.int32)
    two = power.view(np.float32)
    wide = np.empty(width, np.uint32)
    number = wide.view(np.float32)
    bits = hidden.view(np.uint32)
    for n in range(n_samples):
        for w in range(width):
            wide[w] = np.uint32(product[n, w]) << SIXTEEN
        for w in range(width):
            before[w] = number[w] + bias[w]
        for w in range(width):
            v = min(max(-before[w], -LARGEST), LARGEST)
            whole = np.floor(v * LOG2_E + HALF)
            rest = v - whole * LN2_HIGH - whole * LN2_LOW
            power[w] = (np.int32(whole) + 127) << 23
            # two terms fewer: 5e-5 off, where the product is rounded to 4e-3
            inverse[w] = ONE + rest * (ONE + rest * (E2 + rest * (E3 + rest * E4)))
        for w in range(width):
            hidden[n, w] += before[w] / (ONE + inverse[w] * two[w])
        for w in range(width):
            b = bits[n, w]
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

    The network's are (n_outputs * n_features, at least n_samples), those of the tables (n_samples, n_outputs, n_features).
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
                    share += network[k * n_features + j, n]
                if explain:
                    attribution[n, k, j] = share
                total += np.float64(share)
            score[n, k] = total
