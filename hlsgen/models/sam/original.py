"""segment_anything's own model of a configuration: what the demo is trained with and what tests compare with."""

from __future__ import annotations

from functools import partial
from typing import Any

from hlsgen.errors import HlsgenError
from hlsgen.models.sam.config import EPS, MEAN, STD, SamConfig


def original(config: SamConfig) -> Any:
    """A ``segment_anything.modeling.Sam`` of these sizes, random weights from torch's own generator, evaluation mode.

    Raises:
        HlsgenError: segment_anything is not installed.
    """
    from torch import nn

    from hlsgen.models.torchvision_ops import mend_torchvision

    try:
        mend_torchvision()
        from segment_anything import modeling
    except ImportError as error:
        raise HlsgenError("this needs segment-anything: pip install 'hlsgen[sam]'") from error
    encoder = modeling.ImageEncoderViT(
        img_size=config.img_size,
        patch_size=config.patch,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        out_chans=config.embedding,
        norm_layer=partial(nn.LayerNorm, eps=EPS),
        use_rel_pos=True,
        window_size=config.window,
        global_attn_indexes=config.global_blocks,
    )
    prompts = modeling.PromptEncoder(
        embed_dim=config.embedding,
        image_embedding_size=(config.grid, config.grid),
        input_image_size=(config.img_size, config.img_size),
        mask_in_chans=config.mask_channels,
    )
    decoder = modeling.MaskDecoder(
        num_multimask_outputs=config.masks,
        transformer=modeling.TwoWayTransformer(
            depth=config.decoder_depth,
            embedding_dim=config.embedding,
            mlp_dim=config.decoder_mlp,
            num_heads=config.decoder_heads,
        ),
        transformer_dim=config.embedding,
        iou_head_depth=config.iou_depth,
        iou_head_hidden_dim=config.iou_hidden,
    )
    return modeling.Sam(encoder, prompts, decoder, list(MEAN), list(STD)).eval()
