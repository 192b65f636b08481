"""`vsf bench`: draw a suite, judge it, search for better settings, report."""
