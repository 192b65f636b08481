"""Draw one scene twice, without and with a negative prompt, and save both side by side."""

from pathlib import Path

from vsf.cli.console import load_quietly
from vsf.generation import Request, draw
from vsf.generation.sheet import contact_sheet
from vsf.judges.scenes.judge import describe

PROMPT = "a red car on snow"
NEGATIVE = "wheels"
# The first seed from 0 whose unguided picture has the part, by the judge and by eye; some cars come without wheels.
SEED = 1
FLIP = {"scale": 4.0, "orthogonal": True}
PAIR = {
    "no guidance": Request(PROMPT, NEGATIVE, method="none", seed=SEED),
    "value sign flip": Request(PROMPT, NEGATIVE, within="subject", knobs=FLIP, schedule={"end": 0.75}, seed=SEED),
}
FILE = Path("out/demo.png")


def main() -> None:
    """Draw the pair, let the judge look at it, and save it as one sheet."""
    model = load_quietly(PAIR["no guidance"], quiet=True)
    images = {}
    for name, request in PAIR.items():
        images[name] = next(iter(draw(request, model))).image
        print(f"{name}: the judge saw {describe(images[name], NEGATIVE)}")
    FILE.parent.mkdir(exist_ok=True)
    title = [PROMPT, f"negative prompt: {NEGATIVE}"]
    contact_sheet(title, list(PAIR), [f"seed {SEED}"], list(images.values())).save(FILE)
    print(f"The pair is in {FILE.resolve()}")


if __name__ == "__main__":
    main()
