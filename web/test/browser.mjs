// Goes through the dashboard as a user does, in a real Chromium, and asks axe
// about each page. It prints one line for each check that fails and exits with
// their number. Usage: node browser.mjs URL TOKEN [SCREENSHOT-DIRECTORY]
import { hostile } from './hostile.mjs';
import { looks } from './looks.mjs';
import { measure } from './measure.mjs';
import { browser, check, failures } from './session.mjs';
import { live, refusedThere, signIn, work, wrongToken } from './work.mjs';

// What changes the data comes after what looks at it.
for (const [name, f] of Object.entries({ wrongToken, signIn, refusedThere, looks, hostile, live, work, measure })) {
  const start = Date.now();
  try { await f(); } catch (e) { check(false, `${name}: ${e.message.split('\n').slice(0, 4).join(' ')} ${/\((.*\/test\/\w+\.mjs:\d+)/.exec(e.stack)?.[1] ?? ''}`); }
  console.log(`${name}: ${Math.round((Date.now() - start) / 1000)} s`);
}
await browser.close();
process.exit(Math.min(failures(), 100));
