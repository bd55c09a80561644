"""Tells which gates cost more time than they save, and what leaves them out of a config.

    python tools/benchmark.py CONFIG --shape 16 112 112 --layers --json speed.json
    python tools/gates_that_pay.py speed.json

It prints the setting to add to the backbone of CONFIG before the training: a gate that was trained
cannot be left out afterwards without changing what the network computes.
"""

from __future__ import annotations

from vared_mm.latency_table import gates_that_do_not_pay, read_table
from vared_mm.launch import Parser, told_in_a_line
from vared_mm.method.errors import DynamicError


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("table", help="what tools/benchmark.py --layers --json wrote")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="as it will be used")
    args = parser.parse_args()
    try:
        layers = read_table(args.table, args.batch)
    except DynamicError as error:
        raise SystemExit(f"error: {error}") from error
    names = gates_that_do_not_pay(layers)
    if not names:
        print(f"every gate pays at batch size {args.batch}")
    elif len(names) == len(layers):
        print(f"no gate pays at batch size {args.batch}: the static network is the faster one")
    else:
        print(
            f"# {len(names)} of {len(layers)} convolutions pay no gate at batch size {args.batch}"
        )
        # `dynamic` stands in the backbone, whose convolutions it names.
        rows = "".join(f"    {name.removeprefix('backbone.')!r},\n" for name in names)
        print(f"dynamic=dict(exclude=[\n{rows}])")


if __name__ == "__main__":
    main()
