import { useState } from 'preact/hooks';
import { stamp, zone } from './format';
import { fill, w } from './i18n';
import { go, useRoute } from './route';
import { Choice, copyText } from './ui';

// Range is what a page shows: the last back until now, or from one moment to
// another. Both stand in the address, so that a link shows the same.
export interface Range { back: string; from: number; to: number; fixed: boolean; query: string }

const MINUTE = 60_000;
export const iso = (ms: number) => new Date(ms).toISOString();
const length = (back: string) => (parseFloat(back) || 1) * (back.endsWith('m') ? MINUTE : 60 * MINUTE);

// useRange gives the range of the address. One that ends now is given anew each
// minute, not at each drawing.
export function useRange(usual = '1h'): Range {
  const { query } = useRoute();
  const from = Date.parse(query.get('from') ?? ''), to = Date.parse(query.get('to') ?? '');
  if (from < to) return { back: '', from, to, fixed: true, query: `from=${iso(from)}&to=${iso(to)}` };
  const back = /^\d{1,4}[hm]$/.test(query.get('back') ?? '') ? query.get('back')! : usual;
  const end = (Math.floor(Date.now() / MINUTE) + 1) * MINUTE;
  return { back, from: end - length(back), to: end, fixed: false, query: 'from=-' + back };
}

// parse reads what stamp writes, in the chosen zone.
function parse(t: string): number {
  const m = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(:\d\d)?)$/.exec(t.trim());
  return m ? Date.parse(m[1] + 'T' + m[2] + (zone === 'utc' ? 'Z' : '')) : NaN;
}

export function RangePick({ range, path }: { range: Range; path: string }) {
  const [open, setOpen] = useState(false);
  const known: [string, string][] = [['15m', w.last15m], ['1h', w.lastHour], ['6h', w.last6h], ['24h', w.lastDay], ['168h', w.lastWeek]];
  const shown: [string, string][] = [...known, ['fixed', range.fixed ? `${stamp(range.from).slice(0, 16)} – ${stamp(range.to).slice(range.to - range.from < 864e5 ? 11 : 0, 16)}` : w.fromTo]];
  if (!range.fixed && !known.some(([k]) => k === range.back)) shown.push([range.back, range.back]);
  return <span class="range">
    <Choice label={w.range} value={range.fixed ? 'fixed' : range.back} of={shown} set={v => {
      if (v === 'fixed') setOpen(true); else { setOpen(false); go(path, { back: v, from: '', to: '' }); }
    }} />
    {(open || range.fixed) && <Span key={range.query} range={range} path={path} />}
  </span>;
}

function Span({ range, path }: { range: Range; path: string }) {
  const [from, setFrom] = useState(stamp(range.from).slice(0, 16)), [to, setTo] = useState(stamp(range.to).slice(0, 16));
  const a = parse(from), b = parse(to), wrong = !(a < b);
  return <form class="span" onSubmit={e => { e.preventDefault(); if (!wrong) go(path, { back: '', from: iso(a), to: iso(b) }); }}>
    <label>{w.from} <input value={from} size={16} required onInput={e => setFrom(e.currentTarget.value)} /></label>
    <label>{w.to} <input value={to} size={16} required onInput={e => setTo(e.currentTarget.value)} aria-invalid={wrong} /></label>
    <button disabled={wrong}>{w.apply}</button>
    {wrong && <span class="bad-text" role="alert">{fill(w.badSpan, '2026-11-22 07:00')}</span>}
  </form>;
}

// CopyLink copies the address with the range as moments: a colleague who opens it
// tomorrow sees what is seen now.
export function CopyLink({ range }: { range?: Range }) {
  const [said, say] = useState('');
  const copy = async () => {
    const [path, query] = location.hash.split('?');
    const q = new URLSearchParams(query);
    if (range) { q.delete('back'); q.set('from', iso(range.from)); q.set('to', iso(range.to)); }
    const at = location.origin + location.pathname + path + (q.size ? '?' + q : '');
    say(await copyText(at) ? w.copied : at);
    setTimeout(() => say(''), 5000);
  };
  return <button type="button" class="quiet" onClick={copy}><span aria-live="polite">{said || w.copyLink}</span></button>;
}
