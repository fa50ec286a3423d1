// The feed of events: text/event-stream read with fetch, because an EventSource
// cannot carry the token in a header and a token in an address would be logged.
import { authorization, known } from './api';

export interface News { name: string; data: Record<string, unknown> }
// off: not asked for; live: events come; polling: they do not, so pages ask.
export type FeedState = 'off' | 'live' | 'polling';

const SILENCE = 45_000; // three beats of 15 s
const LONGEST = 30_000;
const HIDDEN = 60_000;
const ABSENT = 300_000; // a server without a feed is asked again much later

let state: FeedState = 'off';
let ctl: AbortController | undefined;
let timer = 0, last = '', wait = 1000;
const onNews = new Set<(n: News) => void>();
const onState = new Set<(s: FeedState) => void>();

export const feedState = () => state;
export function watchNews(f: (n: News) => void): () => void { onNews.add(f); return () => onNews.delete(f); }
export function watchState(f: (s: FeedState) => void): () => void { onState.add(f); return () => onState.delete(f); }

function become(s: FeedState) {
  if (s === state) return;
  state = s;
  onState.forEach(f => f(s));
}

export function startFeed() {
  stopFeed();
  wait = 1000;
  document.addEventListener('visibilitychange', seen);
  void connect();
}

// seen gives the connection back when nobody looks: a browser has only six for
// one server, which six forgotten tabs would hold.
function seen() {
  clearTimeout(timer);
  if (!document.hidden) {
    if (!ctl || state !== 'live') void connect();
    return;
  }
  timer = window.setTimeout(() => { ctl?.abort(); ctl = undefined; become('polling'); }, HIDDEN);
}

export function stopFeed() {
  document.removeEventListener('visibilitychange', seen);
  clearTimeout(timer);
  ctl?.abort();
  ctl = undefined;
  last = '';
  become('off');
}

async function connect() {
  ctl?.abort();
  const mine = ctl = new AbortController();
  let guard = 0, next = 0;
  const heard = () => { clearTimeout(guard); guard = window.setTimeout(() => mine.abort(), SILENCE); };
  try {
    heard();
    const headers: Record<string, string> = { ...authorization(), Accept: 'text/event-stream' };
    if (last) headers['Last-Event-ID'] = last;
    const res = await fetch('/api/v1/events', { signal: mine.signal, headers, cache: 'no-store' });
    if (res.ok && res.body) await listen(res.body, heard);
    else if (res.status === 404) next = ABSENT;
    else next = 1000 * Number(res.headers.get('Retry-After') ?? 0);
  } catch { /* ended, silent or away: tried again */ }
  clearTimeout(guard);
  if (ctl !== mine || !known()) return; // stopped, or started anew
  become('polling');
  timer = window.setTimeout(connect, Math.max(next, wait));
  wait = Math.min(LONGEST, wait * 2);
}

async function listen(body: ReadableStream<Uint8Array>, heard: () => void) {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    text += value.replaceAll('\r', '');
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      frame(text.slice(0, end));
      text = text.slice(end + 2);
    }
    if (text.length > 1 << 22) throw new Error('an event without an end');
  }
}

// frame reads one event as the HTML standard's section on server-sent events says.
function frame(text: string) {
  let name = 'message', id = '';
  const data: string[] = [];
  for (const line of text.split('\n')) {
    const [, field = '', value = ''] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === 'event') name = value; else if (field === 'data') data.push(value); else if (field === 'id') id = value;
  }
  if (!data.length) return;
  let parsed: Record<string, unknown>;
  try { parsed = JSON.parse(data.join('\n')) as Record<string, unknown>; } catch { return; }
  if (id) last = id;
  if (name === 'hello') { wait = 1000; become('live'); }
  onNews.forEach(f => f({ name, data: parsed }));
}
