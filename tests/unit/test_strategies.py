"""Every strategy on a small network: executable, saved and read again, honest about its size and the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hlsgen.errors import HlsgenError
from hlsgen.quantize import Reference
from hlsgen.quantize.quantized import Quantized, is_quantized, read, write
from hlsgen.quantize.strategies import REGISTRY, Strategy, Task, find, for_engine, runnable
from hlsgen.quantize.structure import is_tensor
from tests.quantize_nets import mixed, photographs

EVERY = [
    "fp32",
    "fp16",
    "bf16",
    "minifloat",
    "minifloat:e5m2",
    "minifloat:e3m2",
    "dynamic",
    "static",
    "affine",
    "affine:w4",
]
EVERY += ["rescaled", "fixed", "fixed:w6", "mixed", "mixed:dsp0.9", "trainable-fixed"]
MODEL = {
    "name": "mixed",
    "task": "none",
    "classes": [],
    "strides": [],
    "reg_max": 0,
    "weights": "test",
    "notice": None,
}


def task(count: int = 3) -> Task:
    return Task(mixed(), (3, 16, 24), photographs(count))


def made(name: str) -> Quantized:
    strategy = find(name)
    if strategy.name == "trainable-fixed":
        strategy = REGISTRY["trainable-fixed"](steps=3, batch=2, size=16)  # type: ignore[call-arg]
    return strategy.quantize(task())


@pytest.mark.parametrize("name", EVERY)
def test_runs_near_the_float_network_and_is_the_same_when_read_again(name: str, tmp_path: Path) -> None:
    quantized = made(name)
    image = torch.from_numpy(photographs(1, seed=9)[0])[None]
    got, values = quantized.executable(image), quantized.executable.values(image)
    wanted = mixed()(image)
    # 4-bit weights, 6-bit floats and three steps of training are coarse; the outputs' signal must still be there
    coarse = name in ("affine:w4", "minifloat:e3m2", "minifloat:e5m2", "mixed:dsp0.9")
    for y, t in zip(got, wanted, strict=True):
        assert y.dtype == torch.float32
        assert float((y - t).norm() / t.norm()) < (0.5 if coarse else 0.1)
    assert set(values) == {n.name for n in mixed().graph.nodes if is_tensor(n)}
    torch.testing.assert_close(values["a5"], got[0], rtol=0, atol=0)

    path = tmp_path / "q.pt"
    write(quantized, path, MODEL)
    assert is_quantized(path)
    again, model = read(path)
    assert model == {**MODEL, "shape": [3, 16, 24]}
    assert (again.strategy, again.parameter_bytes, again.note) == (
        quantized.strategy,
        quantized.parameter_bytes,
        quantized.note,
    )
    for y, t in zip(again.executable(image), got, strict=True):
        torch.testing.assert_close(y, t, rtol=0, atol=0)
    first = path.read_bytes()
    write(again, tmp_path / "r.pt", MODEL)
    assert (tmp_path / "r.pt").read_bytes() == first


def test_labels_are_read_as_they_are_written() -> None:
    for name in EVERY:
        strategy = find(name)
        assert find(strategy.label) == strategy
    assert find("minifloat").label == "minifloat:e4m3"
    assert find("fixed:w8").label == "fixed"
    assert find("fixed:w6a8").label == "fixed:w6"
    assert find("native").label == "static"


def test_every_strategy_says_what_it_is_and_whether_the_engine_runs_it() -> None:
    for name, kind in REGISTRY.items():
        assert kind.name == name
        assert kind.title and kind.source
        assert (kind.scheme is None) == bool(kind.missing)
    assert runnable() == ["static", "affine", "rescaled", "fixed", "mixed", "trainable-fixed"]


@pytest.mark.parametrize("name", ["static", "affine", "rescaled", "fixed", "fixed:w3", "mixed", "trainable-fixed"])
def test_what_the_engine_runs_is_a_legal_reference(name: str) -> None:
    quantized = made(name)
    spec = quantized.spec
    assert spec is not None and spec.scheme == for_engine(name).scheme
    Reference.from_spec(quantized.network, spec)  # raises where a shift or an accumulator is out of range
    if name == "fixed:w3":
        assert max(int(q.weight.max()) for q in spec.convs.values()) <= 3
        assert min(int(q.weight.min()) for q in spec.convs.values()) >= -4


def test_bytes() -> None:
    network = mixed()
    weights = sum(p.numel() for n, p in network.named_parameters() if n.endswith("weight"))
    biases = sum(p.numel() for n, p in network.named_parameters() if n.endswith("bias"))
    assert made("fp32").parameter_bytes == 4 * (weights + biases)
    assert made("fp16").parameter_bytes == 2 * (weights + biases)
    ends = sum(conv.weight.numel() for conv in (network.c1, network.c5))  # FP16
    assert made("minifloat").parameter_bytes == weights + ends + 8 * biases  # a float32 bias and scale a channel
    assert made("affine").parameter_bytes == weights + 8 * biases
    assert made("fixed").parameter_bytes == weights + 5 * biases  # an int32 bias and a shift a channel
    assert made("dynamic").parameter_bytes == weights + 4 * biases + 4 * 5  # five convolutions, a scale each


def test_the_ends_of_a_minifloat_network_are_half_precision() -> None:
    from hlsgen.quantize.executables import Simulated
    from hlsgen.quantize.minifloat import E4M3, HALF

    made_of = made("minifloat").executable
    assert isinstance(made_of, Simulated)
    halves = {name for name, rounded in made_of.rounded.items() if rounded.format == HALF}
    # what the first convolution makes and what the last one reads, which here meet in a concatenation
    assert {"a1", "a3"} <= halves
    assert {rounded.format for name, rounded in made_of.rounded.items() if name not in halves} == {E4M3}
    image = torch.from_numpy(photographs(1)[0])[None]
    values, network = made_of.values(image), mixed()
    exact = network.a1(network.c1(image))
    assert float((values["a1"] - exact).norm() / exact.norm()) < 2**-10


def test_mixed_keeps_its_budget_and_spends_it_where_it_hurts() -> None:
    strategy = find("mixed:0.6")
    damage = {
        "sturdy": {b: 4.0**-b for b in range(2, 9)},
        "tender": {b: 1e6 * 4.0**-b for b in range(2, 9)},
    }
    bits = strategy.chosen(damage, {"sturdy": 100, "tender": 100})  # type: ignore[attr-defined]
    assert bits["sturdy"] < bits["tender"]
    assert sum(bits.values()) <= 0.6 * 16
    assert sum(bits.values()) + 1 > 0.6 * 16 or bits["sturdy"] == 2
    dsp = find("mixed:dsp0.9").chosen(damage, {"sturdy": 100, "tender": 200})  # type: ignore[attr-defined]
    assert dsp == {"sturdy": 3, "tender": 8}
    with pytest.raises(HlsgenError, match=r"out of reach of mixed: the least is 0\.667"):
        find("mixed:dsp0.5").chosen(damage, {"sturdy": 100, "tender": 200})  # type: ignore[attr-defined]


def test_mixed_note_and_size() -> None:
    quantized = made("mixed:0.5")
    assert "as the engine stores them, a byte each" in quantized.note
    assert quantized.parameter_bytes < made("fixed").parameter_bytes


def test_training_brings_the_outputs_nearer() -> None:
    from hlsgen.quantize import quantize
    from hlsgen.quantize.recipe import Recipe
    from hlsgen.quantize.train import Training, trained

    recipe = Recipe(weight_bits=6, ranges="percentile", percentile=97)  # which clips far too much
    images = photographs(9)
    begun = quantize(mixed(), images[1:], "fixed", recipe=recipe)
    reference, note = trained(
        begun, images[1:], images[:1], 0, Training(60, 4, 16, 0.05, 0.05, recipe), lambda done, total: None
    )
    assert reference is not begun, note
    fresh = [torch.from_numpy(i)[None] for i in photographs(4, seed=7)]

    def error(r: Reference) -> float:
        return sum(
            float(((y - t) ** 2).mean() / t.var()) for x in fresh for y, t in zip(r(x), r.network(x), strict=True)
        )

    assert error(reference) < 0.3 * error(begun)  # on images that neither has seen
    for q in reference.spec.convs.values():
        assert int(q.weight.min()) >= -32 and int(q.weight.max()) <= 31
        assert np.array_equal(np.exp2(np.rint(np.log2(q.weight_scale))), q.weight_scale)


def test_the_distance_of_outputs_that_are_nearly_equal_is_exact() -> None:
    from hlsgen.quantize.train import distance

    generator = torch.Generator().manual_seed(0)
    box, noise = torch.randn(2, 64, 80, 80, generator=generator), torch.randn(2, 80, 80, 80, generator=generator)
    score_t = 2 * noise - 7  # as a detector has it: half a million scores, nearly all of them silent
    score = score_t + 0.01 * torch.randn(score_t.shape, generator=generator)
    p, q = torch.sigmoid(score_t.double()), torch.sigmoid(score.double())
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / 2
    assert float(distance((box, score), (box, score_t), 16)) == pytest.approx(float(wanted), rel=1e-3)
    assert float(distance((box, score_t), (box, score_t), 16)) == pytest.approx(0, abs=1e-4)


def test_training_that_makes_it_worse_is_thrown_away() -> None:
    from hlsgen.quantize import quantize
    from hlsgen.quantize.recipe import Recipe
    from hlsgen.quantize.train import Training, trained

    images = photographs(9)
    begun = quantize(mixed(), images[1:], "fixed")
    reference, note = trained(
        begun, images[1:], images[:1], 0, Training(5, 4, 16, 20.0, 20.0, Recipe()), lambda done, total: None
    )
    assert reference is begun
    assert note.endswith("left as it was")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ([-0.1, -0.2, -0.1, -0.2], True),
        ([-0.3, 0.2, -0.3, 0.2], False),  # nearer on average, by what chance would do as well
        ([0.1, 0.2, 0.1, 0.2], False),
        ([0.0, 0.0, 0.0, 0.0], False),
        ([-0.1], True),
    ],
)
def test_training_is_kept_where_the_images_held_out_agree(change: list[float], kept: bool) -> None:
    from hlsgen.quantize.train import surely_less

    before = np.log(np.arange(1.0, len(change) + 1))
    assert surely_less(before + change, before) is kept


def test_learned_scales_of_a_rescaled_network_still_only_shift() -> None:
    from hlsgen.quantize import quantize
    from hlsgen.quantize.recipe import Recipe
    from hlsgen.quantize.train import _Student

    recipe = Recipe(rescale=True)
    begun = quantize(mixed(), photographs(3), "fixed", recipe=recipe)
    student = _Student(begun, recipe)
    image = torch.from_numpy(photographs(1)[0])[None]
    with torch.no_grad():
        for got, wanted in zip(student(image), begun(image), strict=True):  # it begins as what it begins with
            assert float((got - wanted).abs().max()) <= 0.02 * float(wanted.abs().max())
        for point in student.points.values():
            point += float(torch.rand(())) - 0.3
    spec = student.spec()
    assert any(spec.tensors[n].scale != q.scale for n, q in begun.spec.tensors.items())
    moved = Reference.from_spec(begun.network, spec, begun.shape)  # raises where a ratio is no power of two
    with torch.no_grad():
        for got, wanted in zip(moved(image), student(image), strict=True):
            assert float((got - wanted).norm() / wanted.norm()) < 0.05


def test_what_training_does_not_help_is_the_network_calibrated_on_all() -> None:
    strategy = REGISTRY["trainable-fixed"](steps=2, batch=2, size=16, rate=50.0, scales=50.0)  # type: ignore[call-arg]
    quantized, plain = strategy.quantize(task(5)), find("rescaled").quantize(task(5))
    assert quantized.note.endswith("left as it was")
    assert quantized.spec is not None and plain.spec is not None
    assert dict(quantized.spec.tensors) == dict(plain.spec.tensors)
    for name, q in plain.spec.convs.items():
        assert np.array_equal(quantized.spec.convs[name].weight, q.weight)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixd", "strategy 'fixd' is unknown; did you mean fixed"),
        ("trainable", "did you mean trainable-fixed"),
        ("fixed:w9", "weights have 2 to 8 bits, got 9"),
        ("fixed:w1", "weights have 2 to 8 bits, got 1"),
        ("fixed:w6a4", "activations have 8 bits in fixed, the engine's width; got 4"),
        ("fixed:e4m3", "does not know 'e4m3': its variants are w2 to w8"),
        ("fp16:w4", "it has no variants"),
        ("static:w4", "it has no variants"),
        ("minifloat:e9m3", "1 to 8 exponent and 0 to 23 mantissa bits, got e9m3"),
        ("minifloat:e1m0", "3 bits or more"),
        ("minifloat:w4", "e4m3, e5m2 and the like"),
        ("mixed:2", "above 0 and at most 1"),
        ("mixed:half", "0.75 of the bytes or dsp0.75"),
    ],
)
def test_bad_names(text: str, said: str) -> None:
    with pytest.raises(HlsgenError, match=said.replace("(", r"\(")):
        find(text)


@pytest.mark.parametrize("name", [n for n, c in REGISTRY.items() if c.scheme is None])
def test_what_the_engine_cannot_run_is_said(name: str) -> None:
    strategy: Strategy = find(name)
    with pytest.raises(
        HlsgenError, match=f"cannot run strategy {strategy.name}: its .*; it runs static, affine, rescaled, fixed"
    ):
        for_engine(name)


@pytest.mark.parametrize("damage", ["missing", "truncated", "nonsense", "another", "scheme", "weights"])
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "q.pt"
    write(made("fixed"), path, MODEL)
    held = torch.load(path, weights_only=True)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "nonsense":
        path.write_bytes(b"nothing")
    elif damage == "another":
        torch.save({"model": torch.zeros(3)}, path)
    elif damage == "scheme":
        torch.save({**held, "facts": held["facts"].replace('"scheme": "fixed"', '"scheme": "int4"')}, path)
    else:
        held["tensors"]["c1/weight"] = held["tensors"]["c1/weight"].float()
        torch.save(held, path)
    with pytest.raises(HlsgenError, match="quantized network"):
        read(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HlsgenError, match="choose another --out"):
        write(made("fp32"), tmp_path / "file" / "q.pt", MODEL)
