// Each page in light, dark, on a phone and in Russian: nothing wider than the
// window, nothing that axe calls serious, nothing left untranslated; a picture
// of each is kept when there is a directory for it.
import { accessible, check, keep, login, pages, paste, session, settled, url } from './session.mjs';

const kinds = [['light', {}], ['dark', { dark: true }], ['phone', { phone: true }], ['ru', { lang: 'ru-RU' }]];

async function look(page, kind, name) {
  await settled(page);
  await accessible(page, `${name} (${kind})`, kind);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 1, `${name} (${kind}) is ${wide} px wider than the window`);
  if (kind === 'ru') {
    const latin = await page.evaluate(() => [...document.querySelectorAll('h1, h2, button, label, th, nav a, .badge, option')].map(e => e.textContent).filter(t => /^[A-Za-z ,()]{4,}$/.test(t)));
    const known = ['English', 'flowcordon', 'icmp', 'icmpv6'];
    check(latin.every(t => known.includes(t)), `${name} (ru): not translated: ${latin.filter(t => !known.includes(t)).join(' | ')}`);
  }
  await keep(page, `${name}-${kind}`, kind !== 'phone');
}

export async function looks() {
  for (const [kind, o] of kinds) {
    const page = await session({ ...o, axe: true });
    await login(page);
    for (const [name, hash, text] of pages) {
      await page.goto(url + '/#' + hash);
      if (kind !== 'ru') await page.getByText(text).first().waitFor();
      await page.locator('main h1').first().waitFor({ state: 'attached' });
      await look(page, kind, name);
    }
    await page.goto(url + '/#/complaints');
    await paste(page);
    await look(page, kind, 'complaint');
    await page.goto(url + '/#/complaints?status=all');
    await page.locator('a[href^="#/complaints/cc-"]').first().click();
    await page.locator('pre.letter').waitFor();
    await look(page, kind, 'case');
    await page.context().close();
  }
}
