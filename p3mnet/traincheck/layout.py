"""File names of a train-check's folder."""

REPORT, PAGE = "report.json", "report.html"
