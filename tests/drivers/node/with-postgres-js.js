// postgres.js, which is its own pool.
import { readFileSync } from 'node:fs'
import postgres from 'postgres'
import { check, retrying, run } from './scenario.js'

// [connect]
// prepare: PgBouncer 1.18 mixes up the named statements of its clients; with false postgres.js makes none.
// fetch_types: else it reads pg_type before a tenant is bound, which is refused.
const sql = postgres({ max: 4, prepare: false, fetch_types: false })

/** A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
function tenant(token, work, isolation = 'READ COMMITTED') {
  return sql.begin(`ISOLATION LEVEL ${isolation}`, async db => {
    await db`SELECT bulkhead.enter(${token})`
    return work(db)
  })
}
// [end]

// [retry]
// The tenant has moved; conflicts; the server process or the connection went away.
const RETRY = ['TN004', '40001', '40P01', '57P01', '08P01', 'CONNECTION_CLOSED', 'ECONNRESET']

async function inTenant(token, work, isolation, tries = 3) {
  for (;;) {
    try {
      return await tenant(token, work, isolation)
    } catch (error) {
      if (--tries === 0 || !RETRY.includes(error.code)) throw error
      await retrying(error.code)
    }
  }
}
// [end]

const use = {
  inTenant,
  names: async db => (await db`SELECT name FROM items ORDER BY id`).map(row => row.name),
  nameOf: async (db, id) => (await db`SELECT name FROM items WHERE id = ${id}`)[0].name,
  insert: (db, name) => db`INSERT INTO items (name) VALUES (${name})`,
  add: (db, name) => db`UPDATE items SET qty = qty + 1 WHERE name = ${name}`,
  pid: async db => (await db`SELECT pg_backend_pid() AS pid`)[0].pid,
  state: async db => (await db`SELECT state FROM items WHERE id = 1`)[0].state,
  unbound: () => sql`SELECT name FROM items`,
  leaveDirty: async token => {
    const db = await sql.reserve()
    await db`BEGIN`
    await db`SELECT bulkhead.enter(${token})`
    await db`SELECT name FROM items`
    await db`ROLLBACK` // postgres.js resets nothing when a reserved connection is released
    db.release()
  },
  // 3.4.9 throws outside any promise where the connection closes between a query and its write to the socket.
  settle: () => new Promise(resolve => setTimeout(resolve, 200)),
  health: async () => check((await sql`SELECT 1 AS one`)[0].one === 1, 'SELECT 1'),
  close: () => sql.end()
}

const { version } = JSON.parse(readFileSync('node_modules/postgres/package.json'))
await run(use, version)
