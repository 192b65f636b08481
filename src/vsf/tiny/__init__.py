"""The embedded text-to-image model: small enough to ship, real enough to test guidance on."""
