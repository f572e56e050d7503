"""Run records into tables and pictures; runs without torch."""

from growprune.reports.record import Record, read_record, read_records
from growprune.reports.report import write_report
from growprune.reports.table import Comparison, comparison_table, print_comparison

__all__ = [
    "Comparison",
    "Record",
    "comparison_table",
    "print_comparison",
    "read_record",
    "read_records",
    "write_report",
]
