"""Scheme `dynamic` of a SAM as ONNX files (encoder and decoder), and how near ONNX Runtime comes to the reference."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hlsgen.frontend.onnx_tokens import sam_session, write_sam
from hlsgen.models.sam.checkpoint import Checkpoint
from hlsgen.models.sam.config import MEAN, STD
from hlsgen.models.sam.model import dynamic_sam
from hlsgen.program.golden_dynamic import decibels


def export_dynamic(
    checkpoint: Checkpoint, picture: npt.NDArray[np.float32], embedding: npt.NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Write encoder.onnx and decoder.onnx into `folder` and run the encoder on a picture.

    Args:
        checkpoint: the SAM.
        picture: float32 [3, H, W], 0..1.
        embedding: what the reference makes of it, float32 [C, h, w].
        folder: made where it is missing.

    Returns:
        embedding_sqnr_db: of ONNX Runtime's embedding to the reference's.
    """
    encoder, _ = sam_session(*write_sam(dynamic_sam(checkpoint), folder), lean=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    (found,) = encoder(((torch.from_numpy(picture) * 255 - mean) / std)[None])
    return {"embedding_sqnr_db": decibels(embedding, found[0].numpy())}
