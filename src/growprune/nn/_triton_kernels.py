"""The kernels that `growprune.nn._triton` starts."""

# A line for each argument would make the calls hard to read.
# fmt: off
import triton
import triton.language as tl


@triton.jit
def _await_all(barrier, passed):
    """Wait until all programs are here and see what they stored; `passed` counts up by one."""
    target = (passed + 1) * tl.num_programs(0)
    tl.debug_barrier()
    tl.atomic_add(barrier, 1, sem="acq_rel", scope="gpu")
    while tl.atomic_add(barrier, 0, sem="acquire", scope="gpu") < target:
        pass
    tl.debug_barrier()
    return passed + 1


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _product(
    a, a_row, b, n, w, w_unit, w_step, u, units, depth,
    PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):
    """Sum over k < depth of a[b, k] * w[u, k], (BM, BN); w's elements lie w_unit, w_step apart."""
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, depth, BK):
        k = start + tl.arange(0, BK)
        a_k = tl.load(
            a + b[:, None] * a_row + k[None, :],
            mask=(b[:, None] < n) & (k[None, :] < depth),
            other=0.0,
        )
        w_k = tl.load(
            w + u[None, :] * w_unit + k[:, None] * w_step,
            mask=(u[None, :] < units) & (k[:, None] < depth),
            other=0.0,
        )
        total = tl.dot(a_k.to(w_k.dtype), w_k, total, input_precision=PRECISION)
    return total


@triton.jit
def _gate(
    hidden, later, bias, gate, rows, row, b, n, u, N, M, BIAS: tl.constexpr,
    PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):
    """A gate's sums, (BM, BN)."""
    a = hidden + (gate * rows + row) * M
    w = later + gate * N * M
    z = _product(a, M, b, n, w, M, 1, u, N, M, PRECISION, BM, BN, BK)
    if BIAS:
        z += tl.load(bias + gate * N + u, mask=u < N, other=0.0)[None, :]
    return z


