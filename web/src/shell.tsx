import { useEffect, useId, useState } from 'preact/hooks';
import { signInAt } from './api';
import type { Problem } from './api';
import { feedState, watchNews, watchState } from './feed';
import { clockOf, setZone, zone } from './format';
import { fill, lang, named, setLang, w } from './i18n';
import { problemText } from './told';
import type { Lang } from './i18n';
import { onAnswer } from './live';
import { Choice, HostLink, IncidentLink } from './ui';

const THEME = 'flowcordon-theme';
export function setTheme(t: string) {
  localStorage.setItem(THEME, t);
  if (t === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = t;
}
export const theme = () => localStorage.getItem(THEME) ?? 'auto';

// Login offers the provider, where there is one, before the token.
export function Login({ text, oidc, refused, go }: { text: string; oidc?: string; refused: string; go: (t: string) => void }) {
  const id = useId();
  const [value, set] = useState('');
  const said = text || (refused && oidc ? named(w.refused, refused) : '');
  return <form class="login" onSubmit={e => { e.preventDefault(); go(value.trim()); }}>
    <h1>{oidc ? w.signInTitle : w.tokenTitle}</h1>
    {said && <p role="alert" class="bad-text">{said}</p>}
    {oidc && <><p><a class="button primary" href={signInAt()}>{fill(w.signInAt, oidc)}</a></p><p class="note">{w.orToken}</p></>}
    <p>{w.tokenText}</p>
    <label for={id}>{w.tokenLabel}</label>
    <input id={id} type="password" autocomplete="off" required spellcheck={false} value={value} onInput={e => set(e.currentTarget.value)} ref={e => { if (e && !e.dataset.seen) { e.dataset.seen = '1'; if (!oidc) e.focus(); } }} />
    <button class={oidc ? undefined : 'primary'}>{w.tokenGo}</button>
  </form>;
}

// STALE is how old an answer may be before the header says so: three questions
// that were not answered.
const STALE = 12_000;

// Freshness says how what is shown comes: pushed, asked for, or not any more.
export function Freshness() {
  const [, draw] = useState(0);
  const [last, setLast] = useState({ good: Date.now(), bad: 0, text: '' });
  useEffect(() => {
    const again = () => draw(n => n + 1), timer = setInterval(again, 1000);
    const offs = [watchState(again), onAnswer((e?: Problem) => setLast(l => e ? { ...l, bad: Date.now(), text: e.status ? problemText(e) : '' } : { ...l, good: Date.now() }))];
    return () => { clearInterval(timer); offs.forEach(f => f()); };
  }, []);
  const stale = last.bad > last.good && Date.now() - last.good > STALE;
  const state = stale ? 'stale' : feedState() === 'live' ? 'live' : 'polling';
  const text = stale ? fill(w.stale, clockOf(last.good)) : w.fresh[state];
  return <span class={'fresh ' + state} title={stale ? last.text : w.freshTitle[state]}><i aria-hidden="true" /><span role="status">{text}</span></span>;
}

interface Toast { id: string; tenant: string; rules: string[]; kind: string }
const TOLD = ['opened', 'acts_frozen', 'action_unverified', 'action_failed', 'approval_asked', 'statement'];

// Toasts tell what has just happened to an incident, on whatever page one is.
export function Toasts() {
  const [list, set] = useState<Toast[]>([]);
  useEffect(() => watchNews(n => {
    const d = n.data as { incident?: string; tenant?: string; rules?: string[]; kind?: string };
    if (n.name !== 'incident' || !d.incident || !d.kind || !TOLD.includes(d.kind)) return;
    const t = { id: d.incident, tenant: d.tenant ?? '', rules: d.rules ?? [], kind: d.kind };
    set(l => [t, ...l.filter(x => x.id !== t.id)].slice(0, 3));
  }), []);
  useEffect(() => { if (list.length) { const timer = setTimeout(() => set(l => l.slice(0, -1)), 60_000); return () => clearTimeout(timer); } return undefined; }, [list]);
  return <div class="toasts" role="log" aria-label={w.newsTitle}>{list.map(t => <p key={t.id + t.kind} class="toast">
    <strong>{named(w.steps, t.kind)}: </strong><IncidentLink id={t.id}>{t.rules.map(r => named(w.rules, r)).join(', ') || t.id}</IncidentLink> {t.tenant && <HostLink ip={t.tenant} />}
    <button type="button" class="quiet" aria-label={w.close} onClick={() => set(l => l.filter(x => x !== t))}>×</button></p>)}</div>;
}

export function Footer({ changed, help, who, leave, out }: { changed: () => void; help: () => void; who?: string; leave: () => void; out: boolean }) {
  return <footer>
    <Choice label={w.zone} value={zone} of={[['utc', w.utc], ['local', w.local]]} set={v => { setZone(v as 'utc' | 'local'); changed(); }} />
    <Choice label={w.theme} value={theme()} of={[['auto', w.auto], ['light', w.light], ['dark', w.dark]]} set={v => { setTheme(v); changed(); }} />
    <Choice label={w.language} value={lang} of={[['en', 'English'], ['ru', 'Русский']]} set={v => { setLang(v as Lang); changed(); }} />
    <button type="button" class="quiet" onClick={help}>{w.keys}</button>
    {who && <span class="who">{who} <button type="button" class="quiet" onClick={leave}>{out ? w.signOut : w.forget}</button></span>}
  </footer>;
}

export function Help({ nav, close }: { nav: [string, string, () => string][]; close: () => void }) {
  const keys: [string, string][] = [['/', w.searchKey], ...nav.map(n => ['g ' + n[0], n[2]()] as [string, string]), ['?', w.keys], ['Esc', w.close]];
  return <div class="help" role="dialog" aria-modal="false" aria-label={w.keys}><h2>{w.keys}</h2>
    <dl class="keys">{keys.map(([k, v]) => <div key={k}><dt>{k.split(' ').map(x => <kbd key={x}>{x}</kbd>)}</dt><dd>{v}</dd></div>)}</dl>
    <button type="button" onClick={close} ref={e => { if (e && !e.dataset.seen) { e.dataset.seen = '1'; e.focus(); } }}>{w.close}</button></div>;
}
