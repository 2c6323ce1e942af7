"""SAM checkpoints: which one it is, what is wrong with it, where it comes from."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hlsgen.errors import HlsgenError
from hlsgen.models import download
from hlsgen.models.download import Published
from hlsgen.models.sam import load as loading
from hlsgen.models.sam.checkpoint import read
from hlsgen.models.sam.config import TINY, VARIANTS
from hlsgen.models.sam.load import load, random
from tests.unit.test_models_download import Server, cached, server

__all__ = ["server"]  # a fixture

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(random(TINY).state)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[object], Path]:
    def write(held: object) -> Path:
        torch.save(held, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


def refused(sentence: str, action: Callable[[], object]) -> None:
    with pytest.raises(HlsgenError) as caught:
        action()
    assert sentence in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_demo_is_the_tiny_sam() -> None:
    assert load("sam_tiny").config == load("sam", "demo").config == TINY


def test_half_precision_and_wrapped_weights(state: State, written: Callable[[object], Path]) -> None:
    halves = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    found = read(written({"model": halves, "epoch": 3}))
    assert found.config == TINY
    name = "image_encoder.blocks.0.attn.qkv.weight"
    assert found.state[name].dtype == torch.float32
    assert torch.equal(found.state[name], state[name].half().float())


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_another_variant_is_named(name: str, state: State, written: Callable[[object], Path]) -> None:
    path = written(state)
    refused(f"expected {name}, it holds sam_tiny; say hlsgen build sam_tiny", lambda: load(name, str(path)))
    assert load("sam", str(path)).config == TINY  # any SAM will do for "sam"


def test_what_is_wrong_with_a_checkpoint_is_said(
    state: State, written: Callable[[object], Path], tmp_path: Path
) -> None:
    refused("expected a file, there is none", lambda: read(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("no archive")
    refused("expected a torch.save file", lambda: read(tmp_path / "text.pth"))
    whole = written(state).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    refused("truncated", lambda: read(tmp_path / "cut.pth"))
    refused("refused, it names 'pathlib.PosixPath'", lambda: read(written({"x": tmp_path})))
    refused("it holds a list", lambda: read(written([1, 2])))
    refused("expected a SAM checkpoint", lambda: read(written({"weight": torch.zeros(3)})))
    lacking = {k: v for k, v in state.items() if k != "mask_decoder.iou_token.weight"}
    refused("it looks like sam_tiny, but lacks mask_decoder.iou_token.weight", lambda: read(written(lacking)))
    shaped = state | {"mask_decoder.mask_tokens.weight": torch.zeros(5, 64)}
    refused("but mask_decoder.mask_tokens.weight is 5x64, expected 4x64", lambda: read(written(shaped)))
    more = state | {"mask_decoder.hf_token.weight": torch.zeros(1, 64)}
    refused("also holds mask_decoder.hf_token.weight", lambda: read(written(more)))
    infinite = state | {"mask_decoder.iou_token.weight": torch.full((1, 64), torch.inf)}
    refused("mask_decoder.iou_token.weight is not finite", lambda: read(written(infinite)))
    short = {k: v for k, v in state.items() if ".blocks.3." not in k}
    refused(
        "a SAM encoder of 96 channels and 3 blocks on 16x16 tokens is unknown; known are", lambda: read(written(short))
    )


def test_weights_that_a_name_does_not_take() -> None:
    refused("the demo weights are for sam_tiny, got sam_vit_b", lambda: load("sam_vit_b", "demo"))
    refused("a .pth model has its weights in it", lambda: load("a.pth", "b.pth"))
    refused("expects a whole number as seed, got 'x'", lambda: load("sam_tiny", "random:x"))


def test_random_weights_have_a_seed() -> None:
    a, b, c = (load("sam_tiny", w).state["mask_decoder.iou_token.weight"] for w in ("random", "random:0", "random:1"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_download_is_checked_against_the_known_checksum(
    server: Server, state: State, written: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(state).read_bytes()
    file = "sam_vit_b_01ec64.pth"
    server.files = {f"/{file}": data}
    refused("the file is damaged or not the published one", lambda: load("sam"))
    assert cached() == []
    monkeypatch.setitem(VARIANTS, "sam_vit_b", TINY)  # what the server has passes for a ViT-B
    known = Published(file, "http://published.invalid", hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(loading.PUBLISHED, TINY.name, known)
    assert load("sam_vit_b", str(written(state))).config == TINY
    monkeypatch.setattr(loading, "TINY", None)
    assert torch.equal(load("sam_vit_b").state["image_encoder.pos_embed"], state["image_encoder.pos_embed"])
    assert cached() == [file]
    asked = len(server.asked)
    load("sam_vit_b")
    assert len(server.asked) == asked


def test_offline_says_what_to_do(server: Server) -> None:
    refused("sam_vit_h_4b8939.pth is not on this machine and could not be downloaded", lambda: load("sam_vit_h"))


def test_published_names_carry_their_md5_and_checksums_are_whole() -> None:
    assert {p.file for p in loading.PUBLISHED.values()} == {
        "sam_vit_b_01ec64.pth",
        "sam_vit_l_0b3195.pth",
        "sam_vit_h_4b8939.pth",
    }
    assert all(len(bytes.fromhex(p.sha256 or "")) == 32 for p in loading.PUBLISHED.values())
    assert download.MAX_BYTES > 2_564_550_879  # the ViT-H checkpoint


def test_weights_of_another_variant_are_refused(state: State, written: Callable[[object], Path]) -> None:
    refused("expected sam_vit_l, it holds sam_tiny", lambda: load("sam_vit_l", str(written(state))))
