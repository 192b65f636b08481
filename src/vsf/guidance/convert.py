"""Published settings, in our terms."""

from math import exp, log1p


def convert_reference(scale: float, offset: float) -> tuple[float, float]:
    """Turn (scale, offset) of the VSF authors' SD3 code into those of the paper layout.

    Their code also shows the image an unflipped copy of the negative. Both copies share their keys, so for the image
    rows of the first block they act as one: α = (s·e⁻ᵒ − 1)/(1 + e⁻ᵒ), β = −ln(1 + e⁻ᵒ). Deeper blocks agree only
    roughly.
    """
    flipped = exp(-offset)
    return (scale * flipped - 1) / (1 + flipped), -log1p(flipped)


def convert_nag(phi: float) -> float:
    """Turn the φ of the NAG paper (arXiv:2505.21179) into the `scale` of its code and of ours."""
    return phi + 1
