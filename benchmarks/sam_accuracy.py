"""The bundled tiny SAM on generated images it has never seen: float, both INT8 schemes, ONNX, PyTorch's own dynamic INT8.

    python benchmarks/sam_accuracy.py [--images 64] [--threads 1]

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

import torch
from torch import Tensor, nn

from hlsgen.frontend.onnx_tokens import sam_session, write_sam
from hlsgen.models.demo.shapes import CALIB_SEED
from hlsgen.models.sam.checkpoint import Checkpoint
from hlsgen.models.sam.evaluate import accuracy, generated, likeness
from hlsgen.models.sam.load import load
from hlsgen.models.sam.model import Sam, dynamic_sam, fixed_sam, float_sam
from hlsgen.models.sam.original import original


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="how many held-out images")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    held = load("sam_tiny")
    shown = generated(16, held.config.img_size, CALIB_SEED)
    pictures = [(picture, [p for one in asked for p in (one.box, one.point)]) for picture, asked in shown]
    began = time.perf_counter()
    plain, dynamic, reference = float_sam(held), dynamic_sam(held), pytorchs(held)
    fixed = fixed_sam(held, pictures)
    facts: dict[str, Any] = {"images": options.images, "calibration_images": len(pictures)}
    facts["miou"] = {
        name: {key: round(value, 4) for key, value in (asdict(found) | {"miou": found.miou}).items()}
        for name, sam in (("fp32", plain), ("dynamic", dynamic), ("pytorch_dynamic", reference), ("fixed", fixed))
        for found in [accuracy(sam, options.images)]
    }
    with tempfile.TemporaryDirectory() as folder:
        exported = Sam(held.config, held.state, *sam_session(*write_sam(dynamic, folder)))
        facts["likeness"] = {
            name: {key: round(value, 4) for key, value in asdict(likeness(a, b, options.images)).items()}
            for name, a, b in (
                ("dynamic to PyTorch's dynamic", reference, dynamic),
                ("ONNX Runtime to dynamic", dynamic, exported),
                ("dynamic to fp32", plain, dynamic),
                ("fixed to fp32", plain, fixed),
            )
        }
    facts["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
