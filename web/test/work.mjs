// What people do all day, with the page's own security policy in force.
import { accessible, check, login, paste, session, settled, url, visit, WAIT } from './session.mjs';

export async function wrongToken() {
  const page = await session();
  await page.goto(url + '/');
  await page.getByLabel('API token').fill('wrong-token-wrong-token');
  await page.getByRole('button', { name: 'Show the dashboard' }).click();
  await page.getByRole('alert').filter({ hasText: 'not accepted' }).waitFor();
  await login(page);
  check(await page.evaluate(() => Object.values(localStorage).every(v => !v.includes('token-of'))), 'the token is in localStorage');
  await page.getByRole('button', { name: 'Forget token' }).click();
  await page.getByLabel('API token').waitFor();
  check(await page.evaluate(() => sessionStorage.length) === 0, 'the token is kept after it was forgotten');
  await page.context().close();
}

// signIn goes to a real provider and back to the page that was asked for, does
// something, and signs out: the cookie opens nothing any more.
export async function signIn() {
  const page = await session({ axe: true });
  await page.goto(url + '/#/audit');
  await page.getByRole('link', { name: 'Sign in with Company login' }).waitFor();
  await accessible(page, 'the sign-in', 'light');
  await page.getByRole('link', { name: 'Sign in with Company login' }).click();
  await page.getByRole('button', { name: 'anna' }).click();
  await page.getByText('oidc:anna (admin)').waitFor();
  check(page.url() === url + '/#/audit', 'signed in, and at ' + page.url());
  check(await page.evaluate(() => document.cookie === '' && sessionStorage.length === 0), 'a script can read the session');
  const lift = head => page.evaluate(async h => (await fetch('/api/v1/sessions/none', { method: 'DELETE', headers: h })).status, head);
  check(await lift({}) === 403, 'a change without the CSRF token was taken');
  const { csrf } = await page.evaluate(async () => (await fetch('/api/v1/whoami')).json());
  check(await lift({ 'X-CSRF-Token': csrf }) === 404, 'a change with the CSRF token was refused');
  await page.reload();
  await page.getByText('oidc:anna (admin)').waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  const kept = await page.context().cookies(url);
  const next = page.waitForURL(/\/session\/end\?/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await next;
  await page.context().addCookies(kept);
  await page.goto(url + '/');
  await page.getByRole('link', { name: 'Sign in with Company login' }).waitFor();
  await page.context().close();
}

// refusedThere: who has no role is told so, and may come again as somebody else.
export async function refusedThere() {
  const page = await session();
  await page.goto(url + '/');
  await page.getByRole('link', { name: 'Sign in with Company login' }).click();
  await page.getByRole('button', { name: 'zoe' }).click();
  await page.getByRole('alert').filter({ hasText: 'none of your groups has a role' }).waitFor();
  await page.getByRole('link', { name: 'Sign in with Company login' }).click();
  await page.getByRole('button', { name: 'anna' }).click();
  await page.getByText('oidc:anna (admin)').waitFor();
  await page.context().close();
}

// live: an incident is opened while the overview is looked at. Every other way to
// learn of it is shut: after the feed is there, lists are asked for once in 30 s
// only, and the toast comes from the feed alone.
export async function live() {
  const page = await session();
  await login(page);
  await page.getByText('live', { exact: true }).waitFor();
  await page.evaluate(() => { globalThis.same = true; });
  await page.request.post(url + '/test/open');
  await page.getByRole('log').getByRole('link', { name: 'SYN flood' }).waitFor();
  const row = page.getByRole('row').filter({ hasText: '198.18.77.1' });
  await row.waitFor();
  check(await page.evaluate(() => globalThis.same === true), 'the page was loaded anew');
  check(await row.evaluate(e => e.classList.contains('marked')), 'a new incident does not stand out');
  await row.getByRole('link', { name: 'SYN flood' }).click();
  await page.getByRole('heading', { name: '198.18.77.1' }).waitFor();
  // Without a feed the page asks, and says so.
  page.cut = true; // what fails now fails by us
  await page.route('**/api/v1/events', r => r.abort());
  await page.goto(url + '/#/');
  await page.reload();
  await page.getByText('asking', { exact: true }).waitFor();
  await page.request.post(url + '/test/open');
  await page.getByRole('row').filter({ hasText: '198.18.77.2' }).waitFor();
  // Without an answer it says since when, and keeps what it has.
  await page.route('**/api/v1/**', r => r.abort());
  await page.getByText(/stale since \d\d:\d\d:\d\d/).waitFor();
  check(await page.getByRole('row').filter({ hasText: '198.18.77.2' }).count() === 1, 'what was shown is gone when the service is');
  await page.unroute('**/api/v1/**');
  await page.unroute('**/api/v1/events');
  await page.getByText('live', { exact: true }).waitFor();
  // A service that hangs refuses nothing: what it does not answer is told as well.
  await page.route('**/api/v1/**', () => {});
  await page.getByText(/stale since \d\d:\d\d:\d\d/).waitFor();
  check(await page.getByRole('row').filter({ hasText: '198.18.77.2' }).count() === 1, 'what was shown is gone when the service hangs');
  await page.context().close();
}

async function keys(page) {
  await page.locator('body').press('g');
  await page.keyboard.press('i');
  await page.getByRole('heading', { name: 'Incidents', level: 1 }).waitFor();
  await page.keyboard.press('?');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.keyboard.press('/');
  check(await page.evaluate(() => document.activeElement?.id) === 'find', 'the key / does not go to the search field');
  await page.keyboard.type('198.18.0.7');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: '198.18.0.7' }).waitFor();
}

