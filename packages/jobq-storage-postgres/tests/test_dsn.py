"""Where the database is: the forms that are taken, and what is shown of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from psycopg.pq import Conninfo

from jobq_core.errors import ConfigurationError, StorageUnavailableError
from jobq_core.urls import open_storage
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement

SECRET = "s3cret word"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://app@db.example:5433/shop", "postgresql://app@db.example:5433/shop"),
        ("postgres://app:s3cret%20word@db.example/shop", "postgresql://app@db.example/shop"),
        ("postgresql:///shop", "postgresql:///shop"),
        ("postgresql://app@/shop?host=/var/run&password=s3cret%20word", "postgresql://app@/shop?host=/var/run"),
        ("host=db.example user=app password='s3cret word' dbname=shop", "postgresql://app@db.example/shop"),
        ("postgresql://app@[::1]:5433/shop", "postgresql://app@[::1]:5433/shop"),
        ("postgresql://app@a:5432,b:5433/shop", "postgresql://app@/shop?host=a,b&port=5432,5433"),
        (
            "postgresql://app@db/shop?sslmode=require&schema=jobs",
            "postgresql://app@db/shop?sslmode=require&schema=jobs",
        ),
    ],
)
def test_a_dsn_is_taken_and_shown_without_its_password(dsn: str, shown: str) -> None:
    storage = PostgresQueueStorage(dsn)
    assert storage.url == shown
    for text in (storage.url, repr(storage)):
        assert "s3cret" not in text
    # What is shown opens the same database, but for the password.
    assert PostgresQueueStorage(storage.url).url == storage.url


def test_options_in_the_url_are_taken_and_those_given_win() -> None:
    url = "postgresql://db/shop?schema=jobs&pool_size=3&time_limit=2.5&prepared=false&connect_timeout=4"
    storage = PostgresQueueStorage.from_url(url)
    assert storage.schema == "jobs"
    assert storage._settings.time_limit == 2.5
    assert PostgresQueueStorage(url, schema="other").schema == "other"
    assert storage._settings.address.conninfo["connect_timeout"] == "4"


def test_the_entry_point_opens_both_schemes() -> None:
    for scheme in ("postgres", "postgresql"):
        assert isinstance(open_storage(f"{scheme}://db/shop"), PostgresQueueStorage)


@pytest.mark.parametrize(
    ("dsn", "options"),
    [
        (f"host=db {SECRET}", {}),
        (f"postgresql://app:{SECRET}@db/shop?nonsense=1", {}),
        ("postgresql://db/shop?pool_size=many", {}),
        ("postgresql://db/shop?pool_size=0", {}),
        ("postgresql://db/shop?prepared=perhaps", {}),
        ("postgresql://db/shop", {"time_limit": 0}),
        ("postgresql://db/shop", {"schema": "pg_jobs"}),
        ("postgresql://db/shop", {"schema": "x" * 51}),
        ("postgresql://db/shop", {"schema": "é" * 26}),
        ("postgresql://db/shop", {"schema": "nul\0"}),
        ("postgresql://db/shop", {"schema": "line\nend"}),
        ("postgresql://db/shop", {"schema": "back\\slash"}),
        ("postgresql://db/shop", {"schema": "$$; DROP TABLE job; $$"}),
        ("postgresql://db/shop", {"schema": "lone \udc80"}),
        ("postgresql://db/shop", {"schema": "information_schema"}),
        ("postgresql://db/shop?schema=a%00b", {}),
        ("postgresql://db/shop?schema=a%0Ab", {}),
        ("postgresql://db/shop?application_name=a%00b", {}),
        ("postgresql://db/shop", {"listen_dsn": f"host=db {SECRET}"}),
    ],
)
def test_what_cannot_work_is_refused_without_repeating_a_password(dsn: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresQueueStorage(dsn, **options)  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None or "s3cret" not in str(caught.value.__cause__)


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="postgresql://"):
        PostgresQueueStorage.from_url("mysql://db/shop")


@pytest.mark.parametrize("name", ['it\'s "so"; --', "per%cent %s", "été", "x" * 200, "a=b c='d'"])
async def test_any_application_name_serves(postgres_dsn: str, empty_schema: str, name: str) -> None:
    shown = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    storage = PostgresQueueStorage(f"{postgres_dsn}&application_name={quote(name)}", schema=empty_schema)
    async with storage:
        ((found,),) = await storage._engine.database.fetch(Statement("who", shown))
    # The server keeps 63 bytes, and of letters beyond ASCII a mark or their codes.
    assert found == name or not name.isascii() or found == name[:63]
    assert f"application_name={quote(name)}" in storage.url


@pytest.mark.parametrize("secret", ["sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"])
def test_other_secrets_than_the_password_are_not_shown_either(secret: str) -> None:
    url = f"postgresql://app@db/shop?{secret}=s3cret"
    if any(option.keyword == secret.encode() for option in Conninfo.get_defaults()):
        storage = PostgresQueueStorage(url)
        assert "s3cret" not in storage.url + repr(storage)
    else:  # an older libpq does not know it
        with pytest.raises(ConfigurationError) as caught:
            PostgresQueueStorage(url)
        assert "s3cret" not in str(caught.value)


async def test_an_outage_does_not_tell_the_password() -> None:
    storage = PostgresQueueStorage(f"host=/nowhere/at/all user=app password='{SECRET}' dbname=shop", time_limit=2)
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.open()
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("option", ["pool_size", "time_limit", "prepared"])
def test_a_password_that_ended_in_an_option_is_not_repeated(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} must be") as caught:
        PostgresQueueStorage(f"postgresql://host/database?{option}=5password=hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("schema", ["%1Fuser:hidden@host", "pg_user:hidden@host"])
def test_a_schema_that_is_refused_is_not_repeated(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema") as caught:
        PostgresQueueStorage(f"postgresql://?schema={schema}:5432/database")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dsn": None}, "DSN must be text"),
        ({"dsn": b"postgresql:///x"}, "DSN must be text"),
        ({"listen_dsn": 7}, "DSN must be text"),
        ({"dsn": "postgresql://host/database?x\ud800=1"}, "has a lone surrogate"),
        ({"schema": 7}, "schema must be a name"),
        ({"schema": ""}, "schema must be a name"),
        ({"prepared": "no"}, "prepared must be True or False"),
        ({"pool_size": 10**5000}, "pool_size must be a whole number"),
        ({"time_limit": "soon"}, "time_limit must be from"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_option_of_another_type_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        PostgresQueueStorage(**{"dsn": "postgresql://host/database", **options})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hidden@db/shop?pool_sise=5", r"unknown option 'pool_sise'.*did you mean 'pool_size'\?"),
        ("postgresql://u:hidden@db/shop?passwort=hidden", r"unknown option 'passwort'.*did you mean 'password'\?"),
        ("postgresql://u:hidden@db/shop?hidden%20x=1", "the DSN is neither"),
        ("postgresql://u:hidden@db:port/shop", "port must be a number from 1 to 65535"),
        ("postgresql://u:hidden@db:0/shop", "port must be a number"),
        ("postgresql://u:hidden@db:70000/shop", "port must be a number"),
        ("postgresql://u:hid/den@db/shop", "port must be a number"),
        ("postgresql://u:hid%den@db/shop", "the DSN is neither"),
        ("postgresql://db/shop?pool_size=nan", "pool_size must be a whole number from 1 to 10000"),
        ("postgresql://db/shop?pool_size=inf", "pool_size must be"),
        ("postgresql://db/shop?pool_size=1e9", "pool_size must be"),
        ("postgresql://db/shop?pool_size=2.5", "pool_size must be"),
        ("postgresql://db/shop?time_limit=nan", "time_limit must be"),
    ],
)
def test_a_url_that_cannot_work_is_refused_by_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        PostgresQueueStorage(url)
    assert not {"hidden", "hid/den", "hid%den"} & set(str(caught.value).split())
    assert ":hid" not in str(caught.value)
