"""One count of multiply-accumulates: of the loaded network, of its layers' rows, of the Program, of the estimate."""

import numpy as np
import pytest
import torch
from torch import fx

from hlsgen import targets
from hlsgen.cost.assumed import assumed_graph
from hlsgen.cost.schedule import schedule
from hlsgen.frontend.onnx_write import attention_macs, shapes
from hlsgen.macs import idle_channels
from hlsgen.models import load
from hlsgen.models.attention import attention_scores
from hlsgen.models.relative import place_map
from hlsgen.quantize.spec import Scheme
from hlsgen.report.layers import layer_facts


@pytest.mark.parametrize(
    ("model", "scheme"), [("yolov8n", "affine"), ("sam_tiny", "fixed"), ("sam_tiny", "dynamic"), ("yolo11n", "affine")]
)
def test_all_say_the_same(model: str, scheme: Scheme) -> None:
    """A stem folded, relative positions in windows and over all tokens, SAM's decoder."""
    size = (64, 96) if model.startswith("yolo") else None
    loaded = load(model, "random", size, apart=scheme == "dynamic")
    design = schedule(assumed_graph(loaded.network, loaded.shape, scheme), targets.find("xc7z020"))
    counted = round(loaded.gmacs() * 1e9)
    assert design.program.macs() == counted
    assert sum(layer["macs"] for layer in design.estimate["layers"]) == counted
    known = shapes(loaded.network, loaded.shape)
    tensors = dict.fromkeys(known, type("Q", (), {"bits": 8, "scale": 1.0, "zero_point": 0})())
    assert sum(row.macs for row in layer_facts(loaded.network, known, tensors, {}, {})) == counted  # type: ignore[arg-type]


def test_a_constants_zeros() -> None:
    places = place_map(3, (6, 6), 0)[0].numpy()
    assert idle_channels(places) == 2
    assert idle_channels(places.astype(np.int8) * 100 - 7, -7) == 2
    assert idle_channels(places.astype(np.int8) * 100, -7) == 0  # none is the zero point
    assert idle_channels(np.ones((1, 4, 4))) == 0
    assert idle_channels(np.zeros((3, 4, 4))) == 0  # says no place


def test_keys_that_say_where_they_lie_by_hand() -> None:
    """6 x 6 tokens, 2 heads of 5 channels: each key has 5 of its own, and one 1 for its row, of 6."""
    graph, root = fx.Graph(), torch.nn.Module()
    q, k = graph.placeholder("q"), graph.placeholder("k")
    root.register_buffer("rows", place_map(6, (6, 6), 0))
    rows = graph.get_attr("rows")
    halves = graph.call_function(torch.split, (k, [5, 5], 1))
    parts = [graph.call_function(lambda x, i: x[i], (halves, i)) for i in range(2)]
    keys = graph.call_function(torch.cat, ([rows, parts[0], rows, parts[1]], 1))
    scores = graph.call_function(attention_scores, (q, keys, 2))
    graph.output(scores)
    known = {q.name: (22, 6, 6), keys.name: (22, 6, 6)}
    assert attention_macs(fx.GraphModule(root, graph), scores, known) == 36 * 36 * 2 * (5 + 1)
