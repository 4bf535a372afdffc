"""The ledger's sums for people and programs: a table, CSV, JSON, a page."""
