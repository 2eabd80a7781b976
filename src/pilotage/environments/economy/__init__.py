"""Tax schedules, shared by several systems."""
