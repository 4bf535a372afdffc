"""The ledger's schema from one version to the next, as Alembic revisions; `server.ledger.schema` runs them."""
