// oidc-provider as an issuer of JWT access tokens: node provider.js PORT
// Rotates its keys as issuers do, by lines on standard input: `publish` shows new keys beside the old ones, `switch`
// signs with them, `drop` takes the old ones away. Each is answered by the kids of the set on standard output.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { generateKeyPairSync } from 'node:crypto'

// The packages lie beside the working directory, not beside this file.
const { default: Provider } = await import(createRequire(process.cwd() + '/').resolve('oidc-provider'))

const port = Number(process.argv[2])
const issuer = `http://127.0.0.1:${port}`
const kinds = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519')
}
let made = 0
function key (alg) {
  const jwk = kinds[alg]().privateKey.export({ format: 'jwk' })
  return { ...jwk, alg, use: 'sig', kid: `${alg}-${++made}` }
}

let keys = Object.keys(kinds).map(key)
let provider

function make () {
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(kinds).flatMap(alg => ['acme', 'globex'].map(org => ({
      client_id: `machine-${alg}-${org}`,
      client_secret: 'client-secret-of-a-test',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: []
    }))),
    scopes: ['orders.read', 'orders.write'],
    extraTokenClaims: ctx => ({ org: { id: ctx.oidc.client.clientId.split('-')[2] }, roles: ['staff'] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource, client) => ({
          scope: 'orders.read orders.write',
          audience: 'shop',
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: client.clientId.split('-')[1] } }
        })
      }
    }
  })
}

make()
const server = createServer((request, response) => provider.callback()(request, response))
server.listen(port, '127.0.0.1', () => console.log('ready'))

createInterface({ input: process.stdin }).on('line', line => {
  const count = Object.keys(kinds).length
  if (line === 'publish') keys = [...keys, ...Object.keys(kinds).map(key)]
  if (line === 'switch') keys = [...keys.slice(count), ...keys.slice(0, count)]
  if (line === 'drop') keys = keys.slice(0, count)
  make()
  console.log(keys.map(k => k.kid).join(' '))
}).on('close', () => process.exit(0))
