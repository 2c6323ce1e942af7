"""Reports as the vendor's tools lay them out, of any engine: our own text, full-size numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

from hlsgen.cost.array import latency
from hlsgen.cost.calibrate import PLACE_OF, PROCESSES, REGION, RESOURCES, TOP
from hlsgen.cost.resources import Usage, Widths, terms
from hlsgen.cost.streams import Depths, stream_depths
from hlsgen.program.ops import EngineConfig

ENGINE = EngineConfig(tm=16, tn=8, tp=5, beat=8, lanes=8, patch_depth=2048, acc_depth=1024, dsp_tn=5)
WIDTHS = Widths("fixed", 24, 25, 16384, 256, 66, True, True)
Factors = Mapping[str, float]
PORTS = ("feature_maps", "residuals", "parameters", "results")


@dataclass(frozen=True)
class Synthesis:
    """What a pretended synthesis of an engine found. factors: by term, of LUT and FF; others are as modelled. Depths are the
    pipelined loops' iteration latencies; setup: what a step takes besides."""

    engine: EngineConfig = ENGINE
    widths: Widths = WIDTHS
    depths: Depths | None = None
    factors: Factors | None = None
    part: str = "xc7z020-clg400-1"
    period: float = 6.67
    estimated: float = 4.857
    version: str = "2023.2"
    top: str = TOP
    mac_depth: int = 40
    mac_ii: int = 1
    setup: int = 23
    epilogue_depth: int = 31
    step_trips: int = 90_000

    def places(self) -> dict[str, Usage]:
        """What each place takes by itself, in whole units."""
        found = {place: dict.fromkeys(RESOURCES, 0.0) for place in (*PROCESSES, REGION, TOP)}
        for name, term in terms(self.engine, self.widths, self.depths or stream_depths(self.engine)).items():
            for place, share in PLACE_OF[name].items():
                for resource in RESOURCES:
                    factor = (self.factors or {}).get(name, 1.0) if resource in ("lut", "ff") else 1.0
                    found[place][resource] += getattr(term, resource) * share * factor
        return {
            place: Usage(**{name: round(v * 2) / 2 if name == "bram36" else round(v) for name, v in values.items()})
            for place, values in found.items()
        }

    def inclusive(self) -> dict[str, Usage]:
        """With everything below: the region holds the processes, the top the region."""
        own = self.places()
        region = sum((own[place] for place in PROCESSES), own[REGION])
        return own | {REGION: region, TOP: region + own[TOP]}


def csynth_xml(s: Synthesis) -> str:
    """csynth.xml in the layout of the version: 2020.x keeps loops in their function, later ones outline pipelined loops."""
    outlined = s.version >= "2021.1"
    found = s.inclusive()
    modules = "".join(_process(s, place, found[place], outlined) for place in PROCESSES)
    modules += _module(REGION, found[REGION], "", s) + _module(s.top, found[TOP], "", s)
    ports = "".join(
        _port(f"m_axi_{name}_{way}", name) for name in PORTS for way in ("ARADDR", "RDATA", "AWADDR", "WDATA")
    )
    instances = "".join(
        f"<Instance><InstName>{name}_U0</InstName><ModuleName>{name}</ModuleName><ID>{i}</ID></Instance>"
        for i, name in enumerate(PROCESSES, 60)
    )
    violations = (
        "<SummaryOfViolations><IssueType>-</IssueType><ViolationType>-</ViolationType></SummaryOfViolations>"
        if s.version >= "2022.2"
        else ""
    )
    text = f"""<profile>
<ReportVersion><Version>{s.version}</Version></ReportVersion>
<UserAssignments><unit>ns</unit><ProductFamily>zynq</ProductFamily><Part>{escape(s.part)}</Part>
<TopModelName>{escape(s.top)}</TopModelName><TargetClockPeriod>{s.period:.2f}</TargetClockPeriod>
<ClockUncertainty>{s.period * 0.27:.2f}</ClockUncertainty><FlowTarget>vivado</FlowTarget></UserAssignments>
<PerformanceEstimates><PipelineType>no</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>{s.estimated:.3f}</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit>
<Best-caseLatency>undef</Best-caseLatency><Average-caseLatency>undef</Average-caseLatency>
<Worst-caseLatency>undef</Worst-caseLatency><Interval-min>undef</Interval-min><Interval-max>undef</Interval-max>
</SummaryOfOverallLatency>
<SummaryOfLoopLatency><VITIS_LOOP_58_1><TripCount>undef</TripCount><Latency>undef</Latency>
<IterationLatency><range><min>1260</min><max>98104221</max></range></IterationLatency></VITIS_LOOP_58_1></SummaryOfLoopLatency>
{violations}</PerformanceEstimates>
<AreaEstimates>{_resources(found[TOP], s)}
<AvailableResources><BRAM_18K>280</BRAM_18K><{dsp(s)}>220</{dsp(s)}><FF>106400</FF><LUT>53200</LUT><URAM>0</URAM>
</AvailableResources></AreaEstimates>
<InterfaceSummary>{ports}</InterfaceSummary>
<RTLDesignHierarchy><TopModule><ModuleName>{escape(s.top)}</ModuleName><InstancesList>{instances}</InstancesList></TopModule>
</RTLDesignHierarchy>
<ModuleInformation>{modules}</ModuleInformation>
</profile>
"""
    return text if s.version < "2021.1" else '<?xml version="1.0" encoding="utf-8"?>\n' + text


def dsp(s: Synthesis) -> str:
    return "DSP48E" if s.version == "2020.1" else "DSP"


