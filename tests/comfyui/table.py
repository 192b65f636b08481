"""The compatibility table as text: worst error of every check, by host, model and method."""

ABOUT = """\
Written by `make test-comfyui`: tiny models with random weights, in float32 on the CPU; relative L2 errors.

- A method's column: a guided call from two untouched rows in lockstep, with attention in float64; at most 1e-6.
- `off`: guidance that does nothing from the model as it is; at most 1e-6.
- `batched = split`: cond and uncond in one call from two calls; at most 3e-6.
- `halves`: a negative given twice with half the weight from once; at most 1e-6.
- `mask`: a mask over everything from none, and over nothing from no guidance; at most 1e-6.""".splitlines()


def markdown(results: dict) -> str:
    """Lay all hosts out, newest first."""
    lines = ["# Compatibility", "", *ABOUT]
    for version in sorted(results, key=lambda version: [int(part) for part in version.split(".")], reverse=True):
        errors, peers = results[version].get("worst errors", {}), results[version].get("beside NAGuidance", {})
        checks = sorted({check for own in errors.values() for check in own})
        lines += ["", f"## ComfyUI {version}", "", *_table(["model", *checks], _rows(errors, checks))]
        if peers:
            lines += ["", *_beside(peers)]
    return "\n".join([*lines, ""])


def _rows(errors: dict, checks: list[str]) -> list[list[str]]:
    return [[name, *(f"{own[check]:.1e}" if check in own else "" for check in checks)] for name, own in errors.items()]


def _beside(peers: dict) -> list[str]:
    """The host's own node for NAG beside VSF Guidance with NAG."""
    head = ["model", "rows: VSF", "effect: VSF", "rows: NAGuidance", "effect: NAGuidance"]
    rows = [
        [name, str(own["rows"]), f"{own['effect']:.1e}", str(own["their rows"]), f"{own['their effect']:.1e}"]
        for name, own in peers.items()
    ]
    about = (
        "Beside the host's own NAGuidance at cfg 1: batch rows evaluated in three steps, and relative L2 change. "
        "After a cancelled run of either, the plain model gives the same bits as before."
    )
    return [about, "", *_table(head, rows)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
