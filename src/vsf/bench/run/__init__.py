"""One benchmark run: pictures drawn, rows kept, verdicts asked for."""
