// A real OpenID Connect provider (oidc-provider, certified by the OpenID
// Foundation) for the tests. It prints its issuer, reads the redirect URI from its
// input, and lets everybody in by the button with his name. It ends with its input.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const PEOPLE = { anna: ['staff', 'noc-admins'], boris: ['noc'], zoe: ['sales'] };

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = 'http://127.0.0.1:' + server.address().port;
const input = createInterface({ input: process.stdin });
input.on('close', () => process.exit(0));
console.log(issuer);
const [redirect] = await once(input, 'line');

const provider = new Provider(issuer, {
  clients: [{ client_id: 'flowcordon', client_secret: 'client-secret-0123456789abcdef', redirect_uris: [redirect], post_logout_redirect_uris: [new URL('/', redirect).href] }],
  pkce: { required: () => true },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] }, // in userinfo only, as its default is
  features: {
    devInteractions: { enabled: false },
    // Its own page loads a font from elsewhere.
    rpInitiatedLogout: { logoutSource: (ctx, form) => { ctx.body = `<!doctype html><html lang="en"><title>Sign out</title><h1>Sign out?</h1>${form}</html>`; } },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: 'sub-' + id, preferred_username: id, groups: PEOPLE[id] }) }),
  interactions: { url: (_, i) => '/people/' + i.uid },
  cookies: { keys: ['a key of the tests'] },
});

async function grant(i, who) {
  const g = new provider.Grant({ accountId: who, clientId: i.params.client_id });
  g.addOIDCScope('openid profile');
  return { login: { accountId: who }, consent: { grantId: await g.save() } };
}

const oidc = provider.callback();
server.on('request', async (req, res) => {
  const u = new URL(req.url, issuer);
  if (!u.pathname.startsWith('/people/')) return oidc(req, res);
  const who = u.searchParams.get('who');
  if (who === 'nobody') return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'no' });
  if (PEOPLE[who]) return provider.interactionFinished(req, res, await grant(await provider.interactionDetails(req, res), who));
  res.setHeader('Content-Type', 'text/html');
  res.end('<!doctype html><html lang="en"><title>Company login</title><h1>Who are you?</h1><form>' + Object.keys(PEOPLE).map(p => `<button name="who" value="${p}">${p}</button>`).join(' ') + '</form></html>');
});
console.log('ready');
