from deploy.docker.ready import ready_url


def test_the_probe_asks_on_loopback_whatever_address_the_server_listens_on() -> None:
    assert ready_url({"WATTLINE_HOST": "0.0.0.0"}) == "http://127.0.0.1:8000/ready"


def test_the_probe_follows_the_port_and_the_certificate() -> None:
    settings = {"WATTLINE_PORT": "9443", "WATTLINE_SSL_CERTFILE": "/etc/wattline-tls/tls.crt"}

    assert ready_url(settings) == "https://127.0.0.1:9443/ready"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert ready_url({"WATTLINE_PORT": "", "WATTLINE_SSL_CERTFILE": ""}) == "http://127.0.0.1:8000/ready"
