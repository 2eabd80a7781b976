"""What two societies share: tax schedules."""
