// Goes through the dashboard as a user does, in a real Chromium, and asks axe
// about each page. It prints one line for each check that fails and exits with
// their number. Usage: node browser.mjs URL TOKEN [SCREENSHOT-DIRECTORY]
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [url, tokens, shots] = process.argv.slice(2);
const token = role => tokens.replace('ROLE', role);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let failed = 0;
const check = (ok, what) => { if (!ok) { failed++; console.log('FAIL: ' + what); } };

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });

// The script of the tests comes past the page's content security policy, which
// is tested by itself: bypassCSP is only set for axe.
async function session(o = {}) {
  const context = await browser.newContext({
    viewport: o.phone ? { width: 390, height: 844 } : { width: 1280, height: 900 }, colorScheme: o.dark ? 'dark' : 'light', locale: o.lang ?? 'en-US',
    bypassCSP: !!o.axe, permissions: ['clipboard-read', 'clipboard-write'],
  });
  context.setDefaultTimeout(60000);
  const page = await context.newPage();
  page.on('console', m => check(m.type() !== 'error' || /status of (4\d\d|5\d\d)/.test(m.text()), 'console: ' + m.text()));
  page.on('pageerror', e => check(false, 'script error: ' + e.message));
  page.on('dialog', d => { check(false, 'a dialog: a script of an attacker ran'); void d.dismiss(); });
  return page;
}

async function login(page, role = 'admin') {
  await page.goto(url + '/');
  await page.getByLabel('API token').or(page.getByLabel('Токен API')).fill(token(role));
  await page.getByRole('button', { name: /Show the dashboard|Открыть панель/ }).click();
  await page.getByRole('navigation').waitFor();
}

async function visit(page, hash, text) {
  await page.goto(url + '/#' + hash);
  await page.getByText(text).first().waitFor();
}

async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(async () => await globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }));
  for (const v of violations) check(!['serious', 'critical'].includes(v.impact), `axe on ${where}: ${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 2).map(n => n.target).join('; ')}`);
}

const pages = [
  ['overview', '/', 'Top talkers'], ['incidents', '/incidents?state=all', 'Incidents'], ['incident', '/incidents/inc-1', 'Scan picture'], ['host', '/hosts/198.18.0.7', 'Flows'],
  ['exporters', '/exporters', 'Export delay'], ['complaints', '/complaints', 'Paste what arrived'], ['audit', '/audit', 'Undo'],
];

async function wrongToken() {
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
}

async function looks() {
  for (const [theme, o] of [['light', {}], ['dark', { dark: true }], ['phone', { phone: true }]]) {
    const page = await session({ ...o, axe: true });
    await login(page);
    for (const [name, hash, text] of pages) {
      await visit(page, hash, text);
      await page.waitForTimeout(400);
      await accessible(page, `${name} (${theme})`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      check(wide <= 1, `${name} (${theme}) is ${wide} px wider than the window`);
      if (shots) await page.screenshot({ path: `${shots}/${name}-${theme}.png`, fullPage: theme !== 'phone' });
    }
    await page.context().close();
  }
  const page = await session({ lang: 'ru-RU', axe: true });
  await login(page);
  for (const [name, hash] of pages) {
    await page.goto(url + '/#' + hash);
    await page.waitForTimeout(700);
    await accessible(page, `${name} (ru)`);
    const latin = await page.evaluate(() => [...document.querySelectorAll('h2, button, label, th')].map(e => e.textContent).filter(t => /^[A-Za-z ,]{4,}$/.test(t)));
    check(latin.length === 0, `${name} (ru): not translated: ${latin.join(' | ')}`);
    if (shots) await page.screenshot({ path: `${shots}/${name}-ru.png`, fullPage: true });
  }
}

async function work() {
  const page = await session();
  await login(page);
  // The whole page is drawn within a second of asking for it.
  const drawn = await page.evaluate(() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd);
  console.log(`interactive after ${Math.round(drawn)} ms`);
  // Keys.
  await page.locator('body').press('g');
  await page.keyboard.press('i');
  await page.getByRole('heading', { name: 'Incidents' }).waitFor();
  await page.keyboard.press('/');
  check(await page.evaluate(() => document.activeElement?.id) === 'ip', 'the key / does not go to the search field');
  await page.keyboard.type('198.18.0.7');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: '198.18.0.7' }).waitFor();
  await page.locator('canvas.dots').waitFor();
  const painted = await page.locator('canvas.dots').evaluate(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; });
  check(painted > 200, `the scan picture has ${painted} painted pixels`);
  // A release with a reason moves the incident.
  await visit(page, '/incidents/inc-1', 'Give the network back');
  await page.getByLabel('What the customer says was found and done').fill('Found a hacked WordPress, reinstalled.');
  await page.getByRole('button', { name: 'Give the network back' }).click();
  await page.getByText('being given back').first().waitFor();
  // An approval.
  await visit(page, '/incidents/inc-2', 'Take the measure');
  await page.getByLabel('Why the measure is to be taken').fill('seen by eye');
  await page.getByRole('button', { name: 'Take the measure' }).click();
  await page.getByText('being done').first().waitFor();
  // Links can be sent: a second session sees the same page.
  const other = await session();
  await login(other, 'viewer');
  await visit(other, '/incidents/inc-1', 'Timeline');
  check(await other.getByRole('button', { name: 'Give the network back' }).count() === 0, 'a viewer is offered acts');
  // A wrong address says so.
  await visit(page, '/hosts/not-an-address', 'There is nothing to show');
  await visit(page, '/incidents/none', 'There is nothing to show');
  // The choice of zone and language stays.
  await visit(page, '/', 'Top talkers');
  await page.getByLabel('Language').selectOption('ru');
  await page.getByRole('heading', { name: 'Открытые инциденты' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Открытые инциденты' }).waitFor();
}

// hostile: what an attacker controls is text, wherever it is shown.
async function hostile() {
  const page = await session();
  await login(page);
  for (const [, hash, text] of pages) {
    await visit(page, hash, text);
    check(await page.locator('img[src="x"]').count() === 0, hash + ': an attacker\'s tag became one');
  }
}

for (const [name, f] of Object.entries({ wrongToken, looks, work, hostile })) {
  try { await f(); } catch (e) { check(false, name + ': ' + e.message.split('\n').slice(0, 3).join(' ')); }
}
await browser.close();
process.exit(Math.min(failed, 100));
