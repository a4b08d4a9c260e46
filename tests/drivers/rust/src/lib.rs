//! What each Rust program does with its driver (../../README.md).
use std::cell::Cell;
use std::env;
use std::future::Future;
use std::pin::Pin;

pub const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// What a driver failed with; `state` is the SQLSTATE, empty where none came.
#[derive(Debug)]
pub struct Failure {
    pub state: String,
    pub text: String,
}

/// What one transaction does.
pub enum Task<'a> {
    Names,
    First,
    State,
    Insert(&'a str),
    Add(&'a str),
    Turn(&'a str),
    Conflict(&'a Cell<u32>),
    Killed(&'a Cell<u32>),
}

/// What runs statements in one transaction.
#[allow(async_fn_in_trait)]
pub trait Db {
    type Error;
    async fn names(&mut self) -> Result<Vec<String>, Self::Error>;
    async fn name_of(&mut self, id: i32) -> Result<String, Self::Error>;
    async fn insert(&mut self, name: &str) -> Result<(), Self::Error>;
    async fn add(&mut self, name: &str) -> Result<(), Self::Error>;
    async fn pid(&mut self) -> Result<i32, Self::Error>;
    async fn state(&mut self) -> Result<String, Self::Error>;
}

/// What a driver gives.
#[allow(async_fn_in_trait)]
pub trait Use {
    async fn in_tenant(&self, token: &str, repeatable: bool, task: &Task<'_>) -> Result<Vec<String>, Failure>;
    async fn unbound(&self) -> Result<(), Failure>;
    async fn leave_dirty(&self, token: &str) -> Result<(), Failure>;
    async fn health(&self) -> Result<(), Failure>;
}

type Step = Result<(), String>;

fn token(tenant: &str) -> String {
    env::var(format!("TOKEN_{}", tenant.to_uppercase())).unwrap_or_default()
}

/// The other end does it, then answers.
fn ask(verb: &str, what: &str) {
    let mut answer = String::new();
    println!("ask {verb} {what}");
    std::io::stdin().read_line(&mut answer).expect("standard input");
    assert_eq!(answer.trim(), "done", "no answer to {verb}");
}

/// Where an application would log a retry; the tenant that has moved can be reached again.
pub fn retrying(sqlstate: &str) {
    if sqlstate == "TN004" {
        ask("back", "globex");
    }
}

/// Do the task; the names or the one value that it read.
pub async fn work<D: Db, U: Use>(db: &mut D, user: &U, task: &Task<'_>) -> Result<Vec<String>, D::Error> {
    match task {
        Task::Names => db.names().await,
        Task::First => Ok(vec![db.name_of(1).await?]),
        Task::State => Ok(vec![db.state().await?]),
        Task::Insert(name) => db.insert(name).await.map(|_| vec![]),
        Task::Add(name) => db.add(name).await.map(|_| vec![]),
        Task::Turn(tenant) => {
            db.add(&format!("first-{tenant}")).await?;
            db.names().await
        }
        Task::Conflict(attempts) => {
            db.names().await?;
            attempts.set(attempts.get() + 1);
            if attempts.get() == 1 {
                let acme = token("acme");
                let other: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(user.in_tenant(&acme, false, &Task::Add("serial")));
                other.await.expect("the other transaction");
            }
            db.add("serial").await.map(|_| vec![])
        }
        Task::Killed(attempts) => {
            db.insert("killed").await?;
            attempts.set(attempts.get() + 1);
            if attempts.get() == 1 {
                ask("kill", &db.pid().await?.to_string());
            }
            db.names().await
        }
    }
}

fn check(condition: bool, what: impl std::fmt::Debug) -> Step {
    condition.then_some(()).ok_or_else(|| format!("{what:?}"))
}

fn only(names: &[String], tenant: &str) -> Step {
    let first: Vec<_> = names.iter().filter(|n| n.starts_with("first-")).collect();
    check(first == [&format!("first-{tenant}")], (tenant, names))
}

fn fails<T: std::fmt::Debug>(result: Result<T, Failure>, states: &[&str]) -> Step {
    match result {
        Err(failure) => check(states.contains(&failure.state.as_str()), failure),
        Ok(value) => Err(format!("{value:?}, not {states:?}")),
    }
}

async fn run_as<U: Use>(user: &U, tenant: &str, task: Task<'_>) -> Result<Vec<String>, String> {
    user.in_tenant(&token(tenant), false, &task)
        .await
        .map_err(|failure| format!("{failure:?}"))
}

async fn sees<U: Use>(user: &U, tenant: &str) -> Step {
    only(&run_as(user, tenant, Task::Names).await?, tenant)
}

async fn worker<U: Use>(user: &U, next: &Cell<usize>, last: usize) -> Step {
    while next.get() < last {
        let tenant = TENANTS[next.replace(next.get() + 1) % 3];
        only(&run_as(user, tenant, Task::Turn(tenant)).await?, tenant)?;
    }
    Ok(())
}

/// Four at a time, the tenants in turn: each sees its own row.
async fn turns<U: Use>(user: &U) -> Step {
    let last = env::var("TURNS").map_or(0, |text| text.parse().unwrap_or(0));
    let next = Cell::new(0);
    let worker = || worker(user, &next, last);
    let (a, b, c, d) = tokio::join!(worker(), worker(), worker(), worker());
    a.and(b).and(c).and(d)
}

async fn prepared<U: Use>(user: &U) -> Step {
    for number in 0..24 {
        let tenant = TENANTS[number % 3];
        only(&run_as(user, tenant, Task::First).await?, tenant)?;
    }
    Ok(())
}

async fn error<U: Use>(user: &U) -> Step {
    fails(
        user.in_tenant(&token("acme"), false, &Task::Insert("written")).await,
        &["23505"],
    )?;
    sees(user, "globex").await
}

async fn unbound<U: Use>(user: &U) -> Step {
    fails(user.unbound().await, &["TN001", "42P01"])?;
    health(user).await
}

async fn health<U: Use>(user: &U) -> Step {
    user.health().await.map_err(|failure| format!("{failure:?}"))
}

async fn conflict<U: Use>(user: &U) -> Step {
    let attempts = Cell::new(0);
    let done = user.in_tenant(&token("acme"), true, &Task::Conflict(&attempts)).await;
    done.map_err(|failure| format!("{failure:?}"))?;
    check(attempts.get() == 2, "the conflict did not happen")
}

async fn killed<U: Use>(user: &U) -> Step {
    let attempts = Cell::new(0);
    only(&run_as(user, "acme", Task::Killed(&attempts)).await?, "acme")?;
    check(attempts.get() == 2, "the server process was not killed")
}

async fn reset<U: Use>(user: &U) -> Step {
    user.leave_dirty(&token("acme"))
        .await
        .map_err(|failure| format!("{failure:?}"))?;
    for tenant in TENANTS {
        sees(user, tenant).await?;
    }
    Ok(())
}

async fn step<U: Use>(user: &U, name: &str) -> Step {
    match name {
        "read" => sees(user, "acme").await,
        "write" => run_as(user, "acme", Task::Insert("written")).await.map(|_| ()),
        "error" => error(user).await,
        "unbound" => unbound(user).await,
        "refused" => fails(user.in_tenant("nonsense", false, &Task::Names).await, &["TN002"]),
        "tenants" => turns(user).await,
        "prepared" => prepared(user).await,
        "types" => check(
            run_as(user, "acme", Task::State).await? == ["new"],
            "the enum reads otherwise",
        ),
        "moved" => {
            ask("move", "globex");
            run_as(user, "globex", Task::Insert("moved")).await.map(|_| ())
        }
        "serial" => conflict(user).await,
        "killed" => killed(user).await,
        "reset" => reset(user).await,
        _ => health(user).await,
    }
}

/// Do every step and say how it went; `package` names the driver.
pub async fn run<U: Use>(user: U, package: &str) {
    println!("version {}", version(package));
    for name in [
        "connect", "read", "write", "error", "unbound", "refused", "tenants", "prepared", "types", "moved", "serial", "killed",
        "reset", "health",
    ] {
        match step(&user, name).await {
            Ok(()) => println!("ok {name}"),
            Err(why) => println!("fail {name} {}", why.replace('\n', " ")),
        }
    }
}

/// From the lock file with which this was built.
fn version(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1));
    version.and_then(|text| text.split('"').next()).unwrap_or("?").to_string()
}
