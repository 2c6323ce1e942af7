"""The integer arithmetic of every machine op: docs/arithmetic.md in numpy.

The constants computed here are the only ones: the torch references, the golden model and the generated hardware all
take them from these functions.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlsgen.errors import HlsgenError
from hlsgen.quantize.spec import Scheme, TensorQ

Ints = npt.NDArray[np.int64]
MULTIPLIER_BITS = 17  # affine: unsigned; with its sign bit it is the 18-bit port of a DSP48
ADD_MULTIPLIER_BITS = 16
MAX_SHIFT = 46
EXACT = 1e-6  # binary places: scales are stored as float32


def round_shift_even(x: Ints, shift: Ints | int) -> Ints:
    """x / 2**shift, ties to even (AP_RND_CONV); x int64, shift >= 0 (broadcast)."""
    s = np.asarray(shift, dtype=np.int64)
    half = np.where(s > 0, np.int64(1) << np.maximum(s - 1, 0), 0)
    odd = np.where(s > 0, (x >> s) & 1, 1)  # a shift of zero adds 0 - 1 + 1
    return (x + half - 1 + odd) >> s


def round_shift_away(x: Ints, shift: int) -> Ints:
    """x / 2**shift, ties away from zero (QNNPACK's q8vadd); x int64, shift >= 1."""
    half = np.int64(1) << (shift - 1)
    return (x + half - (x < 0)) >> shift


@dataclass(frozen=True, eq=False)
class Requant:
    """accumulator -> integer of `out.bits` bits, per output channel.

    fixed:  clamp(round_even(acc / 2**shift) + zero_point)
    affine: clamp(round_even(acc * multiplier / 2**shift) + zero_point)
    native: clamp(round_even(float32(acc) * float32 multiplier) + zero_point), as QNNPACK
    """

    scheme: Scheme
    out: TensorQ
    multiplier: npt.NDArray[np.float64]  # [O]: fixed 1; affine integers; native float32 values
    shift: npt.NDArray[np.int64]  # [O]: native 0


def fraction_bits(scale: float) -> int:
    """f of a power-of-two scale 2**-f; raises HlsgenError where it is none."""
    mantissa, exponent = np.frexp(scale)
    if mantissa != 0.5:
        raise HlsgenError(f"scheme fixed expects power-of-two scales, got {scale!r}; use --scheme affine")
    return int(1 - exponent)


def shift_of(real: float) -> int:
    """s of a ratio of scales 2**-s, exact to float32's rounding; raises HlsgenError where it is no power of two."""
    s = -math.log2(real) if np.isfinite(real) and real > 0 else math.nan
    if not abs(s - np.rint(s)) < EXACT:
        raise HlsgenError(
            f"scheme fixed expects scales in ratios of powers of two, got a ratio of {real!r}; use --scheme affine"
        )
    return round(s)


def normalized(real: float, bits: int) -> tuple[int, int]:
    """(m, s) with real ~ m / 2**s and m of `bits` bits (Jacob et al. 2018, eq. 6); raises HlsgenError out of range."""
    if not (np.isfinite(real) and real > 0):
        raise HlsgenError(f"a requantization scale of {real!r} is out of range (0 < scale < {1 << bits})")
    mantissa, exponent = np.frexp(real)
    m, s = round(float(mantissa) * (1 << bits)), bits - int(exponent)
    if m == 1 << bits:
        m, s = m >> 1, s - 1
    while s > MAX_SHIFT and m:  # tiny scales: fewer significant bits rather than a wider shifter
        m, s = (m + 1) >> 1, s - 1
    if s < 0:
        raise HlsgenError(f"a requantization scale of {real!r} is out of range (0 < scale < {1 << bits})")
    return m, s


def conv_requant(scheme: Scheme, x: TensorQ, weight_scale: npt.NDArray[np.float64], out: TensorQ) -> Requant:
    """Constants that take a convolution's accumulator (scale x.scale * weight_scale[o]) to `out`."""
    n = len(weight_scale)
    if scheme == "fixed":
        shift = np.array([shift_of(x.scale * float(w) / out.scale) for w in weight_scale])
        if (shift < 0).any() or (shift > 31).any():
            raise HlsgenError(
                f"scheme fixed expects requantization shifts of 0 to 31, got {shift.min()} to {shift.max()}"
            )
        return Requant(scheme, out, np.ones(n), shift.astype(np.int64))
    if scheme == "affine":
        pairs = [normalized(x.scale * float(w) / out.scale, MULTIPLIER_BITS) for w in weight_scale]
        return Requant(scheme, out, np.array([m for m, _ in pairs], float), np.array([s for _, s in pairs], np.int64))
    inverse = np.float32(1) / np.float32(out.scale)
    product = np.float32(x.scale) * weight_scale.astype(np.float32)
    return Requant(scheme, out, (product * inverse).astype(np.float64), np.zeros(n, np.int64))


def requantize(acc: Ints, constants: Requant, axis: int = 0) -> Ints:
    """Apply `constants` to accumulators (int64, output channels along `axis`)."""
    shape = [1] * acc.ndim
    shape[axis] = -1
    out = constants.out
    m, s = constants.multiplier.reshape(shape), constants.shift.reshape(shape)
    if constants.scheme == "native":
        y = np.rint(acc.astype(np.float32) * m.astype(np.float32)).astype(np.int64)
    else:
        # In float64: products below 2**53 are exact, powers of two always, and rint breaks ties to even.
        y = np.rint(acc * (m * np.exp2(-s.astype(np.float64)))).astype(np.int64)
    return np.clip(y + out.zero_point, out.low, out.high)


@dataclass(frozen=True)
class Addition:
    """clamp(round((a * a_multiplier + b * b_multiplier + offset) / 2**shift) + out.zero_point).

    Ties to even in `fixed` and `affine`, away from zero in `native` (QNNPACK's q8vadd).
    """

    scheme: Scheme
    out: TensorQ
    a_multiplier: int
    b_multiplier: int
    offset: int
    shift: int


def addition(scheme: Scheme, a: TensorQ, b: TensorQ, out: TensorQ) -> Addition:
    """Constants of a residual addition of two 8-bit tensors."""
    if scheme == "fixed":
        fa, fb = shift_of(a.scale / out.scale), shift_of(b.scale / out.scale)
        shift = max(fa, fb, 0)
        ma, mb = 1 << (shift - fa), 1 << (shift - fb)
    elif scheme == "affine":
        largest = max(a.scale, b.scale) / out.scale
        _, shift = normalized(largest, ADD_MULTIPLIER_BITS)
        ma, mb = (round(s / out.scale * 2.0**shift) for s in (a.scale, b.scale))
    else:  # pytorch_qnnp_compute_add_quantization_params in QNNPACK's requantization.h
        ra, rb = (np.float32(s) / np.float32(out.scale) for s in (a.scale, b.scale))
        shift = 21 - (int(np.frexp(max(ra, rb))[1]) - 1)
        ma, mb = (int(np.rint(np.float32(r) * np.float32(2.0**shift))) for r in (ra, rb))
    if max(ma, mb) >= 1 << 22 or not 0 <= shift <= 31:
        raise HlsgenError(
            f"an addition of scales {a.scale!r} + {b.scale!r} -> {out.scale!r} is out of range; recalibrate"
        )
    return Addition(scheme, out, ma, mb, -(ma * a.zero_point + mb * b.zero_point), shift)


def add(a: Ints, b: Ints, constants: Addition) -> Ints:
    """Apply `constants` to two int64 arrays of equal shape."""
    total = a * constants.a_multiplier + b * constants.b_multiplier + constants.offset
    rounded = (
        round_shift_away(total, constants.shift)
        if constants.scheme == "native"
        else round_shift_even(total, constants.shift)
    )
    return np.clip(rounded + constants.out.zero_point, constants.out.low, constants.out.high)


def activation_table(kind: str, parameter: float, pre: TensorQ, out: TensorQ, scheme: Scheme) -> npt.NDArray[np.int8]:
    """The activation as a table: entry i is the output for the pre-activation pre.low + i; int8 [2**pre.bits].

    clamp(round_even(f(pre.scale * (q - pre.zero_point)) / out.scale) + out.zero_point), f in float64; in `native` by
    PyTorch's own float32 kernels, as its converted model computes it.
    """
    q = np.arange(pre.low, pre.high + 1, dtype=np.int64)
    if scheme == "native":
        return _torch_table(kind, parameter, q, pre, out)
    x = pre.scale * (q - pre.zero_point).astype(np.float64)
    y = np.rint(_function(kind, parameter, x) / out.scale).astype(np.int64) + out.zero_point
    return np.clip(y, out.low, out.high).astype(np.int8)


def _function(kind: str, parameter: float, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    import math

    if kind in ("silu", "sigmoid"):
        with np.errstate(over="ignore"):  # exp(-x) is infinite far below zero: a sigmoid of zero
            return np.asarray((x if kind == "silu" else 1) / (1 + np.exp(-x)))
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "leaky_relu":
        return np.where(x >= 0, x, x * parameter)
    if kind == "hardswish":
        return x * np.clip(x + 3, 0, 6) / 6
    if kind == "gelu":
        return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    if kind == "identity":
        return x
    raise HlsgenError(
        f"activation {kind!r} is unknown; known are silu, sigmoid, relu, leaky_relu, hardswish, gelu, identity"
    )


def _torch_table(kind: str, parameter: float, q: Ints, pre: TensorQ, out: TensorQ) -> npt.NDArray[np.int8]:
    import warnings

    import torch
    from torch.nn import functional as F

    functions: dict[str, Any] = {
        "silu": F.silu,
        "sigmoid": torch.sigmoid,
        "relu": F.relu,
        "leaky_relu": lambda v: F.leaky_relu(v, parameter),
        "hardswish": F.hardswish,
        "gelu": F.gelu,
        "identity": lambda v: v,
    }
    u8 = torch.from_numpy((q + 128).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # PyTorch's quantized tensors are deprecated, and what we reproduce
        x = torch._make_per_tensor_quantized_tensor(u8, pre.scale, pre.zero_point + 128).dequantize()
        y = torch.quantize_per_tensor(functions[kind](x), out.scale, out.zero_point + 128, torch.quint8)
    return (y.int_repr().numpy().astype(np.int64) - 128).astype(np.int8)
