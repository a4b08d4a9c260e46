//! sqlx with its pool.
use drivers::{Db, Failure, Task, Use};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{query, Connection, Error, Row};

// [connect]
/// PgBouncer 1.18 mixes up the named statements of its clients: with persistent(false) on each query sqlx makes none.
/// PgBouncer needs `ignore_startup_parameters = extra_float_digits`, or the options .extra_float_digits(None).
async fn connect() -> Result<PgPool, Error> {
    let from_environment = PgConnectOptions::new();
    PgPoolOptions::new().max_connections(4).connect_with(from_environment).await
}

/// A transaction of the tenant whose token came with the request (X-Bulkhead-Token).
async fn tenant<T>(
    pool: &PgPool,
    token: &str,
    begin: &'static str,
    work: impl AsyncFn(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut transaction = pool.begin_with(begin).await?;
    query("SELECT bulkhead.enter($1)")
        .bind(token)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
    let result = work(&mut transaction).await?; // an error drops the transaction, which rolls back
    transaction.commit().await?;
    Ok(result)
}
// [end]

// [retry]
/// The tenant has moved; conflicts; the server process or the connection went away (then there is no SQLSTATE).
fn try_again(error: &Error) -> bool {
    match error {
        Error::Database(_) => ["TN004", "40001", "40P01", "57P01", "08P01"].contains(&state_of(error).as_str()),
        Error::Io(_) | Error::Protocol(_) => true,
        _ => false,
    }
}

async fn retry<T>(
    pool: &PgPool,
    token: &str,
    begin: &'static str,
    work: impl AsyncFn(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 1..3 {
        match tenant(pool, token, begin, &work).await {
            Err(error) if try_again(&error) => drivers::retrying(&state_of(&error)),
            done => return done,
        }
    }
    tenant(pool, token, begin, &work).await
}
// [end]

fn state_of(error: &Error) -> String {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .map_or(String::new(), |code| code.into_owned())
}

fn failure(error: Error) -> Failure {
    Failure {
        state: state_of(&error),
        text: format!("{error:?}"),
    }
}

struct In<'a>(&'a mut PgConnection);

impl Db for In<'_> {
    type Error = Error;

    async fn names(&mut self) -> Result<Vec<String>, Error> {
        let rows = query("SELECT name FROM items ORDER BY id")
            .persistent(false)
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    async fn name_of(&mut self, id: i32) -> Result<String, Error> {
        query("SELECT name FROM items WHERE id = $1")
            .bind(id)
            .persistent(false)
            .fetch_one(&mut *self.0)
            .await?
            .try_get(0)
    }

    async fn insert(&mut self, name: &str) -> Result<(), Error> {
        let insert = query("INSERT INTO items (name) VALUES ($1)").bind(name).persistent(false);
        insert.execute(&mut *self.0).await.map(|_| ())
    }

    async fn add(&mut self, name: &str) -> Result<(), Error> {
        let add = query("UPDATE items SET qty = qty + 1 WHERE name = $1")
            .bind(name)
            .persistent(false);
        add.execute(&mut *self.0).await.map(|_| ())
    }

    async fn pid(&mut self) -> Result<i32, Error> {
        query("SELECT pg_backend_pid()")
            .persistent(false)
            .fetch_one(&mut *self.0)
            .await?
            .try_get(0)
    }

    async fn state(&mut self) -> Result<String, Error> {
        // As text: for a type that it does not know, the driver makes a named statement to look it up.
        query("SELECT state::text FROM items WHERE id = 1")
            .persistent(false)
            .fetch_one(&mut *self.0)
            .await?
            .try_get(0)
    }
}

struct Driver(PgPool);

impl Use for Driver {
    async fn in_tenant(&self, token: &str, repeatable: bool, task: &Task<'_>) -> Result<Vec<String>, Failure> {
        let begin = if repeatable {
            "BEGIN ISOLATION LEVEL REPEATABLE READ"
        } else {
            "BEGIN"
        };
        let work = async |connection: &mut PgConnection| drivers::work(&mut In(connection), self, task).await;
        retry(&self.0, token, begin, work).await.map_err(failure)
    }

    async fn unbound(&self) -> Result<(), Failure> {
        let names = query("SELECT name FROM items").persistent(false).fetch_all(&self.0).await;
        names.map(|_| ()).map_err(failure)
    }

    async fn leave_dirty(&self, token: &str) -> Result<(), Failure> {
        let given_up = async |connection: &mut PgConnection| {
            In(connection).names().await?;
            Err::<(), _>(Error::RowNotFound)
        };
        match tenant(&self.0, token, "BEGIN", given_up).await {
            Err(Error::RowNotFound) => Ok(()),
            other => other.map_err(failure),
        }
    }

    async fn health(&self) -> Result<(), Failure> {
        let mut connection = self.0.acquire().await.map_err(failure)?;
        connection.ping().await.map_err(failure)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    drivers::run(Driver(connect().await.expect("a connection")), "sqlx").await;
}
