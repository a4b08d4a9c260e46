//! tokio-postgres with the pool deadpool-postgres.
use deadpool_postgres::{Config, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Transaction};
use drivers::{Db, Failure, Task, Use};
use std::env;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, IsolationLevel, NoTls};

// [connect]
/// PgBouncer 1.18 mixes up the named statements of its clients: use query_typed() and execute_typed(), which make none;
/// query(), execute() and prepare() do. Not RecyclingMethod::Clean, whose statements are refused outside a transaction.
fn connect() -> Pool {
    let mut config = Config::new();
    config.host = env::var("PGHOST").ok();
    config.port = env::var("PGPORT").ok().and_then(|port| port.parse().ok());
    config.user = env::var("PGUSER").ok();
    config.password = env::var("PGPASSWORD").ok();
    config.dbname = env::var("PGDATABASE").ok();
    config.manager = Some(ManagerConfig {
        recycling_method: RecyclingMethod::Verified,
    });
    config.pool = Some(deadpool_postgres::PoolConfig::new(4));
    config.create_pool(Some(Runtime::Tokio1), NoTls).expect("a configuration")
}

/// A transaction of the tenant whose token came with the request (X-Bulkhead-Token).
async fn tenant<T>(
    pool: &Pool,
    token: &str,
    isolation: IsolationLevel,
    work: impl AsyncFn(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, PoolError> {
    let mut client = pool.get().await?;
    let transaction = client.build_transaction().isolation_level(isolation).start().await?;
    transaction
        .execute_typed("SELECT bulkhead.enter($1)", &[(&token, Type::TEXT)])
        .await?;
    let result = work(&transaction).await?; // an error drops the transaction, which rolls back
    transaction.commit().await?;
    Ok(result)
}
// [end]

// [retry]
/// The tenant has moved; conflicts; the server process or the connection went away (then there is no SQLSTATE).
fn try_again(error: &PoolError) -> bool {
    let PoolError::Backend(error) = error else { return false };
    match error.code() {
        Some(state) => ["TN004", "40001", "40P01", "57P01", "08P01"].contains(&state.code()),
        None => true,
    }
}

async fn retry<T>(
    pool: &Pool,
    token: &str,
    isolation: IsolationLevel,
    work: impl AsyncFn(&Transaction<'_>) -> Result<T, Error>,
) -> Result<T, PoolError> {
    for _ in 1..3 {
        match tenant(pool, token, isolation, &work).await {
            Err(error) if try_again(&error) => drivers::retrying(&state_of(&error)),
            done => return done,
        }
    }
    tenant(pool, token, isolation, &work).await
}
// [end]

fn state_of(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => error.code().map_or(String::new(), |state| state.code().to_string()),
        _ => String::new(),
    }
}

fn failure(error: PoolError) -> Failure {
    Failure {
        state: state_of(&error),
        text: format!("{error:?}"),
    }
}

struct In<'a>(&'a Transaction<'a>);

impl Db for In<'_> {
    type Error = Error;

    async fn names(&mut self) -> Result<Vec<String>, Error> {
        let rows = self.0.query_typed("SELECT name FROM items ORDER BY id", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn name_of(&mut self, id: i32) -> Result<String, Error> {
        let rows = self
            .0
            .query_typed("SELECT name FROM items WHERE id = $1", &[(&id, Type::INT4)])
            .await?;
        Ok(rows[0].get(0))
    }

    async fn insert(&mut self, name: &str) -> Result<(), Error> {
        self.0
            .execute_typed("INSERT INTO items (name) VALUES ($1)", &[(&name, Type::TEXT)])
            .await
            .map(|_| ())
    }

    async fn add(&mut self, name: &str) -> Result<(), Error> {
        self.0
            .execute_typed("UPDATE items SET qty = qty + 1 WHERE name = $1", &[(&name, Type::TEXT)])
            .await
            .map(|_| ())
    }

    async fn pid(&mut self) -> Result<i32, Error> {
        Ok(self.0.query_typed("SELECT pg_backend_pid()", &[]).await?[0].get(0))
    }

    async fn state(&mut self) -> Result<String, Error> {
        // As text: for a type that it does not know, the driver makes a named statement to look it up.
        Ok(self.0.query_typed("SELECT state::text FROM items WHERE id = 1", &[]).await?[0].get(0))
    }
}

struct Driver(Pool);

impl Use for Driver {
    async fn in_tenant(&self, token: &str, repeatable: bool, task: &Task<'_>) -> Result<Vec<String>, Failure> {
        let isolation = if repeatable {
            IsolationLevel::RepeatableRead
        } else {
            IsolationLevel::ReadCommitted
        };
        let work = async |transaction: &Transaction<'_>| drivers::work(&mut In(transaction), self, task).await;
        retry(&self.0, token, isolation, work).await.map_err(failure)
    }

    async fn unbound(&self) -> Result<(), Failure> {
        let client = self.0.get().await.map_err(failure)?;
        client
            .query_typed("SELECT name FROM items", &[])
            .await
            .map(|_| ())
            .map_err(|error| failure(error.into()))
    }

    async fn leave_dirty(&self, token: &str) -> Result<(), Failure> {
        let given_up = async |transaction: &Transaction<'_>| {
            In(transaction).names().await?;
            In(transaction).insert("written").await // is there already
        };
        match tenant(&self.0, token, IsolationLevel::ReadCommitted, given_up).await {
            Err(error) if state_of(&error) == "23505" => Ok(()),
            other => other.map_err(failure),
        }
    }

    async fn health(&self) -> Result<(), Failure> {
        self.0.get().await.map(|_| ()).map_err(failure)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    drivers::run(Driver(connect()), "tokio-postgres").await;
}