async function scanPicture(page) {
  await page.locator('canvas.dots').waitFor();
  await settled(page);
  const painted = await page.locator('canvas.dots').evaluate(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; });
  check(painted > 5000, `the scan picture has ${painted} painted pixels`);
  await page.getByText('The picture of a scan.').first().waitFor();
  check(/tcp\/22/.test(await page.locator('canvas.dots').getAttribute('aria-label')), 'the scan picture does not say what it shows');
  await page.getByLabel('Upwards').selectOption('port');
  await page.getByLabel('Upwards').selectOption('remote');
}

// copied waits for the clipboard to hold what is meant.
async function copied(page, meant) {
  const end = Date.now() + WAIT;
  for (;;) {
    const text = await page.evaluate(() => navigator.clipboard.readText());
    if (meant(text)) return text;
    if (Date.now() > end) throw new Error('the clipboard holds ' + text.slice(0, 200));
    await page.waitForTimeout(100);
  }
}

// links: what is chosen stands in the address, and a colleague sees the same.
async function links(page) {
  await page.getByLabel('Period').selectOption('6h');
  await page.waitForFunction(() => location.hash.includes('back=6h'));
  await page.getByRole('link', { name: 'Flows', exact: true }).click();
  await page.getByLabel('Port').fill('2222');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => location.hash.includes('port=2222') && location.hash.includes('tab=flows'));
  await page.getByRole('button', { name: 'Copy link' }).click();
  const link = await copied(page, t => t.includes('tab=flows'));
  check(/from=20\d\d/.test(link) && /to=20\d\d/.test(link) && !link.includes('back='), 'the copied link has no moments: ' + link);
  const other = await session();
  await login(other, 'viewer');
  await other.goto(link);
  await other.getByRole('cell', { name: 'tcp/2222' }).first().waitFor();
  check(await other.getByRole('cell', { name: 'tcp/22', exact: true }).count() === 0, 'the filter of the link is not obeyed');
  await visit(other, '/incidents/inc-1', 'Timeline');
  check(await other.getByRole('button', { name: 'Give the network back' }).count() === 0, 'a viewer is offered acts');
  await other.context().close();
}

async function release(page) {
  await visit(page, '/incidents/inc-1', 'Give the network back');
  await page.getByLabel('What the customer says was found and done').fill('Found a hacked WordPress, reinstalled.');
  await page.getByRole('button', { name: 'Give the network back' }).click();
  await page.getByText('being given back').first().waitFor();
  await visit(page, '/incidents/inc-2', 'Take the measure');
  await page.getByLabel('Why the measure is to be taken').fill('seen by eye');
  await page.getByRole('button', { name: 'Take the measure' }).click();
  await page.getByText('being done').first().waitFor();
}

