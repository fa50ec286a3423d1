import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { post, Problem } from './api';
import type { Me } from './api';
import { fill, named, w } from './i18n';
import { problemText } from './told';

const TONE: Record<string, string> = {
  held: 'warn', awaiting_approval: 'warn', suspending: 'warn', suspended: 'cut', verified: 'cut', unverified: 'bad', failed: 'bad', releasing: 'warn', released: 'ok', closed: 'ok',
  confirmed: 'bad', shifted: 'warn', contradicted: 'ok', unknown_holder: 'warn',
  mode_enforce: 'cut', mode_approve: 'warn', tier_notify: 'warn', tier_block_port: 'cut', tier_suspend: 'bad', mark_right: 'ok', mark_wrong: 'bad', case_open: 'warn', case_answered: 'ok', exempt_expired: 'warn',
};
const RANK: Record<string, number> = { viewer: 1, abuse: 2, operator: 3, admin: 4 };
export const may = (me: Me, role: string) => RANK[me.role] >= RANK[role];

export const Badge = ({ of, words }: { of: string; words: Record<string, string> }) => <span class={'badge ' + (TONE[of] ?? '')}>{named(words, of)}</span>;
export const HostLink = ({ ip }: { ip: string }) => <a href={'#/hosts/' + encodeURIComponent(ip)} class="mono">{ip}</a>;
export const IncidentLink = ({ id, children }: { id: string; children?: ComponentChildren }) => <a href={'#/incidents/' + encodeURIComponent(id)}>{children ?? id}</a>;
// Mail is an address to write to, where it is one and nothing else.
export const Mail = ({ to }: { to: string }) => /^[\w.+-]+@[\w.-]+$/.test(to) ? <a href={'mailto:' + to}>{to}</a> : <>{to}</>;

export const TenantLink = ({ customer, children }: { customer: string; children?: ComponentChildren }) => <a href={'#/tenants/' + encodeURIComponent(customer)}>{children ?? customer}</a>;
export const Empty = ({ children }: { children: ComponentChildren }) => <p class="empty">{children}</p>;
export const Failed = ({ error }: { error?: Problem }) => error && error.status !== 0 ? <p class="bad-text" role="alert">{problemText(error)}</p> : null;

export function Section({ title, extra, busy, children }: { title: string; extra?: ComponentChildren; busy?: boolean; children: ComponentChildren }) {
  const body = useRef<HTMLDivElement>(null);
  useEffect(() => { // what scrolls can be scrolled with keys, too
    const b = body.current!;
    if (b.scrollWidth > b.clientWidth) b.tabIndex = 0; else b.removeAttribute('tabindex');
  });
  return <section><div class="head"><h2>{title}</h2>{extra && <span class="extra">{extra}</span>}</div><div class="body" ref={body} role="group" aria-label={title} aria-busy={busy || undefined}>{children}</div></section>;
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return <dl>{of.filter(([, v]) => v !== undefined && v !== null && v !== '' && v !== false).map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>;
}

// copyText also works where the page has no certificate: there the clipboard
// interface is absent.
export async function copyText(text: string): Promise<boolean> {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way */ }
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}

const capital = (s: string) => s.charAt(0).toUpperCase() + s.slice(1);

export interface Column<T> { head: string; right?: boolean; cell: (row: T) => ComponentChildren }

// Table shows rows, or a sentence when there are none. On a phone each row is a
// card whose cells carry their heads.
export function Table<T>({ caption, rows, columns, empty, keyOf, mark }: {
  caption: string; rows: T[]; columns: Column<T>[]; empty: string; keyOf: (row: T, i: number) => string | number; mark?: (row: T) => boolean;
}) {
  if (!rows.length) return <Empty>{empty}</Empty>;
  return <table>
    <caption class="vh">{caption}</caption>
    <thead><tr>{columns.map((c, i) => <th key={i} scope="col" class={c.right ? 'r' : undefined}>{capital(c.head)}</th>)}</tr></thead>
    <tbody>{rows.map((r, n) => <tr key={keyOf(r, n)} class={mark?.(r) ? 'marked' : undefined}>{columns.map((c, i) => <td key={i} data-h={capital(c.head)} class={c.right ? 'r' : undefined}>{c.cell(r)}</td>)}</tr>)}</tbody>
  </table>;
}

export function Choice({ label, value, of, set }: { label: string; value: string; of: [string, string][]; set: (v: string) => void }) {
  const id = useId();
  return <span class="choice"><label for={id}>{label}</label> <select id={id} value={value} onChange={e => set(e.currentTarget.value)}>{of.map(([v, t]) => <option key={v} value={v}>{t}</option>)}</select></span>;
}

// Order is a form that does one thing with a reason.
export function Order({ me, role, label, hint, field, path, more, fields, tone, done }: {
  me: Me; role: string; label: string; tone?: string; hint: string; field: string; path: string; more?: () => Record<string, unknown>; fields?: ComponentChildren; done: (answer: unknown) => string | void;
}) {
  const id = useId();
  const [text, setText] = useState('');
  const [said, say] = useState('');
  const [busy, setBusy] = useState(false);
  if (!may(me, role)) return <p class="note">{fill(w.needsRole, label, role, me.role)}</p>;
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    try {
      say(done(await post(path, { ...more?.(), [field]: text })) ?? w.done);
      setText('');
    } catch (err) {
      say(err instanceof Problem && err.status ? problemText(err) : w.offline);
    }
    setBusy(false);
  };
  return <form class="act" onSubmit={submit}>
    {fields}
    <label for={id}>{hint}</label>
    <textarea id={id} rows={2} maxLength={4000} required value={text} onInput={e => setText(e.currentTarget.value)} />
    <div><button class={tone} disabled={busy} aria-busy={busy}>{label}</button><p role="status">{said}</p></div>
  </form>;
}