@triton.jit(do_not_specialize=["steps", "rows", "all_rows"])
def forward_kernel(
    first, hidden, scales, gates, h_before, c_before, outputs, h, c, hh, later, bias,
    starts, counts, barrier, steps, rows, all_rows, slope, N, M,
    REVERSE: tl.constexpr, RECORD: tl.constexpr, BIAS: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, BM_1: tl.constexpr, BN_1: tl.constexpr, BM_2: tl.constexpr,
    BN_2: tl.constexpr, BK: tl.constexpr,
):
    """`growprune.nn._recurrence._forward_loop`; N is the hidden size, M the gates' width."""
    passed = 0
    for step in range(steps):
        t = steps - 1 - step if REVERSE else step
        row, n = tl.load(starts + t).to(tl.int64), tl.load(counts + t)
        kept = row if RECORD else row * 0

        batch_tiles = tl.cdiv(n, BM_1)
        unit_tiles = tl.cdiv(M, BN_1)
        for tile in range(tl.program_id(0), batch_tiles * unit_tiles * 4, tl.num_programs(0)):
            b = tile % batch_tiles * BM_1 + tl.arange(0, BM_1)
            gate = tile // batch_tiles // unit_tiles
            u = tile // batch_tiles % unit_tiles * BN_1 + tl.arange(0, BN_1)
            z = _product(h, N, b, n, hh + gate * M * N, N, 1, u, M, N, PRECISION, BM_1, BN_1, BK)
            inside = (b[:, None] < n) & (u[None, :] < M)
            of_row = b[:, None] * M + u[None, :]
            z += tl.load(
                first + (row + b[:, None]) * 4 * M + gate * M + u[None, :], mask=inside, other=0.0
            )
            a = tl.where(z > 0, z, z * slope)
            if DROPOUT:
                own = scales + (gate * all_rows + row) * M
                a *= tl.load(own + of_row, mask=inside, other=0.0)
            tl.store(hidden + (gate * rows + kept) * M + of_row, a, mask=inside)
        passed = _await_all(barrier, passed)

        batch_tiles = tl.cdiv(n, BM_2)
        unit_tiles = tl.cdiv(N, BN_2)
        for tile in range(tl.program_id(0), batch_tiles * unit_tiles, tl.num_programs(0)):
            b = tile % batch_tiles * BM_2 + tl.arange(0, BM_2)
            u = tile // batch_tiles * BN_2 + tl.arange(0, BN_2)
            i = tl.sigmoid(_gate(hidden, later, bias, 0, rows, kept, b, n, u, N, M, BIAS, PRECISION,
                BM_2, BN_2, BK))
            f = tl.sigmoid(_gate(hidden, later, bias, 1, rows, kept, b, n, u, N, M, BIAS, PRECISION,
                BM_2, BN_2, BK))
            g = _tanh(_gate(hidden, later, bias, 2, rows, kept, b, n, u, N, M, BIAS, PRECISION,
                BM_2, BN_2, BK))
            o = tl.sigmoid(_gate(hidden, later, bias, 3, rows, kept, b, n, u, N, M, BIAS, PRECISION,
                BM_2, BN_2, BK))
            inside = (b[:, None] < n) & (u[None, :] < N)
            at = b[:, None] * N + u[None, :]
            old_c = tl.load(c + at, mask=inside, other=0.0)
            new_c = f * old_c + i * g
            new_h = o * _tanh(new_c)
            if RECORD:
                old_h = tl.load(h + at, mask=inside, other=0.0)
                tl.store(h_before + row * N + at, old_h, mask=inside)
                tl.store(c_before + row * N + at, old_c, mask=inside)
                tl.store(gates + row * N + at, i, mask=inside)
                tl.store(gates + (rows + row) * N + at, f, mask=inside)
                tl.store(gates + (2 * rows + row) * N + at, g, mask=inside)
                tl.store(gates + (3 * rows + row) * N + at, o, mask=inside)
            tl.store(c + at, new_c, mask=inside)
            tl.store(h + at, new_h, mask=inside)
            tl.store(outputs + row * N + at, new_h, mask=inside)
        passed = _await_all(barrier, passed)


@triton.jit
def _gates_backward(
    gates, c_before, doutputs, dgates, dc, dh_tile, rows, row, b, n, u, N
):
    """From the gradient of h after a step, for a tile, to those of the gates' sums."""
    inside = (b[:, None] < n) & (u[None, :] < N)
    at = b[:, None] * N + u[None, :]
    i = tl.load(gates + row * N + at, mask=inside, other=0.0)
    f = tl.load(gates + (rows + row) * N + at, mask=inside, other=0.0)
    g = tl.load(gates + (2 * rows + row) * N + at, mask=inside, other=0.0)
    o = tl.load(gates + (3 * rows + row) * N + at, mask=inside, other=0.0)
    old_c = tl.load(c_before + row * N + at, mask=inside, other=0.0)
    tanh_c = _tanh(f * old_c + i * g)
    dh = dh_tile + tl.load(doutputs + row * N + at, mask=inside, other=0.0)
    dc_new = tl.load(dc + at, mask=inside, other=0.0) + dh * o * (1 - tanh_c * tanh_c)
    tl.store(dgates + row * N + at, dc_new * g * i * (1 - i), mask=inside)
    tl.store(dgates + (rows + row) * N + at, dc_new * old_c * f * (1 - f), mask=inside)
    tl.store(dgates + (2 * rows + row) * N + at, dc_new * i * (1 - g * g), mask=inside)
    tl.store(dgates + (3 * rows + row) * N + at, dh * tanh_c * o * (1 - o), mask=inside)
    tl.store(dc + at, dc_new * f, mask=inside)


