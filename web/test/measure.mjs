// What the first load weighs is checked; how long things take is only told, since
// that is the machine's.
import { check, login, session, settled, url } from './session.mjs';

const BUDGET = 300_000; // bytes as sent, of everything before the first click

export async function measure() {
  const page = await session();
  await page.goto(url + '/');
  await page.getByLabel('API token').waitFor();
  const load = await page.evaluate(() => {
    const [nav] = performance.getEntriesByType('navigation'), files = performance.getEntriesByType('resource');
    return { bytes: [nav, ...files].reduce((n, e) => n + e.transferSize, 0), plain: [nav, ...files].reduce((n, e) => n + e.decodedBodySize, 0), files: files.length + 1, ms: performance.now(), ready: nav.domContentLoadedEventEnd };
  });
  check(load.bytes > 10_000 && load.bytes < BUDGET, `the first load is ${load.bytes} bytes, the budget is ${BUDGET}`);
  console.log(`first load: ${load.bytes} bytes in ${load.files} files (${load.plain} unpacked); scripts done after ${Math.round(load.ready)} ms`);
  const start = Date.now();
  await login(page);
  await page.getByRole('heading', { name: 'Top talkers' }).waitFor();
  await settled(page);
  console.log(`overview of 100,000 hosts complete ${Date.now() - start} ms after the token was typed`);
  // Smoothness: what blocks the page for 50 ms and more while lists are renewed
  // and a hundred incidents come in by the feed.
  await page.evaluate(() => {
    globalThis.long = [];
    new PerformanceObserver(l => globalThis.long.push(...l.getEntries().map(e => e.duration))).observe({ type: 'longtask' });
  });
  for (let i = 0; i < 100; i++) await page.request.post(url + '/test/open');
  await page.getByRole('row').filter({ hasText: 'c-9' }).nth(40).waitFor();
  for (const by of ['out_packets', 'in_bytes', 'in_packets', 'syn', 'out_bytes']) {
    await page.getByLabel('by', { exact: true }).selectOption(by);
    await settled(page);
  }
  const { long, nodes } = await page.evaluate(() => ({ long: globalThis.long, nodes: document.querySelectorAll('*').length }));
  console.log(`100 incidents pushed, 5 orders of the top list: ${long.length} long tasks, longest ${Math.round(Math.max(0, ...long))} ms, ${nodes} elements`);
  check(nodes < 5000, `the overview has ${nodes} elements: it must not grow with the fleet`);
  await page.context().close();
}
