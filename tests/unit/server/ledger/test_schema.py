from alembic.config import Config
from alembic.script import ScriptDirectory

from server.ledger.schema import _MIGRATIONS, REVISIONS


def test_the_revisions_known_are_those_there_are() -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS
