"""The verb `biofm retrieve`."""

from biofm_jax.cli_output import DONE, ERR, parse, print_rows
from biofm_jax.retrieval import Retrieve, retrieve


def run(arguments: list[str]) -> int:
    """Find one view of held-out records by the other: recall@k of a contrastive run."""
    options = parse(Retrieve, arguments, "retrieve")
    rows = retrieve(options, lambda line: ERR.print(line, highlight=False))
    if not options.json:
        rows = [
            {
                "direction": row["direction"],
                "k": row["k"],
                "recall [95 %]": f"{row['recall']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                **{name: row[name] for name in ("untrained", "token_counts", "chance", "ceiling")},
            }
            for row in rows
        ]
        title = f"{options.model}: recall@k of held-out records"
    print_rows("" if options.json else title, rows, options.json)
    return DONE
