"""Random quantized networks as layer lists, made to reach every machine op in odd shapes."""

import numpy as np

from hlsgen.backend.layer_list import LayerList
from hlsgen.quantize.spec import ConvQ, Scheme, TensorQ

KINDS = ("silu", "sigmoid", "relu", "leaky_relu", "hardswish", "gelu")


class RandomNet:
    """Grows a network of `steps` random layers; every tensor in memory shares one quantization, so that any may meet.

    free: in `fixed`, scales that are no powers of two, and zero points.
    """

    def __init__(
        self,
        seed: int,
        scheme: Scheme,
        steps: int,
        size: tuple[int, int],
        channels: int = 3,
        attention: bool = False,
        free: bool = False,
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.scheme = scheme
        r = self.random
        # what powers of two are multiplied with, of tensors and of pre-activations
        self.units = [float(np.float32(r.uniform(1, 2))) for _ in range(2)] if free else [1.0, 1.0]
        if scheme == "fixed":
            self.q = TensorQ(self.units[0] * 2.0**-4, int(r.integers(-128, 128)) if free else 0)
        else:
            scale = float(np.float32(r.uniform(0.03, 0.12)))
            self.q = TensorQ(scale, int(r.integers(-128, 128)))
        self.layers = LayerList(scheme)
        self.count = 0
        self.layers.image("image", (channels, *size), self.q)
        self.live = [self.conv("image", act=True)]
        for i in range(steps):
            if attention and i % 3 == 1:
                self.live += [self.norm(), self.attention()]
            else:
                self.live.append(self.step())
        self.layers.outputs += list(dict.fromkeys([self.live[-1], self.live[int(r.integers(len(self.live)))]]))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def pick(self) -> str:
        return self.live[-1] if self.random.random() < 0.6 else str(self.random.choice(self.live))

    def quant(self) -> TensorQ:
        """Another quantization, for tensors that meet no other."""
        if self.scheme == "fixed":
            return TensorQ(self.units[0] * 2.0 ** -int(self.random.integers(2, 7)), self.q.zero_point)
        return TensorQ(float(np.float32(self.random.uniform(0.02, 0.2))), int(self.random.integers(-128, 128)))

    def step(self) -> str:
        r = self.random
        kinds = [
            "conv",
            "conv",
            "residual",
            "split",
            "cat",
            "pool",
            "up",
            "add",
            "act",
            "depthwise",
            "grouped",
            "part",
            "pixels",
        ]
        kind = str(r.choice(kinds))
        x = self.pick()
        c, h, w = self.layers.shapes[x]
        if kind == "residual":
            inner = self.conv(x, act=True, out=c, keep_size=True)
            return self.add(inner, x)
        if kind == "split" and c > 1:
            cut = int(r.integers(1, c))
            names = {self.name("part"): self.q, self.name("part"): self.q}
            self.layers.split(self.name("split"), x, [cut, c - cut], names)
            self.live += list(names)[:1]
            return list(names)[1]
        if kind == "cat":
            same = [t for t in self.live if self.layers.shapes[t][1:] == (h, w)]
            parts = [str(t) for t in r.choice(same, int(r.integers(1, 4)))] + [x]
            if sum(self.layers.shapes[t][0] for t in parts) <= 100:
                name = self.name("cat")
                self.layers.concat(name, parts, self.q)
                return name
        if kind == "pool":
            k = int(r.integers(1, 6))
            stride = (int(r.integers(1, 3)), int(r.integers(1, 3)))
            pad = int(r.integers(0, k // 2 + 1))
            if min(h, w) + 2 * pad >= k:
                name = self.name("pool")
                self.layers.max_pool(name, x, self.q, (k, k), stride, (pad, pad, pad, pad))
                return name
        if kind == "up" and h * w <= 400:
            name = self.name("up")
            self.layers.upsample(name, x, self.q, (2, 2))
            return name
        if kind == "add":
            same = [t for t in self.live if self.layers.shapes[t] == (c, h, w)]
            return self.add(x, str(r.choice(same)))
        if kind == "act":
            name = self.name("act")
            self.layers.activation(name, x, self.q, str(r.choice(KINDS)), 0.1)
            return name
        if kind == "part":
            size = (int(r.integers(1, h + 1)), int(r.integers(1, w + 1)))
            at = (int(r.integers(0, h - size[0] + 1)), int(r.integers(0, w - size[1] + 1)))
            name = self.name("part")
            self.layers.crop(name, x, self.q, size, at)
            return name
        if kind == "pixels" and h * w <= 400:
            factor = int(r.integers(2, 4))
            inner = self.conv(x, act=bool(r.integers(2)), out=factor**2 * int(r.integers(1, 20)))
            self.live += [inner] if r.random() < 0.2 else []
            name = self.name("pixels")
            self.layers.depth_to_space(name, inner, self.q, factor)
            return name
        if kind == "depthwise":
            return self.conv(x, act=bool(r.integers(2)), out=c, groups=c)
        if kind == "grouped" and c % 2 == 0:
            return self.conv(x, act=True, out=2 * int(r.integers(1, 20)), groups=2)
        return self.conv(x, act=bool(r.integers(4)))

    def attention(self) -> str:
        """Queries of one map, keys and values of another of any size, heads of any width; or one map in windows."""
        r = self.random
        x = self.pick()
        _, h, w = self.layers.shapes[x]
        small = [t for t in self.live if self.layers.shapes[t][1] * self.layers.shapes[t][2] <= 300]
        y = str(r.choice(small)) if small else self.pooled(x)
        window = (0, 0)
        if r.random() < 0.5:
            window = (int(r.integers(1, 8)), int(r.integers(1, 8)))
            y = x = self.grown(x, -h % window[0], -w % window[1])
        heads = int(r.integers(1, 4))
        width = heads * int(r.choice([1, 3, 8, 16, 20, 33]))
        q, k = (self.conv(t, act=False, out=width, quant=self.even(), pointwise=True) for t in (x, y))
        v = self.conv(y, act=bool(r.integers(2)), out=heads * int(r.choice([1, 5, 16, 24])), pointwise=True)
        scores, made = self.name("scores"), self.name("attend")
        a, b = (self.layers.layers[self.producer(t)]["quant"][t].scale for t in (q, k))
        largest = (
            a * b * 60 * 60 * np.sqrt(width // heads) * r.choice([0.2, 1, 5])
        )  # about the scores', or a part of it
        scale = max(float(np.float32(largest / 60)), a * b)
        # which softmax reads: a power of two times the sums' scale
        scale = float(np.float32(a * b * 2.0 ** max(0, round(np.log2(scale / (a * b))))))
        zero_point = 0 if self.scheme == "fixed" else int(r.integers(-128, 128))
        self.layers.scores(scores, q, k, TensorQ(scale, zero_point), heads, window)
        self.layers.attend(made, scores, v, self.q, heads, window)
        if self.layers.shapes[made][1:] == (h, w):
            return made
        name = self.name("crop")
        self.layers.crop(name, made, self.q, (h, w))
        return name

    def grown(self, x: str, bottom: int, right: int) -> str:
        """x with zeros below and on the right, which sometimes others read too."""
        if not bottom and not right:
            return x
        name = self.name("grown")
        self.layers.grow(name, x, self.q, bottom, right)
        if self.random.random() < 0.3:
            self.live.append(name)
        return name

    def norm(self) -> str:
        """LayerNorm of any map."""
        r, x = self.random, self.pick()
        name, c = self.name("norm"), self.layers.shapes[x][0]
        gamma = r.normal(0, self.q.scale * 40, c) * r.choice([0.02, 1.0], c)
        self.layers.norm(name, x, self.q, gamma, r.normal(0, self.q.scale * 30, c), float(r.choice([1e-6, 0.1])))
        return name

    def pooled(self, x: str) -> str:
        """x as one pixel a window of 8 x 8 or less."""
        _, h, w = self.layers.shapes[x]
        name, kernel = self.name("pool"), (min(h, 8), min(w, 8))
        self.layers.max_pool(name, x, self.q, kernel, kernel, (0, 0, 0, 0))
        self.live.append(name)
        return name

    def even(self) -> TensorQ:
        """A quantization for queries and keys."""
        if self.scheme == "fixed":
            return TensorQ(2.0 ** -int(self.random.integers(3, 6)), 0)
        return TensorQ(float(np.float32(self.random.uniform(0.03, 0.12))), 0)

    def add(self, a: str, b: str) -> str:
        name = self.name("add")
        self.layers.add(name, a, b, self.q)
        return name

    def conv(
        self,
        x: str,
        act: bool,
        out: int | None = None,
        groups: int = 1,
        keep_size: bool = False,
        quant: TensorQ | None = None,
        pointwise: bool = False,
    ) -> str:
        r = self.random
        c, h, w = self.layers.shapes[x]
        out = out or int(r.integers(1, 50))
        kernel = (int(r.choice([1, 3, 3, 5])), int(r.choice([1, 3, 3, 2])))
        stride = (1, 1) if keep_size or min(h, w) < 4 else (int(r.integers(1, 3)), int(r.integers(1, 3)))
        pads = tuple(int(r.integers(0, k)) for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
        if keep_size or h + pads[0] + pads[1] < kernel[0] or w + pads[2] + pads[3] < kernel[1]:
            kernel = (3, 1)
            pads = (1, 1, 0, 0)
        if pointwise:
            kernel, stride, pads = (1, 1), (1, 1), (0, 0, 0, 0)
        weight = r.integers(-128, 128, (out, c // groups, *kernel)).astype(np.int8)
        if r.random() < 0.2:  # extreme sums
            weight[:] = r.choice([-128, 127])
        bias = r.integers(-(1 << 16), 1 << 16, out).astype(np.int32)
        x_scale = self.layers.layers[self.producer(x)]["quant"][x].scale
        spread = 1.0 / (x_scale * 60 * np.sqrt(weight[0].size) * 8)
        if self.scheme == "fixed":
            scale = 2.0 ** -np.clip(np.rint(-np.log2(spread)) + r.integers(0, 3, out), 3, 12)
            scale = (scale * (self.units[1] / self.units[0] if act else 1.0)).astype(np.float32).astype(np.float64)
        else:
            scale = (spread * r.uniform(0.3, 3, out)).astype(np.float32).astype(np.float64)
        integers = ConvQ(weight, scale, bias)
        name = self.name("conv")
        if not act:
            self.layers.conv2d(name, x, quant or self.q, integers, stride, pads, groups)  # type: ignore[arg-type]
            return name
        if self.scheme == "native":
            pre = self.quant()
        else:
            pre = TensorQ(2.0**-7 if self.scheme == "fixed" else 0.01, 0, int(r.choice([8, 10, 12])))
        if self.scheme == "fixed":
            pre = TensorQ(self.units[1] * 2.0**-5, 0, pre.bits)
        self.layers.conv2d(name, x, pre, integers, stride, pads, groups)  # type: ignore[arg-type]
        made = self.name("y")
        self.layers.activation(made, name, self.q, str(r.choice(KINDS)), 0.1)
        return made

    def producer(self, tensor: str) -> int:
        return next(i for i, layer in enumerate(self.layers.layers) if tensor in layer["outputs"])
