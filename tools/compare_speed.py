"""Clips or images per second of evaluated models beside each other, prepared for inference.

    python tools/compare_speed.py work_dirs/results/*/*
    python tools/compare_speed.py STATIC/result.json DYNAMIC/result.json --batch 1 --json speed.json

RESULTS are files that tools/evaluate.py or tools/test.py --json wrote, or their folders. All models
take turns in one run, on the same samples of their test set, and gates decide by these. Decoding is
not included. Ratios are over the first one.
"""

from __future__ import annotations

from pathlib import Path

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import new_file, write_json
from vared_mm.launch import extra, told_in_a_line
from vared_mm.options import Parser, positive

with extra("report"):
    import pandas as pd

    from vared_mm.report.beside import lines_of, speeds_beside
    from vared_mm.report.result import check_records_kept, read_result, with_results


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument("--batch", type=positive, default=8, help="samples at once; default: 8")
    parser.add_argument("--repeats", type=positive, default=15, help="rounds; default: 15")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the report there")
    args = parser.parse_args()
    check_records_kept(args.results, args.json)
    results = {str(path): read_result(path) for path in with_results(args.results)}
    report = speeds_beside(results, args.batch, args.repeats)
    if args.json:
        write_json(args.json, report)
    columns = ("result", "inputs", "per second, median (quartiles)", "times the first")
    table = pd.DataFrame(lines_of(report), columns=columns)
    print(table.to_markdown(index=False, disable_numparse=True))
    print(*(f"{key}: {value}" for key, value in report["conditions"].items()), sep="; ")


if __name__ == "__main__":
    main()
