"""network.json: what the driver must know of the network, and where its tensors lie in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import PackageError
from .prompts import Prompting

FORMAT = 2
EXTENT_BYTES = 64


class Tensor:
    """A feature map in memory: [blocks][height][width][TM] int8, channel `lanes[i]` in physical lane i (-1: none).

    element: an element's bytes; of 4 it is a float32, else it stands for scale * (q - zero_point). fold: 2 where 2x2 pixels of
    the image were folded into channels, in the order (channel, row, column). expected: where golden/expected.bin has it, None
    where nothing is compared with it. Tensors that are never needed at once may lie in the same place.
    """

    def __init__(self, row: dict[str, Any], tm: int) -> None:
        self.name: str = row["name"]
        self.address: int = row["address"]
        self.expected: int | None = row["expected"]
        self.channels: int = row["channels"]
        self.height: int = row["height"]
        self.width: int = row["width"]
        self.fold: int = row["fold"]
        self.scale: float = row["scale"]
        self.zero_point: int = row["zero_point"]
        self.element: int = row.get("element", 1)
        self.kind: type = np.float32 if self.element == 4 else np.int8
        self.lanes = np.array(row["lanes"], np.int64)
        self.tm = tm
        self.lane_of = np.zeros(self.channels, np.int64)
        self.lane_of[self.lanes[self.lanes >= 0]] = np.flatnonzero(self.lanes >= 0)

    @property
    def bytes(self) -> int:
        return len(self.lanes) * self.height * self.width * self.element

    @property
    def packed_bytes(self) -> int:
        """Of what `pack` gives."""
        return self.bytes + (EXTENT_BYTES if self.element == 4 else 0)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """[C, H, W] int8 (not folded) or float32 to the bytes in memory, int8, flat; lanes without a channel hold 0.

        Behind floats stand the least and the largest of them, zero among them, which the engine reads.
        """
        if self.fold > 1:
            c, h, w = values.shape
            f = self.fold
            values = values.reshape(c, h // f, f, w // f, f).transpose(0, 2, 4, 1, 3).reshape(c * f * f, h // f, w // f)
        values = values.astype(self.kind)
        full = np.concatenate([values, np.zeros((1, *values.shape[1:]), self.kind)])  # lane -1 takes the zeros
        blocks = full[self.lanes].reshape(-1, self.tm, self.height, self.width)
        data = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1)).reshape(-1).view(np.int8)
        if self.element == 1:
            return data
        extent = np.zeros(EXTENT_BYTES // 4, np.float32)
        extent[:2] = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        return np.concatenate([data, extent.view(np.int8)])

    def unpack(self, data: np.ndarray) -> np.ndarray:
        """The bytes in memory (flat) to [C, H, W] int8 or float32; folded pixels stay folded."""
        blocks = data.view(self.kind).reshape(-1, self.height, self.width, self.tm).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(blocks.reshape(len(self.lanes), self.height, self.width)[self.lane_of])

    def integers(self, values: np.ndarray) -> np.ndarray:
        """Numbers, float32, to the integers that stand for them, int8: ties to even, clipped; of a float32 tensor as they are."""
        if self.element == 4:
            return values.astype(np.float32)
        scaled = np.rint(values / np.float32(self.scale)) + np.float32(self.zero_point)
        return np.clip(scaled, -128, 127).astype(np.int8)

    def real(self, values: np.ndarray) -> np.ndarray:
        """Integers to the numbers they stand for, float32."""
        return (self.scale * (values.astype(np.float64) - self.zero_point)).astype(np.float32)


class Head(NamedTuple):
    """What a detector's raw maps mean: a box and a class map a stride."""

    strides: tuple[int, ...]
    reg_max: int
    classes: tuple[str, ...]


class Network:
    """The content of network.json.

    tensors: in order of computation, the inputs first. inputs: the image, then what else there is (a prompt), one behind the
    other in memory. made: what op i makes. once: how many ops depend on the image alone. levels: the image's integer for each
    8-bit value of a pixel, int8 [256]; None where the network takes no pictures. prompting: of a SAM, else None.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        if found["format"] != FORMAT:
            raise PackageError(
                "network.json has format {}, this driver reads format {}; take driver and network.json from one build".format(
                    found["format"], FORMAT
                )
            )
        self.model: str = found["model"]
        self.target: str = found["target"]
        self.clock_mhz: float = found["clock_mhz"]
        self.cores: int = found["cores"]
        self.top: str = found["top"]
        self.identity = int(found["identity"], 16)
        self.program_sha256: str = found["program_sha256"]
        self.parameter_bytes: int = found["parameters"]["bytes"]
        self.parameter_sha256: str = found["parameters"]["sha256"]
        self.feature_map_bytes: int = found["feature_map_bytes"]
        self.expected_bytes: int = found["expected_bytes"]
        self.size: tuple[int, int] = (found["image"]["size"][1], found["image"]["size"][2])
        levels = found["image"]["levels"]
        self.levels: np.ndarray | None = np.array(levels, np.int8) if levels else None
        # (first byte among the feature maps, first byte among the parameters, bytes) of maps that nothing computes
        self.constants: list[tuple[int, int, int]] = [
            (row["feature_map"], row["parameter"], row["bytes"]) for row in found.get("constants", [])
        ]
        self.tensors: list[Tensor] = [Tensor(row, found["tm"]) for row in found["tensors"]]
        count = len(found.get("inputs", [""]))
        self.inputs, self.made = self.tensors[:count], self.tensors[count:]
        self.once: int = found.get("once", len(self.made))
        named = {tensor.name: tensor for tensor in self.tensors}
        self.outputs: list[Tensor] = [named[name] for name in found["outputs"]]
        self.prompting = Prompting(found["prompting"]) if "prompting" in found else None
        head = found["head"]
        self.head: Head | None = None
        if head is not None:
            self.head = Head(tuple(head["strides"]), head["reg_max"], tuple(head["classes"]))

    @property
    def image(self) -> Tensor:
        return self.tensors[0]

    @property
    def input_bytes(self) -> int:
        return sum(tensor.packed_bytes for tensor in self.inputs)

    @property
    def ops(self) -> int:
        return len(self.made)


def read_network(path: Path) -> Network:
    """Read network.json.

    Raises:
        PackageError: it is missing or damaged.
    """
    try:
        return Network(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error.strerror}); copy the whole package") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PackageError(f"{path} is damaged; copy the package again") from error
