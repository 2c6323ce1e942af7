"""The facts of a build, gathered from its products."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hlsgen.frontend.onnx_write import shapes
from hlsgen.report.detections import draw_all, find_all, to_bgr
from hlsgen.report.facts import CsimFacts, Difference, QuantizationFacts, ReportFacts, Verdict
from hlsgen.report.layers import layer_facts
from hlsgen.report.sqnr import sqnr_by_tensor
from hlsgen.report.versions import versions
from hlsgen.report.write import Picture

if TYPE_CHECKING:
    from hlsgen.build import Build
    from hlsgen.csim import CsimResult
    from hlsgen.program.ops import Program

SECONDS = "stage_seconds"


def collect(b: "Build") -> tuple[ReportFacts, list[Picture]]:
    """What report.json says of a build that got as far as `b.facts` tells, and the pictures of the report."""
    load = b.facts["load"]
    csim = CsimFacts.model_validate(_said(b, "csim")) if "csim" in b.facts else None
    verdict: Verdict = "not run" if csim is None else "mismatch" if csim.mismatches else "exact"
    facts = ReportFacts(
        verdict=verdict,
        model=load["name"],
        part=b.target.name,
        arch=b.facts.get("lower", {}).get("arch", b.options.arch),
        scheme=b.reference.spec.scheme if "quantize" in b.facts else b.options.scheme,
        imgsz=b.size,
        gmacs=round(load["gmacs"], 4),
        params=load["params"],
        weights=load["weights"],
        notice=load["notice"],
        classes=tuple(load["classes"]),
        csim=csim,
        onnx=_said(b, "export") if "export" in b.facts else None,
        engine=b.facts["lower"]["engine"] if "lower" in b.facts else None,
        estimate=b.facts["lower"]["estimate"] if "lower" in b.facts else None,
        stages={name: said[SECONDS] for name, said in b.facts.items()},
        versions=versions(),
        files=_files(b),
    )
    if "quantize" not in b.facts:
        return facts, []
    spec = b.reference.spec
    sqnr = sqnr_by_tensor(b.loaded.network, b.tensors, spec.tensors, *b.inputs)
    mismatches = {} if b.simulated is None else _by_reference(b.program, b.simulated)
    known = shapes(b.loaded.network, b.loaded.shape)
    found = find_all(b)
    pictures, masks = segmented(b) if b.loaded.task == "segment" else (draw_all(b.picture, found), None)
    facts = facts.model_copy(
        update={
            "quantization": _quantization(b, sqnr),
            "layers": layer_facts(b.loaded.network, known, spec.tensors, sqnr, mismatches),
            "masks": masks,
            "detections": {source: boxes.facts for source, boxes in found.items()} or None,
        }
    )
    return facts, pictures


def segmented(b: "Build") -> tuple[list[Picture], dict[str, Any]]:
    """The masks of the build's own prompt, drawn, and the facts."""
    from hlsgen.build import own_prompt
    from hlsgen.report.segmented import draw_masks, facts_of, segment_all

    prompt, size = own_prompt(b)
    masks = segment_all(b, size)
    asked = {"box": prompt.box, "points": prompt.points}
    return [draw_masks(to_bgr(b.picture), prompt, masks)], {"prompt": asked, **facts_of(masks)}


def csim_facts(program: "Program", result: "CsimResult") -> dict[str, Any]:
    """The `csim` section of report.json."""
    difference = result.first_difference()
    facts = CsimFacts(
        ops=len(program.ops),
        tensors=len({op.out for op in program.ops}),
        elements=result.elements,
        mismatches=result.mismatches,
        seconds=round(result.seconds, 3),
        compile_seconds=round(result.compile_seconds, 3),
        gmacs_per_second=round(program.macs() / 1e9 / max(result.seconds, 1e-9), 3),
        types="strict" if result.strict else "fast",
        values="floats" if program.scheme == "dynamic" else "integers",
        streams=result.streams,
        first=Difference.model_validate(difference) if difference else None,
    )
    return facts.model_dump(mode="json")


def _said(b: "Build", stage: str) -> dict[str, Any]:
    return {key: value for key, value in b.facts[stage].items() if key != SECONDS}


def _by_reference(program: "Program", result: "CsimResult") -> dict[str, int]:
    rows = zip(program.ops, result.ops, strict=True)
    made = ((program.tensors[op.out], int(row["mismatches"])) for op, row in rows)
    return {tensor.reference: wrong for tensor, wrong in made if tensor.compared}


def _quantization(b: "Build", sqnr: Mapping[str, float | None]) -> QuantizationFacts:
    known = {name: value for name, value in sqnr.items() if value is not None}
    worst = min(known, key=known.__getitem__) if known else None
    return QuantizationFacts(
        **_said(b, "quantize"),
        sqnr_db_min=known[worst] if worst else None,
        sqnr_db_min_at=worst,
        sqnr_db_outputs={name: sqnr.get(name) for name in b.outputs},
    )


def _files(b: "Build") -> dict[str, str]:
    found = {"facts": "stages/facts.json"}
    for key, stage, path in (
        ("qdq_onnx", "export", "stages/3-export/model.qdq.onnx"),
        *((("onnx", "export", "stages/3-export/encoder.onnx"),) if b.options.dynamic else ()),
        ("program", "lower", "stages/6-lower/program.json"),
        ("manifest", "render", "manifest.json"),
        ("tcl", "render", "tcl/run_hls.tcl"),
    ):
        if stage in b.facts and not (key == "qdq_onnx" and b.options.dynamic):
            found[key] = path
    return found
