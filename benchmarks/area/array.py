"""The MAC array of templates/engine/dot.h as synthesizable Verilog, one register where a pipelined array has one.

The same structure, term for term: packed operands, one cascade a pair of sums, residues, lane split, Booth rows, adder
trees. `multiply_add` is one DSP: operand registers, product register, sum register.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Array:
    """tm, tn, tp: output channels, input channels, pixels. dsp_tn: input channels in DSPs. port: 25 (E1) or 27 (E2)."""

    tm: int
    tn: int
    tp: int
    dsp_tn: int
    port: int = 25

    @property
    def lane(self) -> int:
        """LANE of dot.h."""
        return self.port - 9

    @property
    def residue_bits(self) -> int:
        """residue_bits(dsp_tn) of dot.h."""
        bits = 0
        while 1 << (self.lane + bits) < 32640 * self.dsp_tn + 1:
            bits += 1
        return bits

    @property
    def sum_bits(self) -> int:
        """Signed bits of a sum of tn products of two INT8."""
        return (16384 * self.tn).bit_length() + 1

    @property
    def macs(self) -> int:
        return self.tm * self.tn * self.tp


MODULES = """
module multiply_add #(parameter A = 25) (input clk, input signed [A-1:0] a, input signed [7:0] b,
                                         input signed [47:0] c, output reg signed [47:0] p);
  reg signed [A-1:0] a1; reg signed [7:0] b1; reg signed [A+7:0] m;
  always @(posedge clk) begin a1 <= a; b1 <= b; m <= a1 * b1; p <= m + c; end
endmodule

