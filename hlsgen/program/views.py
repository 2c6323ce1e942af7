"""Views: what split, concatenation and upsampling make of tensors in DDR: addresses, never work."""

from dataclasses import dataclass, replace

from hlsgen.program.ops import Source, Tensor
from hlsgen.quantize.spec import TensorQ


@dataclass(frozen=True)
class View:
    """A logical feature map made of channel blocks of tensors in DDR.

    lanes: the view's channel in each physical lane of the sources, in order (-1: none).
    """

    sources: tuple[Source, ...]
    lanes: tuple[int, ...]
    channels: int
    height: int
    width: int
    quant: TensorQ


def whole(tensor: Tensor, tm: int) -> View:
    """All of a tensor."""
    source = Source(tensor.name, 0, len(tensor.lanes) // tm)
    return View((source,), tensor.lanes, tensor.channels, tensor.height, tensor.width, tensor.quant)


def concatenated(views: list[View]) -> View:
    """Views of equal size and quantization, one behind the other along the channels."""
    sources: list[Source] = []
    lanes: list[int] = []
    channels = 0
    for view in views:
        lanes += [lane + channels if lane >= 0 else -1 for lane in view.lanes]
        channels += view.channels
        for source in view.sources:
            sources.append(source)
            if len(sources) > 1 and _adjoin(sources[-2], source):
                last = sources.pop()
                first = sources.pop()
                sources.append(replace(first, blocks=first.blocks + last.blocks))
    first_view = views[0]
    return View(tuple(sources), tuple(lanes), channels, first_view.height, first_view.width, first_view.quant)


def _adjoin(a: Source, b: Source) -> bool:
    alike = (a.tensor, a.upsample, a.top, a.left) == (b.tensor, b.upsample, b.top, b.left)
    return alike and a.first_block + a.blocks == b.first_block


def upsampled(view: View, log2: int) -> View:
    """Nearest-neighbour upsampling by 2**log2."""
    sources = tuple(replace(s, upsample=s.upsample + log2) for s in view.sources)
    return View(sources, view.lanes, view.channels, view.height << log2, view.width << log2, view.quant)


def cut(view: View, top: int, left: int, height: int, width: int) -> View | None:
    """The part of a view from row `top` and column `left` on; None where that is no pixel of what is upsampled."""
    if any((top | left) % (1 << s.upsample) for s in view.sources):
        return None
    sources = tuple(
        replace(s, top=s.top + (top >> s.upsample), left=s.left + (left >> s.upsample)) for s in view.sources
    )
    return replace(view, sources=sources, height=height, width=width)


def channel_slice(view: View, start: int, stop: int, tm: int) -> View | None:
    """Channels [start, stop); None where a block holds channels from inside and from outside."""
    sources: list[Source] = []
    lanes: list[int] = []
    at = 0
    for source in view.sources:
        for i in range(source.blocks):
            block = view.lanes[at : at + tm]
            at += tm
            inside = [start <= c < stop for c in block if c >= 0]
            if not any(inside):
                continue
            if not all(inside):
                return None
            piece = replace(source, first_block=source.first_block + i, blocks=1)
            if sources and _adjoin(sources[-1], piece):
                before = sources.pop()
                piece = replace(before, blocks=before.blocks + 1)
            sources.append(piece)
            lanes += [c - start if c >= 0 else -1 for c in block]
    return View(tuple(sources), tuple(lanes), stop - start, view.height, view.width, view.quant)


def headed(view: View, heads: int, tm: int) -> bool:
    """Whether the view's blocks are as many a head, hold one head each, and lie alike in all of them."""
    blocks, per_head = len(view.lanes) // tm, view.channels // heads
    if blocks % heads or view.channels % heads:
        return False
    step = blocks // heads * tm
    first = view.lanes[:step]
    alike = all(
        view.lanes[h * step : (h + 1) * step] == tuple(c + h * per_head if c >= 0 else -1 for c in first)
        for h in range(heads)
    )
    return alike and all(c < per_head for c in first)


def padded_lanes(channels: int, cuts: frozenset[int], tm: int) -> tuple[int, ...]:
    """Channels 0 .. channels - 1 in blocks of tm, a new block beginning at every cut."""
    lanes: list[int] = []
    for c in range(channels):
        if c in cuts:
            lanes += [-1] * (-len(lanes) % tm)
        lanes.append(c)
    return tuple(lanes + [-1] * (-len(lanes) % tm))
