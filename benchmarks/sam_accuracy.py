"""The bundled tiny SAM on generated images it has never seen: float, both INT8 schemes, ONNX, PyTorch's own dynamic INT8.

    python benchmarks/sam_accuracy.py [--images 64] [--threads 1]
    python benchmarks/sam_accuracy.py --model sam_vit_b --weights sam_vit_b_01ec64.pth --images 1

Prints one JSON object: mean IoU with the truth for box and point prompts; and how near each INT8 model is to what it
should equal (SQNR of the embeddings in dB, mean and least IoU of the masks).
"""

import argparse
import json
import tempfile
import time
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hlsgen.backend.frontend_layers import layer_list
from hlsgen.backend.graph import model_graph, run_passes
from hlsgen.frontend.onnx_tokens import sam_session, write_sam
from hlsgen.models.demo.shapes import CALIB_SEED
from hlsgen.models.sam.checkpoint import Checkpoint
from hlsgen.models.sam.evaluate import accuracy, generated, likeness
from hlsgen.models.sam.load import load
from hlsgen.models.sam.model import Sam, dynamic_sam, fixed_sam, float_sam, levels
from hlsgen.models.sam.network import encoder_network, linears
from hlsgen.models.sam.original import original
from hlsgen.program import golden
from hlsgen.program.lower import lower
from hlsgen.program.ops import EngineConfig
from hlsgen.quantize.dynamic_network import DynamicReference, dynamic_spec


def pytorchs(held: Checkpoint) -> Sam:
    """segment_anything's own model through ``torch.ao.quantization.quantize_dynamic``, engine qnnpack."""
    torch.backends.quantized.engine = "qnnpack"
    model = original(held.config)
    model.load_state_dict(dict(held.state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    side = held.config.grid

    def decoded(embedding: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, side, side)
        position = model.prompt_encoder.get_dense_pe()
        masks, quality = model.mask_decoder.predict_masks(embedding, position, tokens, dense)
        return masks.flatten(2)[None], quality[None]

    return Sam(held.config, held.state, lambda image: (model.image_encoder(image),), decoded)


def on_the_engine(held: Checkpoint) -> Sam:
    """Scheme dynamic as the engine computes it (docs/arithmetic-dynamic.md), by the golden model; the decoder is the host's."""
    side, decoder = held.config.img_size, dynamic_sam(held).decoder
    network = encoder_network(held.config, held.state)
    spec = dynamic_spec(network, linears(network))
    graph = model_graph(layer_list(network, spec, (3, side, side)), held.config.name, "unused")
    run_passes(graph)
    program = lower(graph, EngineConfig())
    (name,) = program.outputs

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        made = (y for of, y in golden.steps(program, levels(image)[0].numpy().astype(np.int8)) if of == name)
        return (torch.from_numpy(next(made))[None],)

    return Sam(held.config, held.state, encode, decoder)


def disturbed(held: Checkpoint) -> Sam:
    """PyTorch's scheme dynamic with the encoder's float results moved by 2^-20: how near it comes to itself."""
    network, side = encoder_network(held.config, held.state), held.config.img_size
    reference = DynamicReference.of(network, linears(network), (3, side, side))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (found,) = reference.disturbed((levels(image) + 128) / 255)
        return (torch.from_numpy(found)[None],)

    return Sam(held.config, held.state, encode, dynamic_sam(held).decoder)


def rounded(found: Any) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(found).items()}


def tiny(images: int) -> dict[str, Any]:
    """The demo: every model's mean IoU with the truth, and how near each INT8 model is to what it should equal."""
    held = load("sam_tiny")
    shown = generated(16, held.config.img_size, CALIB_SEED)
    pictures = [(picture, [p for one in asked for p in (one.box, one.point)]) for picture, asked in shown]
    plain, dynamic, reference = float_sam(held), dynamic_sam(held), pytorchs(held)
    fixed, engine = fixed_sam(held, pictures), on_the_engine(held)
    facts: dict[str, Any] = {"calibration_images": len(pictures)}
    sams = {
        "fp32": plain,
        "dynamic": dynamic,
        "pytorch_dynamic": reference,
        "dynamic on the engine": engine,
        "fixed": fixed,
    }
    facts["miou"] = {
        name: rounded(found) | {"miou": round(found.miou, 4)}
        for name, sam in sams.items()
        for found in [accuracy(sam, images)]
    }
    with tempfile.TemporaryDirectory() as folder:
        exported = Sam(held.config, held.state, *sam_session(*write_sam(dynamic, folder)))
        facts["likeness"] = {
            name: rounded(likeness(a, b, images))
            for name, a, b in (
                ("dynamic to PyTorch's dynamic", reference, dynamic),
                ("dynamic on the engine to PyTorch's dynamic", reference, engine),
                ("ONNX Runtime to dynamic", dynamic, exported),
                ("dynamic to fp32", plain, dynamic),
                ("fixed to fp32", plain, fixed),
            )
        }
    return facts


def large(model: str, weights: str, images: int) -> dict[str, Any]:
    """A published size: its dynamic INT8 against PyTorch's, on generated images of its own size."""
    held = load(model, weights)
    reference = pytorchs(held)
    sams = {
        "dynamic": dynamic_sam(held),
        "dynamic on the engine": on_the_engine(held),
        "PyTorch's dynamic, its floats moved by 2^-20,": disturbed(held),
    }
    found = {f"{name} to PyTorch's dynamic": rounded(likeness(reference, sam, images)) for name, sam in sams.items()}
    return {"weights": weights, "likeness": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="how many held-out images")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--model", default="sam_tiny", help="sam_tiny, or a published size (with --weights)")
    parser.add_argument("--weights", default="random", help="for a published size: its checkpoint, or 'random'")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    facts: dict[str, Any] = {"model": options.model, "images": options.images}
    facts |= (
        tiny(options.images) if options.model == "sam_tiny" else large(options.model, options.weights, options.images)
    )
    print(json.dumps(facts | {"seconds": round(time.perf_counter() - began, 1)}, indent=1))


if __name__ == "__main__":
    main()
