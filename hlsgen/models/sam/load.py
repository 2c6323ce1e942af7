"""MODEL and ``--weights`` for SAM: from a name or a file to weights."""

from __future__ import annotations

from pathlib import Path

import torch

from hlsgen.errors import HlsgenError
from hlsgen.models.download import Published, Unreachable, cache_folder, download, find_cached
from hlsgen.models.sam.checkpoint import SUFFIX, Checkpoint, expected_shapes, read
from hlsgen.models.sam.config import TINY, VARIANTS, SamConfig

ALIASES = {"sam": "sam_vit_b", "vit_b": "sam_vit_b", "vit_l": "sam_vit_l", "vit_h": "sam_vit_h"}
DEMO, RANDOM = "demo", "random"
PUBLISHED_AT = "https://dl.fbaipublicfiles.com/segment_anything"
PUBLISHED = {
    "sam_vit_b": Published(
        "sam_vit_b_01ec64.pth", PUBLISHED_AT, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "sam_vit_l": Published(
        "sam_vit_l_0b3195.pth", PUBLISHED_AT, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "sam_vit_h": Published(
        "sam_vit_h_4b8939.pth", PUBLISHED_AT, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
}
"""The published checkpoints (their names end in the first six digits of their MD5) and their SHA-256."""


def is_sam(model: str) -> bool:
    """Whether MODEL names a SAM or a file that may hold one (``.pth``)."""
    return model.lower() in VARIANTS or model.lower() in ALIASES or Path(model).suffix.lower() == SUFFIX


def load(model: str, weights: str | None = None) -> Checkpoint:
    """The weights that MODEL and ``--weights`` name.

    Args:
        model: a name of ``VARIANTS`` or ``ALIASES``, or a ``.pth`` file.
        weights: a checkpoint, "demo" (``sam`` and ``sam_tiny`` only), "random" or "random:SEED"; None finds or
            downloads the published ones, for ``sam_tiny`` the demo's.

    Raises:
        HlsgenError: weights that are missing, damaged, refused, of another variant (it says which) or not finite.
    """
    if Path(model).suffix.lower() == SUFFIX:
        if weights is not None:
            raise HlsgenError(f"a {SUFFIX} model has its weights in it, got --weights {weights} too; leave it out")
        return read(model)
    asked = model.lower()
    if weights == DEMO:
        if asked not in ("sam", TINY.name):
            raise HlsgenError(f"the demo weights are for {TINY.name}, got {asked}; give --weights FILE")
        return _demo()
    config = VARIANTS[ALIASES.get(asked, asked)]
    if weights is None:
        return _demo() if config is TINY else _published(config)
    if weights.partition(":")[0] == RANDOM:
        return random(config, _seed(weights))
    held = read(weights)
    if asked == "sam":  # any SAM will do
        return held
    return _only(config, held, f"checkpoint {weights}")


def random(config: SamConfig, seed: int = 0) -> Checkpoint:
    """Weights of these sizes at random, for measuring cost: standard deviation 0.02, norms at one."""
    made = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(config).items():
        value = torch.randn(shape, generator=made)
        scale = 1.0 if "gaussian" in name else 0.02
        ones = len(shape) == 1 and name.endswith(".weight")
        state[name] = value * scale + (1.0 if ones else 0.0)
    return Checkpoint(config, state)


def _seed(weights: str) -> int:
    _, colon, text = weights.partition(":")
    if not colon:
        return 0
    if not text.isdecimal():
        raise HlsgenError(f"--weights random:SEED expects a whole number as seed, got {text!r}")
    return int(text) % (1 << 32)


def _demo() -> Checkpoint:
    from hlsgen.models.demo import SAM_WEIGHTS

    return _only(TINY, read(SAM_WEIGHTS), "the demo checkpoint")


def _only(config: SamConfig, held: Checkpoint, source: str) -> Checkpoint:
    if held.config != config:
        raise HlsgenError(
            f"{source}: expected {config.name}, it holds {held.config.name}; say hlsgen build {held.config.name}"
        )
    return held


def _published(config: SamConfig) -> Checkpoint:
    published = PUBLISHED[config.name]
    found = find_cached(published.file)
    if found is None:
        try:
            found, _ = download(published, cache_folder())
        except Unreachable as reason:
            raise HlsgenError(
                f"{published.file} is not on this machine and could not be downloaded ({reason}); give --weights FILE, "
                f"--weights {RANDOM} to measure cost only, or build {TINY.name}, the bundled demo"
            ) from reason
    return _only(config, read(found), f"checkpoint {found}")
