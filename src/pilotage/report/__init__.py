"""The report of a run or a comparison: one HTML file that opens without a network."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.errors import UsageError


def write_report(directory: Path, out: Path | None = None) -> Path:
    """Write the report of the run or comparison in `directory`, as `report.html` there or to `out`; return its path.

    Raises UsageError when the directory holds neither.
    """
    # Here, because charts and statistics take a second to import, and most commands need neither.
    from pilotage.report.page import write_comparison_report, write_run_report

    if (directory / "comparison.json").is_file():
        return write_comparison_report(directory, out)
    if (directory / "run.json").is_file():
        return write_run_report(directory, out)
    raise UsageError(f"{directory} holds neither a run (run.json) nor a comparison (comparison.json)")
