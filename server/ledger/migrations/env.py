"""What Alembic runs for each upgrade: on the connection, and in the transaction, that `server.ledger.schema` began."""

from alembic import context

from server.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
