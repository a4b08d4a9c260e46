// What each Node.js program does with its driver (../README.md); a driver gives the functions of `use`.
import readline from 'node:readline'

const TENANTS = ['acme', 'globex', 'initech']
const TOKENS = Object.fromEntries(TENANTS.map(t => [t, process.env[`TOKEN_${t.toUpperCase()}`]]))
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()

function say(...words) {
  process.stdout.write(words.join(' ').replaceAll('\n', ' ') + '\n')
}

/** The other end does it, then answers. */
async function ask(verb, what) {
  say('ask', verb, what)
  const { value } = await answers.next()
  if (value !== 'done') throw new Error(`no answer to ${verb}`)
}

/** Where an application would log a retry; the tenant that has moved can be reached again. */
export async function retrying(sqlstate) {
  if (sqlstate === 'TN004') await ask('back', 'globex')
}

export function check(condition, what) {
  if (!condition) throw new Error(what)
}

async function fails(work, ...sqlstates) {
  try {
    await work()
  } catch (error) {
    const found = error.code ?? error.cause?.code // an ORM wraps the driver's error
    check(sqlstates.includes(found), `SQLSTATE ${found} (${error}), not ${sqlstates}`)
    return
  }
  throw new Error(`no error, not ${sqlstates}`)
}

function only(names, tenant) {
  const strange = names.some(n => n.startsWith('first-') && n !== `first-${tenant}`)
  check(names.includes(`first-${tenant}`) && !strange, `as ${tenant}: ${names}`)
}

/** Four at a time, the tenants in turn: each sees its own row. */
async function turns(use) {
  let next = 0
  const worker = async () => {
    while (next < Number(process.env.TURNS)) {
      const tenant = TENANTS[next++ % 3]
      only(await use.inTenant(TOKENS[tenant], async db => {
        await use.add(db, `first-${tenant}`)
        return use.names(db)
      }), tenant)
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
}

/** Two transactions change one row: the second fails with 40001 and is tried again. */
async function conflict(use) {
  let attempts = 0
  await use.inTenant(TOKENS.acme, async db => {
    await use.names(db)
    if (attempts++ === 0) await use.inTenant(TOKENS.acme, other => use.add(other, 'serial'))
    await use.add(db, 'serial')
  }, 'REPEATABLE READ')
  check(attempts === 2, 'the conflict did not happen')
}

async function killed(use) {
  let attempts = 0
  await use.inTenant(TOKENS.acme, async db => {
    await use.insert(db, 'killed')
    if (attempts++ === 0) {
      await ask('kill', await use.pid(db))
      await use.settle?.()
    }
    only(await use.names(db), 'acme')
  })
  check(attempts === 2, 'the server process was not killed')
}

async function prepared(use) {
  for (let number = 0; number < 24; number++) {
    const tenant = TENANTS[number % 3]
    const name = await use.inTenant(TOKENS[tenant], db => use.nameOf(db, 1))
    check(name === `first-${tenant}`, `as ${tenant}: ${name}`)
  }
}

async function reset(use) {
  await use.leaveDirty(TOKENS.acme)
  for (const tenant of TENANTS) only(await use.inTenant(TOKENS[tenant], use.names), tenant)
}

/** `use`: inTenant(token, work, isolation), names, nameOf, insert, add, pid, state, unbound, leaveDirty, health, close. */
export async function run(use, version) {
  const acme = work => use.inTenant(TOKENS.acme, work)
  const steps = {
    connect: use.health,
    read: async () => only(await acme(use.names), 'acme'),
    write: () => acme(db => use.insert(db, 'written')),
    error: async () => {
      await fails(() => acme(db => use.insert(db, 'written')), '23505')
      only(await use.inTenant(TOKENS.globex, use.names), 'globex')
    },
    unbound: async () => {
      await fails(use.unbound, 'TN001', '42P01')
      await use.health()
    },
    refused: () => fails(() => use.inTenant('nonsense', use.names), 'TN002'),
    tenants: () => turns(use),
    prepared: () => prepared(use),
    types: async () => check(await acme(use.state) === 'new', 'the enum reads otherwise'),
    moved: async () => {
      await ask('move', 'globex')
      await use.inTenant(TOKENS.globex, db => use.insert(db, 'moved'))
    },
    serial: () => conflict(use),
    killed: () => killed(use),
    reset: () => reset(use),
    health: use.health
  }
  say('version', version)
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step()
      say('ok', name)
    } catch (error) {
      say('fail', name, `${error.stack}`)
    }
  }
  await use.close()
  process.exit()
}
