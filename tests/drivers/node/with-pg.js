// node-postgres (pg) with its pool.
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { check, retrying, run } from './scenario.js'

// [connect]
// Give no statement a `name`: PgBouncer 1.18 mixes up the named statements of its clients. Without names pg makes none.
const pool = new pg.Pool({ max: 4 })
pool.on('error', error => console.error('an idle connection broke:', error.message)) // else Node.js would exit

/** A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
async function tenant(token, work, isolation = 'READ COMMITTED') {
  const db = await pool.connect()
  let broken
  db.on('error', onError)
  function onError(error) { broken = error }
  try {
    await db.query(`BEGIN ISOLATION LEVEL ${isolation}`)
    await db.query('SELECT bulkhead.enter($1)', [token])
    const result = await work(db)
    await db.query('COMMIT')
    return result
  } catch (error) {
    await db.query('ROLLBACK').catch(lost => { broken = lost })
    throw error
  } finally {
    db.off('error', onError)
    db.release(broken) // with an error: the pool drops the connection
  }
}
// [end]

// [retry]
// The tenant has moved; conflicts; the server process or the connection went away (then there is no SQLSTATE).
const RETRY = ['TN004', '40001', '40P01', '57P01', '08P01', 'ECONNRESET', undefined]

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
  names: async db => (await db.query('SELECT name FROM items ORDER BY id')).rows.map(row => row.name),
  nameOf: async (db, id) => (await db.query('SELECT name FROM items WHERE id = $1', [id])).rows[0].name,
  insert: (db, name) => db.query('INSERT INTO items (name) VALUES ($1)', [name]),
  add: (db, name) => db.query('UPDATE items SET qty = qty + 1 WHERE name = $1', [name]),
  pid: async db => (await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid,
  state: async db => (await db.query('SELECT state FROM items WHERE id = 1')).rows[0].state,
  unbound: () => pool.query('SELECT name FROM items'),
  leaveDirty: async token => {
    const db = await pool.connect()
    await db.query('BEGIN')
    await db.query('SELECT bulkhead.enter($1)', [token])
    await db.query('SELECT name FROM items')
    db.release(true) // in its transaction: pg's pool resets nothing, so the connection must be dropped
  },
  health: async () => check((await pool.query('SELECT 1 AS one')).rows[0].one === 1, 'SELECT 1'),
  close: () => pool.end()
}

const { version } = JSON.parse(readFileSync('node_modules/pg/package.json'))
await run(use, version)
