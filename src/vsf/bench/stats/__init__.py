"""What rows say: paired tests, intervals, trade-off curves and matched operating points.

Everywhere a *pair* is a prompt with its negative prompt, the unit that is drawn at random; the images of one pair from
several seeds belong together. A score of None is unscored: it is left out and counted, never taken for 0.
"""
