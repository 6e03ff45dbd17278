// A provider on a free port of 127.0.0.1. Arguments: its packages' folder, and the client as JSON. Prints its issuer.
// It signs in at once, without a page: `login_hint` of the authorization request has the claims as JSON.
import { createServer } from 'node:http'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [packages, client] = process.argv.slice(2)
const { Provider } = await import(pathToFileURL(join(packages, 'node_modules/oidc-provider/lib/index.js')))

const people = new Map()
const scopes = 'openid email profile'

let handle
const server = createServer((request, response) => handle(request, response))
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const issuer = `http://127.0.0.1:${server.address().port}`

const provider = new Provider(issuer, {
  clients: [JSON.parse(client)],
  cookies: { keys: ['of the tests'] },
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, clientCredentials: { enabled: true } },
  scopes: ['events:write', 'events:admin'],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'accounts', 'webhooks_role', 'groups'],
  },
  interactions: { url: (context, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (context, sub) => ({ accountId: sub, claims: () => people.get(sub) }),
  async loadExistingGrant(context) {
    const { session, client } = context.oidc
    const grant = new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
    grant.addOIDCScope(scopes)
    await grant.save()
    return grant
  },
})

const answer = provider.callback()
handle = async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response)
  const { params } = await provider.interactionDetails(request, response)
  const person = JSON.parse(params.login_hint ?? '{"refuse": true}')
  if (person.refuse) {
    const result = { error: 'access_denied', error_description: 'The person said no' }
    return provider.interactionFinished(request, response, result)
  }
  people.set(person.sub, person)
  return provider.interactionFinished(request, response, { login: { accountId: person.sub } })
}
console.log(issuer)
