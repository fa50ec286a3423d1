import { render } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { get, Problem, token } from './api';
import type { Me } from './api';
import { clockOf, setZone, zone } from './format';
import { fill, lang, setLang, w } from './i18n';
import type { Lang } from './i18n';
import { onAnswer } from './live';
import { useRoute } from './route';
import type { Route } from './route';
import { Audit } from './pages/audit';
import { Complaints } from './pages/complaints';
import { ExporterList } from './pages/exporters';
import { HostPage } from './pages/host';
import { IncidentPage } from './pages/incident';
import { IncidentList } from './pages/incidents';
import { Overview } from './pages/overview';
import { Choice } from './ui';
import './style.css';

const THEME = 'flowcordon-theme';
function setTheme(t: string) {
  localStorage.setItem(THEME, t);
  if (t === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = t;
}
const theme = () => localStorage.getItem(THEME) ?? 'auto';
setTheme(theme());

function Login({ text, go }: { text: string; go: (t: string) => void }) {
  const id = useId();
  const [value, set] = useState('');
  return <form class="login" onSubmit={e => { e.preventDefault(); go(value.trim()); }}>
    <h1>{w.tokenTitle}</h1>
    <p>{w.tokenText}</p>
    {text && <p role="alert" class="bad-text">{text}</p>}
    <label for={id}>{w.tokenLabel}</label>
    <input id={id} type="password" autocomplete="off" required spellcheck={false} value={value} onInput={e => set(e.currentTarget.value)} ref={e => { if (e && !e.dataset.seen) { e.dataset.seen = '1'; e.focus(); } }} />
    <button>{w.tokenGo}</button>
  </form>;
}

const NAV: [string, string, () => string][] = [['o', '', () => w.overview], ['i', 'incidents', () => w.incidents], ['e', 'exporters', () => w.exporters], ['c', 'complaints', () => w.complaints], ['a', 'audit', () => w.audit]];

function Page({ r, me }: { r: Route; me: Me }) {
  if (r.page === 'incidents') return r.arg ? <IncidentPage key={r.arg} id={r.arg} me={me} /> : <IncidentList />;
  if (r.page === 'hosts' && r.arg) return <HostPage key={r.arg} ip={r.arg} />;
  if (r.page === 'exporters') return <ExporterList />;
  if (r.page === 'complaints') return <Complaints me={me} />;
  if (r.page === 'audit') return <Audit me={me} />;
  return <Overview me={me} />;
}

// keyboard: g and a letter go to a page, / to the search field, ? tells.
function useKeys(find: { current: HTMLInputElement | null }, help: (open: boolean) => void) {
  useEffect(() => {
    let g = false;
    const f = (e: KeyboardEvent) => {
      if (e.key === 'Escape') help(false);
      if (e.ctrlKey || e.metaKey || e.altKey || e.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
      const to = g && NAV.find(n => n[0] === e.key);
      if (to) location.hash = '#/' + to[1];
      else if (e.key === '/') { e.preventDefault(); find.current?.focus(); } else if (e.key === '?') help(true);
      g = e.key === 'g';
    };
    addEventListener('keydown', f);
    return () => removeEventListener('keydown', f);
  }, []);
}

function App() {
  const r = useRoute();
  const [, again] = useState(0);
  const [me, setMe] = useState<Me>();
  const [why, setWhy] = useState('');
  const [away, setAway] = useState(false);
  const [fresh, setFresh] = useState('');
  const [help, setHelp] = useState(false);
  const [ip, setIP] = useState('');
  const find = useRef<HTMLInputElement>(null);
  const main = useRef<HTMLElement>(null);
  useKeys(find, setHelp);
  const leave = (text: string) => { token.forget(); setMe(undefined); setWhy(text); };
  const enter = async () => {
    try { setMe(await get<Me>('/whoami')); setAway(false); } catch (e) {
      if (e instanceof Problem && e.status) leave(e.message); else { setAway(true); setTimeout(enter, 3000); }
    }
  };
  useEffect(() => { if (token.get()) void enter(); }, []);
  useEffect(() => onAnswer(e => {
    if (e?.status === 401) leave(e.message);
    setAway(e?.status === 0);
    if (!e) setFresh(clockOf(Date.now()));
  }), []);
  const place = r.page + '/' + r.arg;
  useEffect(() => {
    document.title = (r.arg || NAV.find(n => n[1] === r.page)?.[2]() || w.overview) + ' – ' + w.title;
    window.scrollTo(0, 0);
    main.current?.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
  }, [place, me?.name, lang]);
  const changed = () => again(n => n + 1);
  return <>
    <a class="skip" href="#main" onClick={e => { e.preventDefault(); main.current?.focus(); }}>{w.skip}</a>
    <header>
      <a class="brand" href="#/"><img src="/icon.svg" alt="" width="24" height="24" />flowcordon</a>
      {me && <nav aria-label={w.title}>{NAV.map(([, page, name]) => <a key={page} href={'#/' + page} aria-current={r.page === page && !r.arg ? 'page' : undefined}>{name()}</a>)}</nav>}
      {me && <form role="search" class="find" onSubmit={e => { e.preventDefault(); if (ip.trim()) location.hash = '#/hosts/' + encodeURIComponent(ip.trim()); }}>
        <label class="vh" for="ip">{w.find}</label>
        <input id="ip" ref={find} value={ip} onInput={e => setIP(e.currentTarget.value)} placeholder="198.18.0.7" autocomplete="off" spellcheck={false} inputMode="url" size={16} />
        <button>{w.show}</button>
      </form>}
      {me && <span class="who">{me.name} ({me.role}) <button type="button" onClick={() => leave('')}>{w.forget}</button></span>}
    </header>
    {away && <p class="alert" role="alert">{w.offline}</p>}
    <main id="main" ref={main} tabIndex={-1}>
      {me ? <Page key={lang + zone} r={r} me={me} /> : !token.get() ? <Login text={why} go={t => { token.set(t); void enter(); }} /> : <p class="empty">{w.loading}</p>}
    </main>
    {help && <div class="help" role="dialog" aria-label={w.keys}><p>{w.keysText}</p><button type="button" onClick={() => setHelp(false)}>{w.close}</button></div>}
    <footer>
      <span>{fresh && fill(w.updated, fresh)}</span>
      <Choice label={w.zone} value={zone} of={[['utc', w.utc], ['local', w.local]]} set={v => { setZone(v as 'utc' | 'local'); changed(); }} />
      <Choice label={w.theme} value={theme()} of={[['auto', w.auto], ['light', w.light], ['dark', w.dark]]} set={v => { setTheme(v); changed(); }} />
      <Choice label={w.language} value={lang} of={[['en', 'English'], ['ru', 'Русский']]} set={v => { setLang(v as Lang); changed(); }} />
      <button type="button" onClick={() => setHelp(true)}>{w.keys}</button>
    </footer>
  </>;
}

render(<App />, document.getElementById('app')!);
