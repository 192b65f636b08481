"""Convert published settings to the knobs of this package."""

from math import exp, log1p


def convert_reference(scale: float, offset: float) -> tuple[float, float]:
    """Convert (scale, offset) of the VSF authors' SD3 code to those of the paper layout.

    Their code also shows the image an unflipped copy of the negative. Both copies have the same keys, so for the image
    rows of the first block they act as one: α = (s·e⁻ᵒ − 1)/(1 + e⁻ᵒ), β = −ln(1 + e⁻ᵒ). Deeper blocks agree only
    roughly.
    """
    flipped = exp(-offset)
    return (scale * flipped - 1) / (1 + flipped), -log1p(flipped)


def convert_nag(phi: float) -> float:
    """Convert the φ of the NAG paper (arXiv:2505.21179) to the `scale` of its code and of this package."""
    return phi + 1
