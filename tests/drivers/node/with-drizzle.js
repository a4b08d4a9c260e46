// Drizzle ORM on node-postgres.
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { asc, eq, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, pgEnum, pgTable, text } from 'drizzle-orm/pg-core'
import { check, retrying, run } from './scenario.js'

// [connect]
// Do not call .prepare('name') on a query: PgBouncer 1.18 mixes up the named statements of its clients.
const pool = new pg.Pool({ max: 4 })
pool.on('error', error => console.error('an idle connection broke:', error.message)) // else Node.js would exit
pool.on('connect', client => client.on('error', () => {})) // one that breaks in use fails its query: that is enough
const orm = drizzle({ client: pool })

/** A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
function tenant(token, work, isolationLevel = 'read committed') {
  return orm.transaction(async db => {
    await db.execute(sql`SELECT bulkhead.enter(${token})`)
    return work(db)
  }, { isolationLevel })
}
// [end]

// [retry]
// The tenant has moved; conflicts; the server process or the connection went away (then there is no SQLSTATE).
const RETRY = ['TN004', '40001', '40P01', '57P01', '08P01', 'ECONNRESET', undefined]

async function inTenant(token, work, isolation, tries = 3) {
  for (;;) {
    try {
      return await tenant(token, work, isolation?.toLowerCase())
    } catch (error) {
      const code = error.code ?? error.cause?.code // Drizzle wraps pg's error
      if (--tries === 0 || !RETRY.includes(code)) throw error
      await retrying(code)
    }
  }
}
// [end]

const mood = pgEnum('mood', ['new', 'used'])
const items = pgTable('items', {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  name: text().notNull(),
  state: mood().notNull().default('new'),
  qty: integer().notNull().default(0)
})

const use = {
  inTenant,
  names: async db => (await db.select().from(items).orderBy(asc(items.id))).map(row => row.name),
  nameOf: async (db, id) => (await db.select().from(items).where(eq(items.id, id)))[0].name,
  insert: (db, name) => db.insert(items).values({ name }),
  add: (db, name) => db.update(items).set({ qty: sql`${items.qty} + 1` }).where(eq(items.name, name)),
  pid: async db => (await db.execute(sql`SELECT pg_backend_pid() AS pid`)).rows[0].pid,
  state: async db => (await db.select().from(items).where(eq(items.id, 1)))[0].state,
  unbound: () => orm.select().from(items),
  leaveDirty: token => tenant(token, async db => {
    await use.names(db)
    throw new Error('given up')
  }).catch(error => check(error.message === 'given up', error)),
  health: async () => check((await orm.execute(sql`SELECT 1 AS one`)).rows[0].one === 1, 'SELECT 1'),
  close: () => pool.end()
}

const { version } = JSON.parse(readFileSync('node_modules/drizzle-orm/package.json'))
await run(use, version)
