"""The compatibility table as text: worst error of every check, by host, model and method."""

ABOUT = """\
Written by `make test-comfyui`: tiny models with random weights, in float32 on the CPU; relative L2 errors.

- A method's column: a guided call against two ordinary rows in lockstep, with attention in float64; at most 1e-6.
- `off`: guidance switched off against the unguided model; at most 1e-6.
- `batched = split`: cond and uncond in one call against two calls; at most 3e-6.
- `halves`: a negative given twice with half the weight against once; at most 1e-6.
- `mask`: a mask over everything against none, and over nothing against no guidance; at most 1e-6.""".splitlines()


def markdown(results: dict) -> str:
    """Return the tables of all hosts, newest first."""
    lines = ["# Compatibility", "", *ABOUT]
    for version in sorted(results, key=lambda version: [int(part) for part in version.split(".")], reverse=True):
        errors = results[version].get("worst errors", {})
        peers = results[version].get("beside NAGuidance", {})
        checks = sorted(set().union(*errors.values()))
        lines += ["", f"## ComfyUI {version}", "", *_table(["model", *checks], _rows(errors, checks))]
        if peers:
            lines += ["", *_beside(peers)]
    return "\n".join([*lines, ""])


def _rows(errors: dict, checks: list[str]) -> list[list[str]]:
    rows = []
    for name, errors_of_model in errors.items():
        cells = [f"{errors_of_model[check]:.1e}" if check in errors_of_model else "" for check in checks]
        rows.append([name, *cells])
    return rows


def _beside(peers: dict) -> list[str]:
    """Return the table that compares the host's own node for NAG with VSF Guidance with NAG."""
    head = ["model", "rows: VSF", "effect: VSF", "rows: NAGuidance", "effect: NAGuidance"]
    rows = []
    for name, run in peers.items():
        ours = [str(run["rows"]), f"{run['effect']:.1e}"]
        theirs = [str(run["their rows"]), f"{run['their effect']:.1e}"]
        rows.append([name, *ours, *theirs])
    about = (
        "Beside the host's own NAGuidance at cfg 1: batch rows evaluated in three steps, and relative L2 change. "
        "After a cancelled run of either, the plain model gives the same bits as before."
    )
    return [about, "", *_table(head, rows)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
