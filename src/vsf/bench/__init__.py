"""The benchmark: settings drawn on suites of prompt pairs, judged, searched and reported."""