async function find(page) {
  await page.locator('body').press('/');
  await page.keyboard.type('c-42');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Search: c-42' }).waitFor();
  await page.getByRole('link', { name: 'c-42', exact: true }).click();
  await page.getByRole('heading', { name: 'Tenant c-42' }).waitFor();
  await page.getByRole('cell', { name: '198.18.0.7/32' }).or(page.getByRole('cell', { name: '198.18.0.7', exact: true })).first().waitFor();
}

async function complain(page) {
  await visit(page, '/complaints', 'Paste what arrived');
  await page.getByLabel('open a case').check();
  await paste(page);
  await page.getByText('Lines read: 2.').waitFor();
  await page.getByText('Lines not understood: 1').first().waitFor();
  await page.getByRole('button', { name: 'Copy', exact: true }).click();
  await copied(page, t => t.startsWith('Thank you for your report.'));
  await page.getByText(/A case was opened|It was added to the case/).getByRole('link').click();
  const act = page.locator('form.act').filter({ has: page.getByRole('button', { name: 'Answered' }) });
  await act.getByLabel('Note for colleagues').fill('told the reporter');
  await act.getByRole('button', { name: 'Answered' }).click();
  await page.getByRole('row').filter({ hasText: 'told the reporter' }).waitFor();
}

async function exempt(page) {
  await visit(page, '/exemptions', 'Findings that an exemption covers');
  await page.getByRole('button', { name: 'Add an exemption' }).click();
  await page.getByRole('button', { name: 'Add', exact: true }).click(); // neither reason nor whom
  await page.getByLabel('Why it is right').fill('certificate census, ticket 12');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('alert').filter({ hasText: 'Write an address or a customer' }).waitFor();
  await page.getByLabel('Address or prefix of ours').fill('198.18.5.5');
  await page.getByLabel(/^Rule/).selectOption('netscan');
  await page.getByLabel('Port', { exact: true }).fill('443');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByText(/counts from now on/).waitFor();
  const row = page.getByRole('row').filter({ hasText: 'certificate census' });
  await row.filter({ hasText: '198.18.5.5' }).waitFor();
  await row.getByRole('button', { name: 'End it' }).click();
  await row.getByLabel('Why it ends').fill('the census is over');
  await row.getByRole('button', { name: 'End it' }).click();
  await page.getByText(/has ended/).waitFor();
  await row.waitFor({ state: 'detached' });
  await page.getByLabel('State').selectOption('removed');
  await row.waitFor();
}

async function mark(page) {
  await visit(page, '/rules', 'Cases to mark');
  const row = page.getByRole('row').filter({ hasText: '1,198 different addresses' });
  await row.getByRole('button', { name: 'Right' }).click();
  await row.getByLabel(/right: why/).fill('the customer confirmed it');
  await row.getByRole('button', { name: 'Save' }).click();
  await row.waitFor({ state: 'detached' });
  await page.getByRole('cell', { name: '98', exact: true }).waitFor(); // of 97 right ones
  await page.getByLabel('Mark', { exact: true }).selectOption('right');
  await row.getByText('the customer confirmed it').waitFor();
}

// audit: filters stand in the address; who looked at what is there for admins.
async function audit(page) {
  await visit(page, '/audit', 'Who did what');
  await page.getByLabel('Incident', { exact: true }).fill('inc-3');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => location.hash.includes('incident=inc-3'));
  await page.getByRole('link', { name: 'inc-1' }).first().waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  await settled(page);
  const reads = page.getByRole('group', { name: 'Who looked at personal data' });
  await reads.getByRole('table').or(reads.getByText('Nothing matches.')).first().waitFor();
}

export async function work() {
  const page = await session();
  await login(page);
  await keys(page);
  await scanPicture(page);
  await links(page);
  await find(page);
  await release(page);
  await complain(page);
  await exempt(page);
  await mark(page);
  await audit(page);
  // A wrong address says so.
  await visit(page, '/hosts/not-an-address', 'There is nothing to show');
  await visit(page, '/incidents/none', 'There is nothing to show');
  // The choice of language stays.
  await visit(page, '/', 'Top talkers');
  await page.getByLabel('Language').selectOption('ru');
  await page.getByRole('heading', { name: 'Открытые инциденты' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Открытые инциденты' }).waitFor({ timeout: WAIT });
  await page.context().close();
}
