from pathlib import Path

from server.access.gate import Gate
from server.settings import Settings, load_settings
from server.tenant_reload import TenantReload


def settings(file: Path, content: str) -> Settings:
    file.write_text(content)
    return load_settings({"worker_urls": ("unix:/engine.sock",)}, file)


def test_limits_of_tenants_are_taken_up_and_named(tmp_path: Path) -> None:
    file = tmp_path / "wattline.toml"
    running = settings(file, "[tenants.a]\nmodels = ['m']\n[tenants.b]\nmodels = ['m']\n")
    gate = Gate(running.tenants, lambda _tenant, _since: 0, lambda: 0.0, lambda: 0.0)
    hook = TenantReload(gate, running)
    assert hook(running) == ""
    found = settings(file, "[tenants.a]\nmodels = ['m']\n[tenants.b]\nmodels = ['n']\n[tenants.c]\nmodels = ['m']\n")
    assert hook(found) == "tenants changed: b, c"
    assert hook(found) == ""
