"""What an address of a database may ask for, and in what words it is refused."""

import pytest

from shared.process.database_url import DatabaseUrl, SystemRoots, TcpOptions, parse

BASE = "postgresql://owner:s%2Bcret@db.example.com:5432/palomar"


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("", DatabaseUrl(BASE)),
        ("sslmode=require", DatabaseUrl(f"{BASE}?sslmode=require")),
        ("application_name=a%20b", DatabaseUrl(f"{BASE}?application_name=a%20b")),
        ("options=-c%20work_mem%3D1MB", DatabaseUrl(f"{BASE}?options=-c%20work_mem%3D1MB")),
        ("sslcert=%2Ftmp%2Fa+b", DatabaseUrl(f"{BASE}?sslcert=/tmp/a%2Bb")),  # in libpq a + is a plus
        ("connect_timeout=10", DatabaseUrl(BASE, connect_timeout=10)),
        ("connect_timeout=0", DatabaseUrl(BASE)),  # to libpq: no limit
        ("connect_timeout=2&connect_timeout=3", DatabaseUrl(BASE, connect_timeout=3)),
        ("sslmode=require&channel_binding=prefer", DatabaseUrl(f"{BASE}?sslmode=require")),
        ("channel_binding=disable", DatabaseUrl(BASE)),
        ("gssencmode=disable", DatabaseUrl(BASE)),
        ("client_encoding=utf8", DatabaseUrl(BASE)),
        ("fallback_application_name=psql", DatabaseUrl(BASE)),
        ("sslsni=1&sslcompression=0&load_balance_hosts=disable", DatabaseUrl(BASE)),
        ("keepalives=0", DatabaseUrl(BASE, tcp=TcpOptions(keepalives=False))),
        (
            "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=9000",
            DatabaseUrl(BASE, tcp=TcpOptions(idle=30, interval=5, count=3, user_timeout=9000)),
        ),
        ("keepalives_idle=0", DatabaseUrl(BASE)),  # to libpq: the system's own
        ("sslrootcert=/etc/ca.pem&sslmode=verify-ca", DatabaseUrl(f"{BASE}?sslrootcert=/etc/ca.pem&sslmode=verify-ca")),
        ("sslrootcert=system", DatabaseUrl(BASE, system_roots=SystemRoots())),
        (
            "sslmode=verify-full&sslrootcert=system&sslcert=/c.pem&sslkey=/k.pem&sslpassword=x",
            DatabaseUrl(BASE, system_roots=SystemRoots("/c.pem", "/k.pem", "x")),
        ),
    ],
)
def test_each_parameter_becomes_what_the_driver_can_do(given: str, understood: DatabaseUrl) -> None:
    assert parse(f"{BASE}?{given}" if given else BASE) == understood


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("channel_binding=require", "channel_binding=require. Write channel_binding=prefer"),
        ("gssencmode=require", "gssencmode=require. Remove it"),
        ("replication=database", "replication=database. Remove it"),
        ("hostaddr=10.0.0.1", "hostaddr=10.0.0.1. Write the address as the host"),
        ("requirepeer=postgres", "requirepeer=postgres. Remove it"),
        ("client_encoding=latin1", "client_encoding=latin1. Remove it"),
        ("statement_timeout=5", "statement_timeout=5. Remove it"),  # libpq takes it in `options` only
        ("nonsense=1", "nonsense=1. Remove it"),
        ("sslmode", "'sslmode' has no value"),
        ("connect_timeout=soon", "connect_timeout: 'soon' is no whole number"),
        ("tcp_user_timeout=1.5", "tcp_user_timeout: '1.5' is no whole number"),
        ("sslrootcert=system&sslmode=require", "Write sslmode=verify-full"),
    ],
)
def test_what_the_driver_cannot_do_is_refused_by_name_and_with_a_remedy(given: str, named: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(f"{BASE}?{given}")
    assert named in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "host=db.example.com dbname=palomar", "mysql://db.example.com/x", "/var/run"])
def test_what_is_no_address_is_refused_with_the_form_of_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://USER:PASSWORD@HOST:PORT/NAME"):
        parse(url)
