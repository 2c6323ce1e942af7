"""Bad input to quantization and evaluation: one sentence, HlsgenError."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hlsgen.errors import HlsgenError
from hlsgen.quantize import Reference, load_reference, quantize
from hlsgen.quantize.spec import ConvQ, QuantSpec, TensorQ
from tests.quantize_nets import mixed, photographs, traced


def bad_images() -> list[tuple[list[npt.NDArray[np.float32]], str]]:
    nan = photographs(1)[0]
    nan[0, 3, 3] = np.nan
    return [
        ([], "at least one image, got none"),
        ([nan], "finite activations, got NaN or infinity at image"),
        ([photographs(1)[0].astype(np.float64)], "float32 images"),
        ([photographs(1)[0][0]], "float32 images"),
        ([*photographs(1), *photographs(1, (3, 8, 8))], "images of one shape"),
    ]


@pytest.mark.parametrize(("images", "said"), bad_images())
@pytest.mark.parametrize("scheme", ["fixed", "native"])
def test_images(images: list[npt.NDArray[np.float32]], said: str, scheme: str) -> None:
    with pytest.raises(HlsgenError, match=said):
        quantize(mixed(), images, scheme)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_nan_weights(part: str) -> None:
    network = mixed()
    network.get_parameter(f"c2.{part}")[0] = float("nan")
    with pytest.raises(HlsgenError, match="c2"):
        quantize(network, photographs(1), "fixed")


def test_options() -> None:
    with pytest.raises(HlsgenError, match="unknown scheme 'int4'"):
        quantize(mixed(), photographs(1), "int4")  # type: ignore[arg-type]
    for bits in (7, 17):
        with pytest.raises(HlsgenError, match=f"got {bits}"):
            quantize(mixed(), photographs(1), "fixed", pre_bits=bits)


def spec() -> QuantSpec:
    return quantize(mixed(), photographs(1), "affine").spec


def test_a_spec_that_does_not_fit() -> None:
    network, good = mixed(), spec()
    without = {n: q for n, q in good.tensors.items() if n != "add"}
    with pytest.raises(HlsgenError, match="no scale for add"):
        Reference.from_spec(network, dataclasses.replace(good, tensors=without))
    unequal = {**good.tensors, "getitem": TensorQ(0.5, 3)}
    with pytest.raises(HlsgenError, match=r"need one scale, got 0\.5 \(zero point 3, 8 bits\)"):
        Reference.from_spec(network, dataclasses.replace(good, tensors=unequal))
    convs = {n: q for n, q in good.convs.items() if n != "c3"}
    with pytest.raises(HlsgenError, match="for c3"):
        Reference.from_spec(network, dataclasses.replace(good, convs=convs))
    small = ConvQ(good.convs["c3"].weight[:1], good.convs["c3"].weight_scale, good.convs["c3"].bias)
    with pytest.raises(HlsgenError, match="for c3"):
        Reference.from_spec(network, dataclasses.replace(good, convs={**good.convs, "c3": small}))


def test_fixed_needs_ratios_of_powers_of_two() -> None:
    with pytest.raises(HlsgenError, match="ratios of powers of two"):
        Reference.from_spec(mixed(), dataclasses.replace(spec(), scheme="fixed"))


class TwoTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Sigmoid()

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(self.conv(image)))  # type: ignore[no-any-return]


def test_native_refuses_what_pytorch_leaves_in_float() -> None:
    network = traced(TwoTables())
    with pytest.raises(HlsgenError, match="native cannot quantize the input of second"):
        quantize(network, photographs(1), "native")
    quantize(network, photographs(1), "affine")


def test_native_leaves_the_engine_as_it_was() -> None:
    before = torch.backends.quantized.engine
    quantize(mixed(), photographs(1), "native")(photographs(1)[0])
    assert torch.backends.quantized.engine == before


def test_one_image_at_a_time() -> None:
    reference = quantize(mixed(), photographs(1), "fixed")
    with pytest.raises(HlsgenError, match="one float32 image"):
        reference(torch.zeros(2, 3, 16, 16))
    with pytest.raises(HlsgenError, match="finite"):
        reference(torch.full((1, 3, 16, 16), float("inf")))


@pytest.mark.parametrize("file", ["spec.json", "spec.npz", "network.onnx"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense"])
def test_damaged_folders(tmp_path: Path, file: str, damage: str) -> None:
    quantize(mixed(), photographs(1), "fixed").save(tmp_path)
    path = tmp_path / file
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b'{"scheme": 3}')
    with pytest.raises(HlsgenError):
        load_reference(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HlsgenError, match="another output folder"):
        quantize(mixed(), photographs(1), "fixed").save(tmp_path / "file")
