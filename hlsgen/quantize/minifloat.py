"""Floating-point formats of few bits, and rounding to them.

Encoding and conversion follow the OCP 8-bit Floating Point Specification (OFP8, revision 1.0) and, below 8 bits, the OCP
Microscaling Formats specification (MX, 1.0): a sign, `exponent` bits biased by 2^(exponent - 1) - 1, `mantissa` bits,
subnormals below the smallest normal number, conversion to nearest with ties to even. What the largest codes mean:

- five exponent bits and more (E5M2, half, bfloat16): as IEEE 754, the largest exponent is infinity and NaN;
- else 8 bits and more (E4M3): no infinity; all ones is NaN, every other code a number (largest of E4M3: 448);
- else (E3M2, E2M3, E2M1): every code is a number.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from hlsgen.errors import HlsgenError

FLOAT_MANTISSA = 23
EXPONENTS = range(1, 9)
MANTISSAS = range(0, 24)


@dataclass(frozen=True)
class Minifloat:
    """A format of 1 + exponent + mantissa bits.

    Raises:
        HlsgenError: more than a float32 has, or so few that nothing but zero is left.
    """

    exponent: int
    mantissa: int

    def __post_init__(self) -> None:
        if self.exponent not in EXPONENTS or self.mantissa not in MANTISSAS:
            raise HlsgenError(
                f"a floating-point format has 1 to 8 exponent and 0 to 23 mantissa bits, got e{self.exponent}m{self.mantissa}"
            )
        if self.exponent + self.mantissa < 2:
            raise HlsgenError("a floating-point format has 3 bits or more, got e1m0")

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def specials(self) -> Literal["ieee", "nan", "none"]:
        """What the largest codes mean: infinity and NaN, one NaN, or numbers."""
        if self.exponent >= 5:
            return "ieee"
        return "nan" if self.bits >= 8 else "none"

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def smallest_exponent(self) -> int:
        """Of normal numbers: those below 2^this are subnormal."""
        return 1 - self.bias

    @cached_property
    def largest(self) -> float:
        """The largest finite number."""
        top, fraction = (1 << self.exponent) - 1, (1 << self.mantissa) - 1
        if self.specials == "ieee":
            top -= 1
        elif self.specials == "nan":
            fraction -= 1  # never with mantissa 0: eight bits of it have seven of exponent, which is IEEE
        return float((1 + fraction * 2.0**-self.mantissa) * 2.0 ** (top - self.bias))

    @property
    def step(self) -> float:
        """The smallest positive number: the distance of subnormal ones."""
        return 2.0 ** (self.smallest_exponent - self.mantissa)

    def round(self, x: Tensor, saturate: bool = True) -> Tensor:
        """float32 of any shape -> the nearest numbers of the format, float32.

        saturate: what lies beyond the largest number becomes it (OFP8's saturating conversion, in which infinity does so
        too); else infinity where the format has one, NaN where it has only that. NaN stays NaN.

        Raises:
            HlsgenError: not saturating, where the format has neither infinity nor NaN.
        """
        if not saturate and self.specials == "none":
            raise HlsgenError(f"e{self.exponent}m{self.mantissa} has neither infinity nor NaN: it can only saturate")
        if self.mantissa == FLOAT_MANTISSA and self.exponent == 8:
            return x.clone()
        y = torch.where(x.abs() < 2.0**self.smallest_exponent, self._subnormal(x), self._normal(x))
        if saturate:
            return torch.where(torch.isnan(x), x, y.clamp(-self.largest, self.largest))
        beyond = float("inf") if self.specials == "ieee" else float("nan")
        return torch.where(y.abs() > self.largest, torch.copysign(torch.full_like(x, beyond), x), y)

    def _subnormal(self, x: Tensor) -> Tensor:
        # in float64, where both the quotient and the product are exact
        return (torch.round(x.double() / self.step) * self.step).float()

    def _normal(self, x: Tensor) -> Tensor:
        """Half to even in the bits: a carry out of the mantissa is the next exponent, as it should be."""
        dropped = FLOAT_MANTISSA - self.mantissa
        if dropped == 0:
            return x
        held = x.view(torch.int32)
        half = (1 << (dropped - 1)) - 1
        rounded = (held + half + ((held >> dropped) & 1)) & -(1 << dropped)
        return torch.where(torch.isfinite(x), rounded.view(torch.float32), x)


E4M3 = Minifloat(4, 3)
E5M2 = Minifloat(5, 2)
HALF = Minifloat(5, 10)
BFLOAT16 = Minifloat(8, 7)
