"""Requests and API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Both tables, with what finds a request, a tenant's month and a day."""
    _create_requests()
    op.create_index("ix_requests_request_id", "requests", ["request_id"])
    op.create_index("requests_by_tenant_and_time", "requests", ["tenant", "ended_unix_seconds"])
    op.create_index("requests_by_time", "requests", ["ended_unix_seconds"])
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_unix_seconds", sa.Float(53), nullable=False),
        sa.Column("expires_unix_seconds", sa.Float(53)),
        sa.Column("revoked_unix_seconds", sa.Float(53)),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("row_id", sa.String(64), nullable=False, unique=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("arrived_unix_seconds", sa.Float(53), nullable=False),
        sa.Column("ended_unix_seconds", sa.Float(53), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32)),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("worker_id", sa.String(64)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("is_stream", sa.Boolean, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("energy_microjoules", sa.BigInteger),
        sa.Column("prefill_microjoules", sa.BigInteger),
        sa.Column("decode_microjoules", sa.BigInteger),
        sa.Column("components_microjoules", sa.JSON, nullable=False),
        sa.Column("energy_source", sa.String(64)),
        sa.Column("is_measured", sa.Boolean),
        sa.Column("energy_reason", sa.String(256)),
        sa.Column("uncertainty_ratio", sa.Float(53)),
        sa.Column("carbon_g_co2eq", sa.Float(53)),
        sa.Column("grid_carbon_intensity_gco2perkwhr", sa.Float(53)),
        sa.Column("carbon_source", sa.String(128)),
        sa.Column("queue_seconds", sa.Float(53)),
        sa.Column("first_token_seconds", sa.Float(53)),
        sa.Column("total_seconds", sa.Float(53), nullable=False),
        sa.Column("late_microjoules", sa.BigInteger, nullable=False, server_default="0"),
    )
