"""report.json's shape (docs/report.md describes every key)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["exact", "mismatch", "not run"]
Rows = dict[str, Any]


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerFacts(Facts):
    """One tensor of the network, in the order in which it is computed."""

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int
    scale: float
    zero_point: int
    macs: int
    sqnr_db: float | None
    mismatches: int | None


class QuantizationFacts(Facts):
    images: int
    source: str
    pre_bits: int
    tensors: int
    convs: int
    sqnr_db_min: float | None
    sqnr_db_min_at: str | None
    sqnr_db_outputs: dict[str, float | None]


class Difference(Facts):
    """The first element that is not as it must be; index is [channel, row, column]."""

    op: str
    index: tuple[int, ...]
    expected: int | float
    got: int | float
    ops_affected: int


class CsimFacts(Facts):
    ops: int
    tensors: int
    elements: int
    mismatches: int
    seconds: float
    compile_seconds: float
    gmacs_per_second: float
    types: Literal["fast", "strict"]
    values: Literal["integers", "floats"] = "integers"
    streams: dict[str, dict[str, int]] | None = None
    first: Difference | None = None


class Box(Facts):
    """One detection, in pixels of the letterboxed picture: x1, y1, x2, y2."""

    name: str
    score: float
    box: tuple[float, float, float, float]


class ReportFacts(Facts):
    """Everything that report.json holds and report.html shows."""

    verdict: Verdict
    model: str
    part: str
    arch: str
    scheme: str
    imgsz: tuple[int, int]
    gmacs: float
    params: int
    weights: str
    notice: str
    classes: tuple[str, ...]
    quantization: QuantizationFacts | None = None
    csim: CsimFacts | None = None
    onnx: Rows | None = None
    engine: Rows | None = None
    estimate: Rows | None = None
    reports: Rows | None = None
    detections: dict[str, tuple[Box, ...]] | None = None
    masks: Rows | None = None
    layers: tuple[LayerFacts, ...] = ()
    stages: dict[str, float] = {}
    versions: dict[str, str] = {}
    files: dict[str, str] = {}