@triton.jit(do_not_specialize=["steps", "rows"])
def backward_kernel(
    gates, c_before, hidden, scales, doutputs, dgates, dfirst, dh, dc, hh, later,
    starts, counts, barrier, steps, rows, slope, N, M,
    REVERSE: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, BM_1: tl.constexpr, BN_1: tl.constexpr, BM_2: tl.constexpr,
    BN_2: tl.constexpr, BK: tl.constexpr,
):
    """`growprune.nn._recurrence._backward_loop`; N is the hidden size, M the gates' width."""
    t = 0 if REVERSE else steps - 1
    row, n = tl.load(starts + t).to(tl.int64), tl.load(counts + t)
    tiles = tl.cdiv(n, BM_2) * tl.cdiv(N, BN_2)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        b = tile % tl.cdiv(n, BM_2) * BM_2 + tl.arange(0, BM_2)
        u = tile // tl.cdiv(n, BM_2) * BN_2 + tl.arange(0, BN_2)
        inside = (b[:, None] < n) & (u[None, :] < N)
        dh_tile = tl.load(dh + b[:, None] * N + u[None, :], mask=inside, other=0.0)
        _gates_backward(gates, c_before, doutputs, dgates, dc, dh_tile, rows, row, b, n, u, N)
    passed = _await_all(barrier, 0)

    for step in range(steps):
        batch_tiles = tl.cdiv(n, BM_1)
        unit_tiles = tl.cdiv(M, BN_1)
        for tile in range(tl.program_id(0), batch_tiles * unit_tiles * 4, tl.num_programs(0)):
            b = tile % batch_tiles * BM_1 + tl.arange(0, BM_1)
            gate = tile // batch_tiles // unit_tiles
            u = tile // batch_tiles % unit_tiles * BN_1 + tl.arange(0, BN_1)
            own = dgates + (gate * rows + row) * N
            w = later + gate * N * M
            da = _product(own, N, b, n, w, 1, M, u, M, N, PRECISION, BM_1, BN_1, BK)
            inside = (b[:, None] < n) & (u[None, :] < M)
            place = (gate * rows + row) * M + b[:, None] * M + u[None, :]
            if DROPOUT:
                da *= tl.load(scales + place, mask=inside, other=0.0)
            # Dropout leaves the sign of an activation, or 0 where the gradient is 0 already.
            a = tl.load(hidden + place, mask=inside, other=0.0)
            da = tl.where(a > 0, da, da * slope)
            tl.store(dfirst + (row + b[:, None]) * 4 * M + gate * M + u[None, :], da, mask=inside)
        passed = _await_all(barrier, passed)

        own = dfirst + row * 4 * M
        last = step + 1 == steps
        t = step + 1 if REVERSE else steps - 2 - step
        next_row = tl.load(starts + t, mask=not last, other=0).to(tl.int64)
        next_n = tl.load(counts + t, mask=not last, other=0)
        # Sequences that end at the next step, walking back, start from their last state's gradient.
        batch_tiles = tl.cdiv(tl.maximum(n, next_n), BM_2)
        unit_tiles = tl.cdiv(N, BN_2)
        for tile in range(tl.program_id(0), batch_tiles * unit_tiles, tl.num_programs(0)):
            b = tile % batch_tiles * BM_2 + tl.arange(0, BM_2)
            u = tile // batch_tiles * BN_2 + tl.arange(0, BN_2)
            dh_tile = _product(own, 4 * M, b, n, hh, 1, N, u, N, 4 * M, PRECISION, BM_2, BN_2, BK)
            at = b[:, None] * N + u[None, :]
            alive = (b[:, None] < n) & (u[None, :] < N)
            begins = (b[:, None] >= n) & (b[:, None] < next_n) & (u[None, :] < N)
            tl.store(dh + at, dh_tile, mask=alive)
            dh_tile += tl.load(dh + at, mask=begins, other=0.0)
            _gates_backward(
                gates, c_before, doutputs, dgates, dc, dh_tile, rows, next_row, b, next_n, u, N
            )
        passed = _await_all(barrier, passed)
        row, n = next_row, next_n
