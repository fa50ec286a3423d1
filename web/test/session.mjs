// One Chromium for all that the browser's test does, and what each part needs.
// Nothing here sleeps and then looks: a slow machine is waited for.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

export const [url, tokens, shots] = process.argv.slice(2);
export const WAIT = 60_000;
const token = role => tokens.replace('ROLE', role);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let failed = 0;
export const failures = () => failed;
export const check = (ok, what) => { if (!ok) { failed++; console.log('FAIL: ' + what); } };
export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });

// session opens a window. The script of axe comes past the page's content
// security policy, which is tested by itself: bypassCSP is only set for axe.
export async function session(o = {}) {
  const context = await browser.newContext({
    viewport: o.phone ? { width: 390, height: 844 } : { width: 1280, height: 900 }, colorScheme: o.dark ? 'dark' : 'light', locale: o.lang ?? 'en-US',
    bypassCSP: !!o.axe, reducedMotion: 'reduce', permissions: ['clipboard-read', 'clipboard-write'],
  });
  context.setDefaultTimeout(WAIT);
  const page = await context.newPage();
  page.on('console', m => check(m.type() !== 'error' || /status of (4\d\d|5\d\d)/.test(m.text()) || page.cut && /ERR_FAILED/.test(m.text()), 'console: ' + m.text()));
  page.on('pageerror', e => check(false, 'script error: ' + e.message));
  page.on('dialog', d => { check(false, 'a dialog: a script of an attacker ran'); void d.dismiss(); });
  await page.addInitScript(() => addEventListener('securitypolicyviolation', e => console.error(`the content security policy was violated: ${e.effectiveDirective} ${e.blockedURI} ${e.sample}`)));
  return page;
}

export async function login(page, role = 'admin') {
  await page.goto(url + '/');
  await page.getByLabel(/^(API token|Токен API)$/).fill(token(role));
  await page.getByRole('button', { name: /Show the dashboard|Открыть панель/ }).click();
  await page.locator('nav.main').waitFor();
}

export async function visit(page, hash, text) {
  await page.goto(url + '/#' + hash);
  await page.getByText(text).first().waitFor();
}

// settled waits until nothing loads any more and what was asked for is drawn.
export async function settled(page) {
  const done = () => !/Loading…|Загрузка…/.test(document.body.innerText) && !document.querySelector('[aria-busy=true]');
  await page.waitForFunction(done, undefined, { timeout: WAIT }).catch(() => { throw new Error('it loads for ever: ' + page.url()); });
  await page.evaluate(() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r))));
}

// accessible asks axe: everything in light, the colours in dark, all but the
// colours on a phone and in Russian, where they are as before; they take most of
// the time.
export async function accessible(page, where, kind) {
  const colours = { 'color-contrast': { enabled: kind === 'light' } };
  const asked = kind === 'dark' ? { runOnly: { type: 'rule', values: ['color-contrast'] } } : { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], rules: colours };
  if (!await page.evaluate(() => !!globalThis.axe)) await page.evaluate(axe);
  const { violations } = await page.evaluate(async o => await globalThis.axe.run(document, o), { ...asked, resultTypes: ['violations'] });
  for (const v of violations) check(!['serious', 'critical'].includes(v.impact), `axe on ${where}: ${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 2).map(n => n.target).join('; ')}`);
}

// keep writes a picture as WebP, which Playwright does not but Chromium can.
export async function keep(page, name, whole) {
  if (!shots) return;
  const size = await page.evaluate(() => ({ width: document.documentElement.clientWidth, height: document.documentElement.scrollHeight, seen: innerHeight }));
  const cdp = await page.context().newCDPSession(page);
  const { data } = await cdp.send('Page.captureScreenshot', { format: 'webp', quality: 40, captureBeyondViewport: true, clip: { x: 0, y: 0, width: size.width, height: Math.min(whole ? size.height : size.seen, 1500), scale: 1 } });
  await cdp.detach();
  writeFileSync(`${shots}/${name}.webp`, Buffer.from(data, 'base64'));
}

// The pages, each with a text that is there when it is.
export const pages = [
  ['overview', '/', 'Top talkers'], ['incidents', '/incidents?state=all', 'found'], ['incident', '/incidents/inc-1', 'Scan picture'], ['host', '/hosts/198.18.0.7', 'Scan picture'],
  ['peers', '/hosts/198.18.0.7?tab=peers', 'Not established'], ['flows', '/hosts/198.18.0.7?tab=flows', 'Packets (est.)'], ['policy', '/hosts/198.18.0.7?tab=policy', 'What this host is judged by now'],
  ['complaints', '/complaints', 'Paste what arrived'], ['rules', '/rules', 'Proposed thresholds'], ['exemptions', '/exemptions', 'Findings that an exemption covers'],
  ['tenant', '/tenants/c-42', 'Standing'], ['search', '/search?q=c-42', 'found'],
  ['exporters', '/exporters', 'Export delay'], ['audit', '/audit', 'Undo'],
];

export const complaint = `Nov 20 10:00:01 gw sshd[811]: Failed password for root from 198.18.0.7 port 52218 ssh2
Nov 20 10:00:03 gw sshd[811]: Failed password for admin from 198.18.0.7 port 52219 ssh2
<img src=x onerror=alert(1)>"'&</script> and a line that nobody can read`;

export async function paste(page) {
  const box = page.getByLabel(/^(Complaint|Жалоба)$/);
  await box.fill(complaint);
  await page.getByRole('button', { name: /^(Match|Сверить)$/ }).click();
  await page.getByText(/^(Draft of a reply|Проект ответа)$/).waitFor();
}