(* keep_hierarchy *)
module lut_product(input signed [7:0] a, b, output signed [15:0] p);
  function signed [8:0] row(input [2:0] digit, input signed [7:0] v);
    case (digit)
      3'b001, 3'b010: row = v;
      3'b011: row = {v, 1'b0};
      3'b100: row = ~{v, 1'b0};
      3'b101, 3'b110: row = ~v;
      default: row = 0;
    endcase
  endfunction
  wire [3:0] negative = {b[7] & ~(b[6] & b[5]), b[5] & ~(b[4] & b[3]), b[3] & ~(b[2] & b[1]), b[1]};
  wire signed [9:0] ones = {1'b0, negative[3], 1'b0, negative[2], 1'b0, negative[1], 1'b0, negative[0]};
  wire signed [9:0] r0 = ones + row({b[1:0], 1'b0}, a);
  wire signed [9:0] r1 = (r0 >>> 2) + row(b[3:1], a);
  wire signed [9:0] r2 = (r1 >>> 2) + row(b[5:3], a);
  wire signed [9:0] r3 = (r2 >>> 2) + row(b[7:5], a);
  assign p = {r3, r2[1:0], r1[1:0], r0[1:0]};
endmodule
"""


def verilog(array: Array) -> str:
    """Module mac_array(clk, w, x, sum): w [n][m], x [p][n] and sum [p][m] as flat vectors, element 0 lowest."""
    return _Writer(array).text()


def latency(array: Array) -> int:
    """Clock edges from operands to sums."""
    return _Writer(array).latency


@dataclass(frozen=True)
class _Signal:
    """A name, its width, and the clock edges since the operands arrived."""

    name: str
    bits: int
    time: int


class _Writer:
    def __init__(self, array: Array) -> None:
        self.array = a = array
        self.lines: list[str] = []
        self.names: set[str] = set()
        sums = {(p, m): self.lut_sum(p, m) for p in range(a.tp) for m in range(a.tm)} if a.dsp_tn < a.tn else {}
        lanes = self.packed_sums() if a.dsp_tn else {}
        self.latency = 0
        for p in range(a.tp):
            for m in range(a.tm):
                terms = [s[p, m] for s in (sums, lanes) if s]
                total = self.tree(f"total{p}_{m}", terms)
                self.latency = total.time
                self.lines.append(f"assign sum[{a.sum_bits * (p * a.tm + m)}+:{a.sum_bits}] = {total.name};")

    def text(self) -> str:
        a = self.array
        operands = [
            f"wire signed [7:0] w{n}_{m} = w[{8 * (n * a.tm + m)}+:8];" for n in range(a.tn) for m in range(a.tm)
        ]
        operands += [
            f"wire signed [7:0] x{p}_{n} = x[{8 * (p * a.tn + n)}+:8];" for p in range(a.tp) for n in range(a.tn)
        ]
        head = (
            f"module mac_array(input clk, input [{8 * a.tn * a.tm - 1}:0] w, input [{8 * a.tp * a.tn - 1}:0] x, "
            f"output [{a.sum_bits * a.tp * a.tm - 1}:0] sum);"
        )
        return "\n".join([head, *operands, *self.lines, "endmodule", MODULES])

    def wire(self, name: str, bits: int, value: str, time: int) -> _Signal:
        self.lines.append(f"wire signed [{bits - 1}:0] {name} = {value};")
        return _Signal(name, bits, time)

    def register(self, name: str, bits: int, value: str, time: int) -> _Signal:
        if name not in self.names:
            self.names.add(name)
            self.lines.append(f"reg signed [{bits - 1}:0] {name}; always @(posedge clk) {name} <= {value};")
        return _Signal(name, bits, time)

    def at(self, signal: _Signal, time: int) -> _Signal:
        """The signal, later: delay lines are shared."""
        origin, name = signal.name, signal.name
        for i in range(1, time - signal.time + 1):
            name = self.register(f"{origin}_d{i}", signal.bits, name, signal.time + i).name
        return _Signal(name, signal.bits, time)

    def tree(self, name: str, terms: list[_Signal], modulo: int = 0) -> _Signal:
        """Sum of the terms, a register a level; modulo 2**modulo, in plain logic, where that is given."""
        time, level = max(t.time for t in terms), 0
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            terms = []
            for i, pair in enumerate(pairs):
                late = [self.at(t, time) for t in pair]
                bits = modulo or min(max(t.bits for t in late) + len(late) - 1, self.array.sum_bits)
                names = [t.name for t in late]
                value = (
                    " + ".join(names)
                    if not modulo or len(late) == 1
                    else _ripple(_bits(names[0], bits), _bits(names[1], bits))
                )
                terms.append(self.register(f"{name}_{level}_{i}", bits, value, time + 1))
            time, level = time + 1, level + 1
        return terms[0]

    def lut_sum(self, p: int, m: int) -> _Signal:
        a = self.array
        products = []
        for n in range(a.dsp_tn, a.tn):
            x, w = (self.at(_Signal(name, 8, 0), 1).name for name in (f"x{p}_{n}", f"w{n}_{m}"))
            name = f"lut{p}_{n}_{m}"
            self.lines.append(f"wire signed [15:0] {name}_p; lut_product {name}_i({x}, {w}, {name}_p);")
            products.append(self.register(name, 16, f"{name}_p", 2))
        return self.tree(f"luts{p}_{m}", products)

    def packed_sums(self) -> dict[tuple[int, int], _Signal]:
        a = self.array
        pixels = a.tp % 2 == 0
        sums = {}
        for j in range((a.tp if pixels else a.tm) // 2):
            highs, ports = [], []
            for n in range(a.dsp_tn):
                low, high = (f"x{p}_{n}" if pixels else f"w{n}_{p}" for p in (2 * j, 2 * j + 1))
                # high * 2**LANE + low: its bits between the operands are low's sign, so seventeen bits say it all.
                upper = self.wire(f"upper{j}_{n}", 9, f"{high} - $signed({{1'b0, {low}[7]}})", 0)
                ports.append(self.register(f"port{j}_{n}", 17, f"{{{upper.name}, {low}}}", 1))
                highs.append(_Signal(high, 8, 0))
            for s in range(a.tm if pixels else a.tp):
                shared = [_Signal(f"w{n}_{s}" if pixels else f"x{s}_{n}", 8, 0) for n in range(a.dsp_tn)]
                low_sum, high_sum = self.pair_dot(f"pair{j}_{s}", ports, highs, shared)
                if pixels:
                    sums[2 * j, s], sums[2 * j + 1, s] = low_sum, high_sum
                else:
                    sums[s, 2 * j], sums[s, 2 * j + 1] = low_sum, high_sum
        return sums

    def pair_dot(
        self, name: str, ports: list[_Signal], highs: list[_Signal], shared: list[_Signal]
    ) -> tuple[_Signal, _Signal]:
        a = self.array
        lane, bits, terms = a.lane, a.residue_bits, len(ports)
        before = "48'd0"
        for n, (port, other) in enumerate(zip(ports, shared, strict=True)):
            # multiply_add takes two edges from its operands to its product, a third to its sum.
            q, b = self.at(port, 1 + n).name, self.at(other, 1 + n).name
            operand = f"{{{q}[16:8], {{{lane - 8}{{{q}[7]}}}}, {q}[7:0]}}"
            self.lines.append(
                f"wire signed [47:0] {name}_c{n}; "
                f"multiply_add #({a.port}) {name}_m{n}(clk, {operand}, {b}, {before}, {name}_c{n});"
            )
            before = f"{name}_c{n}"
        chain = _Signal(before, 48, terms + 3)
        above = f"{chain.name}[{lane + a.sum_bits - 1}:{lane}]"
        code = f"{chain.name}[{lane - 1}:0]"
        if bits:
            products = []
            for n in range(terms):
                x, y = self.at(highs[n], 1).name, self.at(shared[n], 1).name
                rows = [["1'b0"] * i + [f"({x}[{k}] & {y}[{i}])" for k in range(bits - i)] for i in range(bits)]
                value = "{" + ", ".join(reversed(rows[0])) + "}"
                for i in range(1, bits):
                    part = self.wire(f"{name}_p{n}_{i}", bits, value, 1)
                    value = _ripple(_bits(part.name, bits), rows[i])
                products.append(self.register(f"{name}_r{n}", bits, value, 2))
            residue = self.at(self.tree(f"{name}_residue", products, bits), chain.time)
            carry = _ripple([f"{chain.name}[{lane + i}]" for i in range(bits)], _bits(residue.name, bits), minus=True)
            code = f"{{{self.wire(f'{name}_above', bits, carry, chain.time).name}, {code}}}"
        split = self.wire(f"{name}_lane", lane + bits, code, chain.time).name
        half = 1 << (lane + bits - 1)
        negative = (
            f"{split}[{lane + bits - 1}]" if half > 16384 * terms else f"$unsigned({split}) >= {16384 * terms + 1}"
        )
        self.lines.append(f"wire {name}_negative = {negative};")
        low = f"$signed({{{name}_negative, {split}}})"
        low_sum = self.register(f"{name}_low", a.sum_bits, low, chain.time + 1)
        floor = f"$signed({{{name}_negative{f', {name}_above' if bits else ''}}})"
        high_sum = self.register(f"{name}_high", a.sum_bits, f"$signed({above}) - {floor}", chain.time + 1)
        return low_sum, high_sum


def _bits(name: str, count: int) -> list[str]:
    return [f"{name}[{i}]" for i in range(count)]


def _ripple(a: list[str], b: list[str], minus: bool = False) -> str:
    """a + b or a - b modulo 2**len(a) without a carry chain: so few bits fit LUTs better."""
    total, carry = [], ""
    for i, j in zip(a, b, strict=True):
        total.append(f"{i} ^ {j}" + (f" ^ ({carry})" if carry else ""))
        k = f"~{i}" if minus else i
        carry = f"({k} & {j}) | (({k} | {j}) & ({carry}))" if carry else f"{k} & {j}"
    return "{" + ", ".join(reversed(total)) + "}"
