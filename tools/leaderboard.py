"""Tables of results: the paper's Tables 1 to 13, ours beside its figures, or a free one.

    python tools/leaderboard.py work_dirs/results
    python tools/leaderboard.py work_dirs/results --table 5 --format markdown --out table5.md
    python tools/leaderboard.py work_dirs/results --sort=-full_gmacs --filter 'full_gmacs < 0.2'
    python tools/leaderboard.py work_dirs/results --filter 'name.str.contains("vared")'

RESULTS are files that tools/evaluate.py, tools/test.py --json or, for Table 12, tools/redundancy.py
wrote, their folders, or folders of those. Several results of one row (seeds) are told as mean ±
standard deviation, followed by (2 of 3) where one of three has no such number; for filters and csv
there is a column more, "acc/top1 results". A filter is an expression of pandas' DataFrame.query on
the columns, of which those with signs stand in backticks: '`acc/top1` > 0.9'. Of several filters
all have to hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from vared_mm.files import new_file, write_text
from vared_mm.launch import extra, told_in_a_line
from vared_mm.options import Parser
from vared_mm.printing import visible

with extra("report"):
    from vared_mm.report.leaderboard import Board, free_board, paper_board, unmatched
    from vared_mm.report.leaderboard_formats import FORMATS, terminal
    from vared_mm.report.leaderboard_inputs import Inputs, collect, files_of
    from vared_mm.report.paper_tables import TABLES
    from vared_mm.report.result import check_records_kept


@told_in_a_line()
def main() -> None:
    args = parsed()
    check_records_kept([file for path in args.results for file in files_of(path)], args.out)
    inputs = collect(args.results)
    boards, left = chosen(args.table, inputs, args.mixed_data)
    for condition in args.filter:
        boards = [board.filtered(condition) for board in boards]
    if args.sort:
        boards = [board.ordered(args.sort) for board in boards]
    on_screen = args.format == "terminal" and not args.out and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns
    text = terminal(boards, width) if on_screen else FORMATS[args.format](boards)
    if args.out:
        write_text(args.out, text)
    else:
        sys.stdout.write(text)
    for what in (*left, *inputs.left):
        print(visible(f"in no row: {what}"), file=sys.stderr)


def chosen(table: str, inputs: Inputs, mixed: bool) -> tuple[Sequence[Board], list[str]]:
    """The boards, and the files that stand in none of them."""
    if table == "free":
        studies = [f"{path}, a redundancy study: --table 12 has those" for path in inputs.studies]
        return [free_board(inputs, mixed)], studies
    tables = list(TABLES.values()) if table == "all" else [TABLES[int(table)]]
    return [paper_board(one, inputs, mixed) for one in tables], unmatched(tables, inputs)


def parsed() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument(
        "--table", choices=["free", "all", *map(str, range(1, 14))], default="free", metavar="N",
        help="of the paper, 1 to 13 or all; default: free, one table of all results",
    )  # fmt: skip
    formats = ["terminal", "markdown", "csv", "latex", "html"]
    parser.add_argument("--format", choices=formats, default="terminal")
    parser.add_argument("--out", type=new_file, metavar="FILE", help="default: printed")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="descending with a leading -: --sort=-share"
    )
    parser.add_argument("--filter", action="append", default=[], metavar="'COLUMN < VALUE'")
    parser.add_argument(
        "--mixed-data", action="store_true",
        help="let results of different data stand in one table",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
