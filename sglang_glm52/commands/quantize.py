"""`glm52 quantize SRC DST`: from an FP8 or BF16 checkpoint to W4AFP8."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang_glm52.bench.record import table

if TYPE_CHECKING:
    from sglang_glm52.quantize.groups import Row
    from sglang_glm52.quantize.source import Source
    from sglang_glm52.quantize.target import Target

GB = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Routed experts become int4 in groups of 128, all other tensors are copied byte for byte; from a BF16 "
        "checkpoint, those become FP8 blocks that the published FP8 checkpoint has in FP8. A stopped call goes on when "
        "it is given again."
    )
    parser.add_argument("src", type=Path, help="folder of the FP8 or BF16 checkpoint")
    parser.add_argument("dst", type=Path, help="folder to write: absent, empty, or left by a stopped call")
    parser.add_argument(
        "--method",
        default="mse",
        help="how int4 scales are chosen: mse (default), the least squared error; or rtn, nothing is clipped",
    )
    parser.add_argument("--device", default="auto", help="where to compute: cpu, cuda, or auto (default)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads; by default one a CPU core, at most 32")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what becomes of each tensor and how large the output is; SRC may then hold config.json alone",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    return _dry_run(args) if args.dry_run else _convert(args)


def _convert(args: argparse.Namespace) -> int:
    from sglang_glm52.quantize.convert import convert

    report = convert(
        args.src, args.dst, method=args.method, device=args.device, workers=args.workers, with_picture=True
    )
    if args.json:
        print(json.dumps({key: value for key, value in report.items() if key != "tensors"}))
    else:
        print("\n".join(_report_lines(args.dst, report)))
    return 0


def _report_lines(dst: Path, report: Mapping[str, Any]) -> Iterator[str]:
    source, output, errors = report["source"], report["output"], report["int4_error"]
    yield f"relative error of the int4 experts, %; written with {report['arguments']['method']}"
    columns = [(projection, method) for projection in errors["by_projection"] for method in errors["all"]]
    header = ["layer", *(f"{projection.removesuffix('_proj')} {method}" for projection, method in columns)]
    lines = {**errors["by_layer"], "all": errors["by_projection"]}
    yield table(header, ([layer, *(100 * line[p][m] for p, m in columns)] for layer, line in lines.items()))
    if report["fp8_error"] is not None:
        yield f"relative error of the linear layers that became FP8 blocks: {100 * report['fp8_error']:.2f} %"
    yield f"{dst}: {output['files']} files, {output['file_bytes'] / GB:.2f} GB; from {source['form']} {source['name']}"


def _dry_run(args: argparse.Namespace) -> int:
    from sglang_glm52.quantize.groups import rows
    from sglang_glm52.quantize.target import plan_conversion

    source, target = plan_conversion(args.src, may_lack_weights=True)
    groups = rows(source.arch, target.steps)
    if args.json:
        print(json.dumps(_plan_json(source, target, groups)))
    else:
        print("\n".join(_plan_lines(source, target, groups)))
    return 0


def _plan_json(source: Source, target: Target, groups: list[Row]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "form": source.form,
        "has_weights": source.has_weights,
        "groups": [asdict(row) for row in groups],
        "source_bytes": target.source_bytes,
        "output_bytes": target.total_bytes,
        "files": target.sizes,
    }


def _plan_lines(source: Source, target: Target, groups: list[Row]) -> Iterator[str]:
    header = ("group", "weights", "is", "becomes", "GB", "GB after", "how")
    yield table(
        header,
        (
            (
                row.group,
                row.weights,
                row.source_type,
                row.output_type,
                f"{row.source_bytes / GB:.3f}",
                f"{row.output_bytes / GB:.3f}",
                row.action,
            )
            for row in groups
        ),
    )
    yield f"source: {source.form}, {target.source_bytes / GB:.2f} GB of tensors"
    yield f"output: {len(target.sizes)} files, {target.total_bytes} bytes ({target.total_bytes / GB:.2f} GB); a report"
    if not source.has_weights:
        yield "counted from config.json alone, as if in one shard"
