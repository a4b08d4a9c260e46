"""SQLAlchemy (ORM) on psycopg 3."""
import contextlib
import sys

import sqlalchemy
from sqlalchemy import Enum, String, create_engine, exc, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import scenario

# [connect]
# prepare_threshold: PgBouncer 1.18 mixes up the named statements of its clients; with None psycopg makes none.
# use_native_hstore: else it looks for the type hstore in pg_type before a tenant is bound, which is refused.
engine = create_engine("postgresql+psycopg://", pool_size=4, max_overflow=0, pool_pre_ping=True, use_native_hstore=False,
                       connect_args={"prepare_threshold": None})


@contextlib.contextmanager
def tenant(token, isolation="READ COMMITTED"):
    """A transaction of the tenant whose token came with the request (X-Bulkhead-Token)."""
    with engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
        connection.execute(text("SELECT bulkhead.enter(:token)"), {"token": token})
        with Session(connection) as session:
            yield session
            session.flush()
# [end]


# [retry]
# The tenant has moved; conflicts; the server process or the connection went away.
RETRY = {"TN004", "40001", "40P01", "57P01"}


def in_tenant(token, work, isolation=None, tries=3):
    for attempt in range(1, tries + 1):
        try:
            with tenant(token, isolation or "READ COMMITTED") as session:
                return work(session)
        except exc.DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if attempt == tries or not (error.connection_invalidated or state in RETRY):
                raise
            scenario.retrying(state)
# [end]


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String)
    state: Mapped[str] = mapped_column(Enum("new", "used", name="mood"), server_default="new")
    qty: Mapped[int] = mapped_column(server_default="0")


def names(db):
    return list(db.scalars(select(Item.name).order_by(Item.id)))


def name_of(db, number):
    return db.get(Item, number).name


def insert(db, name):
    db.add(Item(name=name))
    db.flush()


def add(db, name):
    db.execute(update(Item).where(Item.name == name).values(qty=Item.qty + 1))


def pid(db):
    return db.scalar(text("SELECT pg_backend_pid()"))


def state(db):
    return db.get(Item, 1).state


def unbound():
    with engine.connect() as connection:
        connection.execute(select(Item.name))


def leave_dirty(token):
    connection = engine.connect()
    connection.execute(text("SELECT bulkhead.enter(:token)"), {"token": token})
    connection.execute(select(Item.name))
    connection.close()  # in its transaction: the pool rolls back


def health():
    with engine.connect() as connection:
        scenario.check(connection.scalar(text("SELECT 1 AS one")) == 1, "SELECT 1")


scenario.run(sys.modules[__name__], sqlalchemy.__version__)
engine.dispose()