def synthesized(engine: EngineConfig, factors: Factors, **more: object) -> Synthesis:
    """An engine of which the tool makes more, or less, of each term than the model."""
    return replace(Synthesis(engine=engine, factors=factors), **more)  # type: ignore[arg-type]


def _process(s: Synthesis, place: str, used: Usage, outlined: bool) -> str:
    e = s.engine
    if place == "mac":
        inner = _pipelined("VITIS_LOOP_104_3", (1, s.step_trips), s.mac_depth, s.mac_ii)
        least, most = s.mac_depth, (s.step_trips - 1) * s.mac_ii + s.mac_depth
        iteration = (least + s.setup, most + s.setup + 6)
        outer = "VITIS_LOOP_45_1", (2, 4000), iteration
    elif place == "epilogue":
        trips = 1, e.acc_depth * e.tp * e.tm // e.lanes
        inner = _pipelined("VITIS_LOOP_141_5", trips, s.epilogue_depth, 1)
        iteration = trips[0] + s.epilogue_depth + 4, trips[1] + s.epilogue_depth + 4
        outer = "VITIS_LOOP_128_3", (1, 300), iteration
        table = _pipelined("VITIS_LOOP_92_1", (0, 2048), 3, 1)
        own = _module(f"{place}_Pipeline_VITIS_LOOP_92_1", Usage(80, 60), table, s) if outlined else ""
        table = "" if outlined else table
        return own + _nest(s, place, used, outer, inner, outlined, table)
    else:
        inner = _pipelined("VITIS_LOOP_41_4", (1, 640), 73, 1)
        outer = "VITIS_LOOP_19_1", (1, 300), (80, 60_000)
    return _nest(s, place, used, outer, inner, outlined)


def _nest(
    s: Synthesis,
    place: str,
    used: Usage,
    outer: tuple[str, tuple[int, int], tuple[int, int]],
    inner: str,
    outlined: bool,
    beside: str = "",
) -> str:
    name, trips, iteration = outer
    around = _loop(
        name, f"{_range('TripCount', trips)}{_range('IterationLatency', iteration)}", "" if outlined else inner
    )
    if not outlined:
        return _module(place, used, beside + around, s)
    own = f"{place}_Pipeline_{inner[1 : inner.index('>')]}"
    half = Usage(used.lut // 2, used.ff // 2, used.dsp, 0, 0)
    return _module(own, half, inner, s) + _module(place, used, beside + around, s)


def _pipelined(name: str, trips: tuple[int, int], depth: int, ii: int) -> str:
    latencies = tuple((max(n, 1) - 1) * ii + depth for n in trips)
    return _loop(
        name,
        f"<Slack>4.87</Slack>{_range('TripCount', trips)}{_range('Latency', latencies)}"  # type: ignore[arg-type]
        f"<PipelineII>{ii}</PipelineII><PipelineDepth>{depth}</PipelineDepth>",
    )


def _loop(name: str, inside: str, nested: str = "") -> str:
    return f"<{name}><Name>{name}</Name>{inside}{nested}</{name}>"


def _range(tag: str, ends: tuple[int, int]) -> str:
    if ends[0] == ends[1]:
        return f"<{tag}>{ends[0]}</{tag}>"
    return f"<{tag}><range><min>{ends[0]}</min><max>{ends[1]}</max></range></{tag}>"


def _module(name: str, used: Usage, loops: str, s: Synthesis) -> str:
    bind = (
        '<BindNodes><BindNode BINDTYPE="op" DSP="0" OPTYPE="add" VISIBLE="true"/></BindNodes>'
        if s.version >= "2022.2"
        else ""
    )
    summary = f"<SummaryOfLoopLatency>{loops}</SummaryOfLoopLatency>" if loops else ""
    return f"""
<Module><Name>{escape(name)}</Name><PerformanceEstimates>
<SummaryOfTimingAnalysis><TargetClockPeriod>{s.period:.2f}</TargetClockPeriod>
<EstimatedClockPeriod>{s.estimated:.3f}</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><Best-caseLatency>3</Best-caseLatency><Worst-caseLatency>{s.step_trips}</Worst-caseLatency>
</SummaryOfOverallLatency>{summary}</PerformanceEstimates>
<AreaEstimates>{_resources(used, s, available=True)}</AreaEstimates>{bind}</Module>"""


def _resources(used: Usage, s: Synthesis, available: bool = False) -> str:
    """Later versions put what the part has beside what a module takes; ~0 is less than a per cent."""
    rows = (
        ("BRAM_18K", "BRAM", round(used.bram36 * 2), 280),
        (dsp(s), "DSP", used.dsp, 220),
        ("FF", "FF", used.ff, 106_400),
        ("LUT", "LUT", used.lut, 53_200),
        ("URAM", "URAM", used.uram, 0),
    )
    text = ""
    for tag, short, value, there in rows:
        text += f"<{tag}>{value}</{tag}>"
        if available and there:
            share = f"{100 * value // there}" if 100 * value >= there or not value else "~0"
            text += f"<AVAIL_{short}>{there}</AVAIL_{short}><UTIL_{short}>{share}</UTIL_{short}>"
    return f"<Resources>{text}</Resources>"


def _port(name: str, bundle: str) -> str:
    return (
        f"<RtlPorts><name>{name}</name><Object>{bundle}</Object><Type>pointer</Type><Scope/>"
        "<IOProtocol>m_axi</IOProtocol><IOConfig/><Dir>out</Dir><Bits>64</Bits></RtlPorts>"
    )


def overhead(s: Synthesis) -> int:
    """What a step of this synthesis takes besides its iterations."""
    return s.setup + s.mac_depth - 1


def array_depth(s: Synthesis) -> int:
    return latency(s.engine)
