"""Django (ORM) on psycopg 3."""
import contextlib
import os
import sys

import django
from django.conf import settings

import scenario

# [connect]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # A cursor outside a transaction would have to outlive it, as no two statements need share a connection.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        # Binds the token as a parameter instead of writing it into the statement, which is refused.
        "OPTIONS": {"server_side_binding": True},
    }
}
# [end]
settings.configure(DATABASES=DATABASES, USE_TZ=True, TIME_ZONE="Europe/Vienna", INSTALLED_APPS=[])
django.setup()

from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection, models, transaction  # noqa: E402


# [enter]
@contextlib.contextmanager
def tenant(token, isolation=None):
    """A transaction of the tenant whose token came with the request (X-Bulkhead-Token); a middleware may call it."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            if isolation:  # before enter(), which reads and so fixes the level
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            cursor.execute("SELECT bulkhead.enter(%s)", [token])
        yield
# [end]


# [retry]
# The tenant has moved; conflicts; the server process or the connection went away.
RETRY = {"TN004", "40001", "40P01", "57P01"}


def in_tenant(token, work, isolation=None, tries=3):
    for attempt in range(1, tries + 1):
        try:
            with tenant(token, isolation):
                return work(None)
        except (DatabaseError, InterfaceError) as error:
            state = getattr(error.__cause__, "sqlstate", None)
            lost = isinstance(error, (OperationalError, InterfaceError)) and state is None
            if attempt == tries or not (lost or state in RETRY):
                raise
            close_old_connections()  # drops one that broke
            scenario.retrying(state)
# [end]


class Item(models.Model):
    name = models.TextField(unique=True)
    state = models.TextField(db_default="new")
    qty = models.IntegerField(db_default=0)

    class Meta:
        app_label = "shop"
        db_table = "items"
        managed = False


def names(_):
    return list(Item.objects.order_by("id").values_list("name", flat=True))


def name_of(_, number):
    return Item.objects.get(pk=number).name


def insert(_, name):
    Item.objects.create(name=name)


def add(_, name):
    Item.objects.filter(name=name).update(qty=models.F("qty") + 1)


def pid(_):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def state(_):
    return Item.objects.get(pk=1).state


def unbound():
    names(None)


def leave_dirty(token):
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT bulkhead.enter(%s)", [token])
    names(None)
    connection.close()  # in its transaction


def health():
    connection.ensure_connection()
    connection.health_check_enabled, connection.health_check_done = True, False
    connection.close_if_health_check_failed()
    scenario.check(connection.is_usable(), "SELECT 1")


scenario.run(sys.modules[__name__], django.get_version())
