// What an attacker controls is text, wherever it is shown: names of hosts,
// customers and exporters' options, complaints, reasons, statements, audit. The
// pages' own policy is in force; its violations, dialogs and script errors are
// failures (see session).
import { check, login, pages, paste, session, settled, url } from './session.mjs';

const HOSTILE = '<img src=x onerror=alert(1)>';

export async function hostile() {
  const page = await session();
  await login(page);
  const seen = {};
  const clean = async where => {
    await settled(page);
    const found = await page.evaluate(() => ({
      tags: document.querySelectorAll('img[src="x"], [onerror], [onclick], iframe, object, embed, base, script:not([src$="app.js"])').length,
      links: [...document.querySelectorAll('a[href]')].filter(a => !/^(https?:|#|mailto:customer@example\.net$)/.test(a.href) || /^javascript:/i.test(a.getAttribute('href'))).length,
      text: document.body.innerText,
    }));
    check(found.tags === 0, `${where}: a text became ${found.tags} elements`);
    check(found.links === 0, `${where}: ${found.links} links that lead elsewhere`);
    seen[where] = found.text.includes(HOSTILE);
  };
  for (const [name, hash, text] of pages) {
    await page.goto(url + '/#' + hash);
    await page.getByText(text).first().waitFor();
    await clean(name);
  }
  await page.goto(url + '/#/hosts/198.18.0.4');
  await page.getByRole('heading', { name: '198.18.0.4' }).waitFor();
  await clean('host of others');
  await page.goto(url + '/#/incidents/inc-3');
  await page.getByRole('heading', { name: '198.18.9.1' }).waitFor();
  await clean('hostile incident');
  await page.goto(url + '/#/complaints');
  await paste(page);
  await page.locator('summary').filter({ hasText: 'not understood' }).click();
  await clean('complaint');
  await page.goto(url + '/#/complaints?status=all');
  await page.locator('a[href^="#/complaints/cc-"]').first().click();
  await page.locator('pre.letter').waitFor();
  await clean('case');
  for (const where of ['overview', 'incidents', 'incident', 'policy', 'rules', 'exemptions', 'exporters', 'audit', 'host of others', 'hostile incident', 'complaint']) check(seen[where], `${where}: the hostile text is not shown, so nothing was tried there`);
  // What stands in the address is another's choice, too: a link may come by mail.
  for (const bad of ['javascript:alert(1)', HOSTILE, '%', '..%2f..%2f', '__proto__']) {
    for (const at of [`/hosts/${bad}`, `/incidents/${bad}`, `/incidents?state=${bad}&rule=${bad}&tenant=${bad}`, `/hosts/198.18.0.7?tab=${bad}&back=${bad}&from=${bad}`, `/search?q=${bad}`, `/complaints/${bad}`, `/tenants/${bad}`, `/exemptions?status=${bad}&tenant=${bad}`, `/rules?days=${bad}&rule=${bad}`, `/audit?actor=${bad}&before=${bad}`, `/${bad}`]) {
      await page.goto(url + '/#' + at);
      await page.locator('main h1').first().waitFor({ state: 'attached' });
      await clean(at);
    }
  }
  await page.context().close();
}
