"""Settings for the database of a URL: SHOP_URL is a storage's URL, and its database is the one that Django uses."""

from __future__ import annotations

import os

from psycopg.conninfo import conninfo_to_dict

URL = os.environ["SHOP_URL"]

if URL.startswith("sqlite"):
    path = URL.removeprefix("sqlite:///")
    # A test database in memory could not be opened by jobq.
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "TEST": {"NAME": path + ".test"}}
else:
    address = conninfo_to_dict(URL)
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": address["dbname"], "USER": address["user"]}
    database |= {"HOST": address["host"], "PORT": address.get("port", "")}

DATABASES = {"default": database}
INSTALLED_APPS = ["shop_django"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
