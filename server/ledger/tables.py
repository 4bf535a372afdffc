"""The tables of the ledger's database. Migrations under `migrations/` make them; queries are written in them."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table

metadata: Final = MetaData()

requests: Final = Table(
    "requests",
    metadata,
    # SQLite counts rows by INTEGER alone; PostgreSQL would run out of it.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("row_id", String(64), nullable=False, unique=True),
    Column("request_id", String(128), nullable=False, index=True),
    Column("arrived_unix_seconds", Float(53), nullable=False),
    Column("ended_unix_seconds", Float(53), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("key_id", String(32)),
    Column("endpoint", String(64), nullable=False),
    Column("model", String(256), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("worker_id", String(64)),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", String(64)),
    Column("is_stream", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("energy_microjoules", BigInteger),
    Column("prefill_microjoules", BigInteger),
    Column("decode_microjoules", BigInteger),
    Column("components_microjoules", JSON, nullable=False),
    Column("energy_source", String(64)),
    Column("is_measured", Boolean),
    Column("energy_reason", String(256)),
    Column("uncertainty_ratio", Float(53)),
    Column("carbon_g_co2eq", Float(53)),
    Column("grid_carbon_intensity_gco2perkwhr", Float(53)),
    Column("carbon_source", String(128)),
    Column("queue_seconds", Float(53)),
    Column("first_token_seconds", Float(53)),
    Column("total_seconds", Float(53), nullable=False),
    # What `charge` has added to energy_microjoules since, which no phase or component knows of.
    Column("late_microjoules", BigInteger, nullable=False, server_default="0"),
    Index("requests_by_tenant_and_time", "tenant", "ended_unix_seconds"),
    Index("requests_by_time", "ended_unix_seconds"),
)
"""One row a request: `server.ledger.row.LedgerRow`, column by column."""

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_unix_seconds", Float(53), nullable=False),
    Column("expires_unix_seconds", Float(53)),
    Column("revoked_unix_seconds", Float(53)),
)
"""Bearer keys: of the secret only its SHA-256, which tells nothing of 256 random bits."""
