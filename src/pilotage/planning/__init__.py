"""Looking ahead instead of learning."""
