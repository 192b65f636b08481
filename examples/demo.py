"""Draw one scene twice, without and with a negative prompt, and set both side by side."""

from pathlib import Path

from vsf.generate import Request, draw, load
from vsf.generate.sheet import contact_sheet

PROMPT = "a red car on snow"
NEGATIVE = "wheels"
METHODS = {"no guidance": "none", "value sign flip": "vsf"}
FILE = Path("out/demo.png")


def main() -> None:
    requests = [Request(PROMPT, NEGATIVE, method=method) for method in METHODS.values()]
    model = load(requests[0])
    images = [result.image for request in requests for result in draw(request, model)]
    FILE.parent.mkdir(exist_ok=True)
    contact_sheet([PROMPT, f"without: {NEGATIVE}"], list(METHODS), ["seed 0"], images).save(FILE)
    print(f"The pair is in {FILE.resolve()}")


if __name__ == "__main__":
    main()
