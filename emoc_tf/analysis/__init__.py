"""Numbers from records: measures, tests, findings."""
