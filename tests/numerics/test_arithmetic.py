"""The arithmetic against exact rational numbers, and against PyTorch's own qnnpack kernels."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hlsgen.errors import HlsgenError
from hlsgen.program.arithmetic import (
    activation_table,
    add,
    addition,
    conv_requant,
    normalized,
    requantize,
    round_shift_away,
    round_shift_even,
)
from hlsgen.quantize.spec import TensorQ

warnings.filterwarnings("ignore", category=UserWarning, message=".*deprecated.*")
sums = st.integers(-(2**31), 2**31 - 1)


@given(sums, st.integers(0, 46))
def test_ties_go_to_even(x: int, shift: int) -> None:
    assert int(round_shift_even(np.int64(x), shift)) == round(Fraction(x, 1 << shift))


@given(sums, st.integers(1, 31))
def test_ties_go_away_from_zero(x: int, shift: int) -> None:
    exact = Fraction(x, 1 << shift)
    away = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assert int(round_shift_away(np.int64(x), shift)) == away


@given(st.floats(1e-9, 1000))
def test_a_multiplier_is_within_half_of_its_last_bit(real: float) -> None:
    m, s = normalized(real, 17)
    assert 0 <= s <= 46
    assert 0 < m < 1 << 17
    assert abs(Fraction(m, 1 << s) - Fraction(real)) <= Fraction(1, 1 << s)


@pytest.mark.parametrize("real", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_scale_out_of_range_is_refused(real: float) -> None:
    with pytest.raises(HlsgenError, match="out of range"):
        normalized(real, 17)


@given(st.integers(-9, 9), st.integers(-(2**24), 2**24), st.integers(8, 16))
def test_fixed_saturates_and_rounds_like_ap_rnd_conv(exponent: int, x: int, bits: int) -> None:
    out = TensorQ(2.0**-4, 0, bits)
    constants = conv_requant("fixed", TensorQ(2.0**-5, 0), np.array([2.0 ** (exponent - 10)]), out)
    exact = round(Fraction(x) * Fraction(2) ** (exponent - 15 + 4))
    assert int(requantize(np.array([[x]]), constants)[0, 0]) == min(max(exact, out.low), out.high)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_native_convolution_is_qnnpacks(seed: int) -> None:
    """Random scales, zero points and extreme weights through torch.ops.quantized.conv2d on qnnpack."""
    random = np.random.default_rng(seed)
    ci, co, k = (int(v) for v in random.integers([1, 1, 1], [9, 9, 4]))
    sx, sy = (float(np.float32(v)) for v in random.uniform(1e-3, 0.3, 2))
    zx, zy = (int(v) for v in random.integers(0, 256, 2))
    sw = random.uniform(1e-4, 0.05, co).astype(np.float32).astype(np.float64)
    w = random.integers(-128, 128, (co, ci, k, k)).astype(np.int8)
    if seed % 3 == 0:
        w[:] = -128 if seed % 2 else 127
    b = random.uniform(-3, 3, co).astype(np.float32)
    x = random.integers(0, 256, (1, ci, 7, 6)).astype(np.uint8)
    if seed % 4 == 0:
        x[:] = 255
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        tx = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), sx, zx)
        tw = torch._make_per_channel_quantized_tensor(
            torch.from_numpy(w), torch.from_numpy(sw), torch.zeros(co, dtype=torch.long), 0
        )
        packed = torch.ops.quantized.conv2d_prepack(tw, torch.from_numpy(b), [1, 1], [k // 2] * 2, [1, 1], 1)
        y = torch.ops.quantized.conv2d(tx, packed, sy, zy).int_repr().numpy()[0]
    finally:
        torch.backends.quantized.engine = engine
    bias = np.rint(b / (np.float32(sx) * sw.astype(np.float32))).astype(np.int64)
    padded = np.pad(x[0].astype(np.int64) - zx, ((0, 0), (k // 2,) * 2, (k // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(1, 2))
    acc = np.einsum("cyxij,ocij->oyx", windows, w.astype(np.int64)) + bias[:, None, None]
    constants = conv_requant("native", TensorQ(sx, zx - 128), sw, TensorQ(sy, zy - 128))
    assert np.array_equal(requantize(acc, constants) + 128, y)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_native_addition_is_qnnpacks(seed: int) -> None:
    random = np.random.default_rng(seed)
    sa, sb, sy = (float(np.float32(v)) for v in 2.0 ** random.uniform(-9, -2, 3))
    za, zb, zy = (int(v) for v in random.integers(0, 256, 3))
    a, b = random.integers(0, 256, (2, 1, 4, 8, 8)).astype(np.uint8)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        ta = torch._make_per_tensor_quantized_tensor(torch.from_numpy(a), sa, za)
        tb = torch._make_per_tensor_quantized_tensor(torch.from_numpy(b), sb, zb)
        y = torch.ops.quantized.add(ta, tb, sy, zy).int_repr().numpy()
    finally:
        torch.backends.quantized.engine = engine
    constants = addition("native", TensorQ(sa, za - 128), TensorQ(sb, zb - 128), TensorQ(sy, zy - 128))
    ours = add(a.astype(np.int64) - 128, b.astype(np.int64) - 128, constants)
    assert np.array_equal(ours + 128, y)


@given(st.integers(2, 7), st.integers(2, 7), st.integers(2, 7))
def test_fixed_addition_is_exact_before_it_rounds(fa: int, fb: int, fy: int) -> None:
    constants = addition("fixed", TensorQ(2.0**-fa, 0), TensorQ(2.0**-fb, 0), TensorQ(2.0**-fy, 0))
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    exact = (a * 2.0**-fa + b * 2.0**-fb) * 2.0**fy  # float64 holds these exactly
    assert np.array_equal(add(a, b, constants), np.clip(np.rint(exact), -128, 127))


@pytest.mark.parametrize("scheme", ["fixed", "affine", "native"])
def test_a_table_is_the_rounded_function(scheme: str) -> None:
    pre, out = TensorQ(2.0**-4, 0, 8), TensorQ(2.0**-5, 0)
    table = activation_table("silu", 0.0, pre, out, scheme)  # type: ignore[arg-type]
    x = np.arange(-128, 128) * pre.scale
    exact = x / (1 + np.exp(-x)) / out.scale
    assert table.shape == (256,)
    assert np.abs(table - np.clip(exact, -128, 127)).max() <= 0.5 + 1e-4
